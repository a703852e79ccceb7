"""What is to be verbalized, cut into parts that every shard, every retry and the collector agree on.

A part of signals is a chunk of the keys of one neighbours file, so that a process holds one such file in memory at a
time, however many keys there are; keys are numbers until their chunk's turn comes. A part of summaries is some users'
long histories: the summaries of one user follow upon each other, those of different users do not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from star_contracts.data import Interaction, RankingTask, Signal, SignalKind, Summary
from star_contracts.job import CollectSignals, VerbalizeSignals
from star_contracts.settings import SignalScope
from star_jobs.datasets.snapshot import Dataset, Split
from star_jobs.lookup.layout import SUMMARY
from star_jobs.trajectory.prompt import summarized, summary_key
from star_jobs.verbalize.pairs import FOLDERS, Neighbours, Rows

CHUNK = 16
"""Signals, or users with long histories, in a part file: what a killed pod makes again, for each part in flight."""
PARTS = "parts"
_SPLITS: tuple[Split, ...] = ("train", "test")


class Part(Protocol):
    """Some entries that are kept in one file."""

    @property
    def name(self) -> str:
        """The file's name in the work area."""
        ...

    @property
    def record(self) -> type[Signal] | type[Summary]:
        """What its lines are."""
        ...

    def __len__(self) -> int:
        """Return the number of entries."""
        ...

    def identities(self) -> list[tuple[str, str]]:
        """Return the entries' (kind, key), in order."""
        ...


@dataclass(frozen=True)
class Entry:
    """One signal to make."""

    kind: SignalKind
    key: str
    neighbours: tuple[str, ...]
    """Item ids, strongest first; never empty."""


@dataclass(frozen=True)
class Chunk:
    """Some entries of one neighbours file."""

    neighbours: Neighbours
    kind: SignalKind
    part: str
    """Name of the neighbours file."""
    start: int
    """First row among the file's wanted ones."""
    rows: Rows
    record = Signal

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.rows)

    @property
    def name(self) -> str:
        """The part file's name in the work area."""
        return f"{PARTS}/{FOLDERS[self.kind]}-{self.part.removeprefix('part-')}-{self.start:05d}.jsonl"

    def identities(self) -> list[tuple[str, str]]:
        """Return the entries' (kind, key), in order."""
        return [(self.kind.value, key) for key in self.neighbours.keys(self.kind, self.rows)]

    def entries(self) -> list[Entry]:
        """Read the chunk's entries."""
        return [Entry(self.kind, key, ids) for key, ids in self.neighbours.lists(self.kind, self.part, self.rows)]


@dataclass(frozen=True)
class Beginning:
    """The beginning of a task's history that one summary is made of."""

    task: RankingTask
    start: int
    """Where its last group starts."""
    end: int

    @property
    def key(self) -> str:
        """The summary's key."""
        return summary_key(self.task.user_id, self.task.history[: self.end])

    @property
    def before(self) -> str:
        """The key of the summary it goes on from; empty for the first."""
        return summary_key(self.task.user_id, self.task.history[: self.start]) if self.start else ""

    @property
    def group(self) -> Sequence[Interaction]:
        """The interactions that are new in it."""
        return self.task.history[self.start : self.end]


@dataclass(frozen=True)
class Pasts:
    """The long histories of some users."""

    start: int
    """The first one's place among the users with long histories."""
    users: tuple[tuple[Beginning, ...], ...]
    """A user's beginnings, each once, and after the one it goes on from."""
    record = Summary

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(map(len, self.users))

    @property
    def name(self) -> str:
        """The part file's name in the work area."""
        return f"{PARTS}/summaries-{self.start:07d}.jsonl"

    def identities(self) -> list[tuple[str, str]]:
        """Return the entries' (kind, key), in order."""
        return [(SUMMARY, beginning.key) for user in self.users for beginning in user]


def parts(stage: VerbalizeSignals | CollectSignals, dataset: Dataset, neighbours: Neighbours) -> list[Chunk | Pasts]:
    """Return all parts of a Verbalization: summaries first, as their calls follow upon each other and take longest."""
    past = pasts(dataset, stage.limit) if stage.summaries else []
    return [*past, *chunks(dataset, neighbours, stage.scope, stage.limit)]


def pasts(dataset: Dataset, limit: int | None) -> list[Pasts]:
    """Return the histories of the dataset's tasks that are longer than a prompt shows, of `limit` users at most."""
    by_user: dict[str, dict[str, Beginning]] = {}
    for task in (task for split in _SPLITS for task in dataset.tasks(split)):
        for beginning in beginnings(task):
            by_user.setdefault(task.user_id, {}).setdefault(beginning.key, beginning)
    users = [tuple(found.values()) for found in by_user.values()][:limit]
    return [Pasts(at, tuple(users[at : at + CHUNK])) for at in range(0, len(users), CHUNK)]


def beginnings(task: RankingTask) -> Iterable[Beginning]:
    """Return the beginnings of a task's history that are summarized, the shortest first."""
    return (Beginning(task, start, end) for start, end in pairwise([0, *summarized(task)]))


def chunks(dataset: Dataset, neighbours: Neighbours, scope: SignalScope, limit: int | None) -> list[Chunk]:
    """Return all chunks, items first; keys without neighbours have nothing to say and are left out.

    `limit` keeps as many keys of each kind: the first of the tasks' in scope Tasks, of the files' in scope All.
    """
    found: list[Chunk] = []
    for kind in SignalKind:
        available = {part: neighbours.rows(kind, part) for part in neighbours.parts(kind)}
        everything = np.concatenate([np.empty(0, np.uint32), *available.values()])
        if scope is SignalScope.TASKS:
            asked = neighbours.find(kind, task_keys(kind, dataset))
            everything = asked[np.isin(asked, everything)]
        wanted = everything[:limit]
        for part, rows in available.items():
            rows = rows[np.isin(rows, wanted)]
            cuts = range(0, len(rows), CHUNK)
            found.extend(Chunk(neighbours, kind, part, at, rows[at : at + CHUNK]) for at in cuts)
    return found


def task_keys(kind: SignalKind, dataset: Dataset) -> Iterator[str]:
    """Yield the users of all tasks, or the items in their histories and candidates, as the tasks name them."""
    for split in _SPLITS:
        for task in dataset.tasks(split):
            if kind is SignalKind.USER_CF:
                yield task.user_id
            else:
                yield from task.candidates
                yield from (entry.item_id for entry in task.history)
