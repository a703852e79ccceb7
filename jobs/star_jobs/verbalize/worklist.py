"""What is to be verbalized, cut into chunks that every shard, every retry and the collector agree on.

A chunk is a run of keys of one neighbours file, so that a process holds one such file in memory at a time, however
many keys there are.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from star_contracts.data import SignalKind
from star_contracts.settings import SignalScope
from star_jobs.datasets.snapshot import Dataset, Split
from star_jobs.verbalize.neighbours import FOLDERS

CHUNK = 16
"""Entries a part file holds: what a killed pod has to make again at most, for each chunk in flight."""
PARTS = "parts"
_SPLITS: tuple[Split, ...] = ("train", "test")


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

    kind: SignalKind
    path: Path
    start: int
    """First row among the file's wanted ones."""
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """The part file's name in the work area."""
        return f"{PARTS}/{FOLDERS[self.kind]}-{self.path.stem.removeprefix('part-')}-{self.start:05d}.jsonl"

    def entries(self) -> list[Entry]:
        """Read the chunk's entries."""
        neighbours = _neighbours(self.path)
        return [Entry(self.kind, key, neighbours[key]) for key in self.keys]


def chunks(dataset: Dataset, neighbours: Path, scope: SignalScope, limit: int | None) -> list[Chunk]:
    """Return all chunks, items first; keys without neighbours have nothing to say and are left out.

    `limit` keeps as many keys of each kind: the first of the tasks' in scope Tasks, of the files' in scope All.
    """
    found: list[Chunk] = []
    for kind in SignalKind:
        paths = sorted((neighbours / FOLDERS[kind]).glob("part-*.parquet"))
        wanted = _wanted(kind, dataset, scope, limit, paths)
        for path in paths:
            keys = _keys(path)
            if wanted is not None:
                keys = keys.filter(keys.is_in(wanted))
            rows = keys.to_list()
            found.extend(Chunk(kind, path, at, tuple(rows[at : at + CHUNK])) for at in range(0, len(rows), CHUNK))
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


def _wanted(
    kind: SignalKind, dataset: Dataset, scope: SignalScope, limit: int | None, paths: Collection[Path]
) -> list[str] | None:
    """Return the keys to keep; None for all."""
    if scope is SignalScope.ALL and limit is None:
        return None
    available = [key for path in paths for key in _keys(path)]
    if scope is SignalScope.ALL:
        return available[:limit]
    known = set(available)
    ordered = [key for key in dict.fromkeys(task_keys(kind, dataset)) if key in known]
    return ordered[:limit]


def _keys(path: Path) -> pl.Series:
    return pl.read_parquet(path, columns=["key"])["key"]


@lru_cache(maxsize=2)
def _neighbours(path: Path) -> dict[str, tuple[str, ...]]:
    frame = pl.read_parquet(path, columns=["key", "neighbours"])
    return {key: tuple(ids) for key, ids in frame.iter_rows()}
