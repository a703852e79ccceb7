"""Which signals are to be made, cut into chunks that every shard, every retry and the collector agree on.

A chunk is a run of keys of one neighbours file, so that a process holds one such file in memory at a time, however
many keys there are; keys are numbers until their chunk's turn comes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from star_contracts.data import Signal, SignalKind
from star_contracts.settings import SignalScope
from star_jobs.datasets.snapshot import SPLITS, Dataset
from star_jobs.verbalize.pairs import FOLDERS, Neighbours, Rows

CHUNK = 16
"""Entries a part file holds: what a killed pod has to make again at most, for each chunk in flight."""
PARTS = "parts"


@dataclass(frozen=True)
class Entry:
    """One signal to make."""

    kind: SignalKind
    key: str
    neighbours: tuple[str, ...]
    """Item ids, strongest first; never empty."""
    snapshot: str = ""
    """Digest of the dataset in which they were found."""


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
        lists = self.neighbours.lists(self.kind, self.part, self.rows)
        return [Entry(self.kind, one.key, one.items, one.since) for one in lists]


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
    for split in SPLITS:
        for task in dataset.tasks(split):
            if kind is SignalKind.USER_CF:
                yield task.user_id
            else:
                yield from task.candidates
                yield from (entry.item_id for entry in task.history)
