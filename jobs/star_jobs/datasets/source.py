"""What a reader of a source format returns."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from star_contracts.data import Item, TaskType
from star_jobs.datasets.faults import Fault, FileReport

if TYPE_CHECKING:
    from star_jobs.datasets.histories import Histories


@dataclass(frozen=True)
class SourceTask:
    """A test task that the source brings with it (AgentRecBench)."""

    type: TaskType
    user_id: str
    candidates: tuple[str, ...]
    ground_truth: str


@dataclass(frozen=True)
class Platforms:
    """Which platform each item belongs to."""

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    """(items,) an index into `names` by item code."""


@dataclass(frozen=True)
class TextBlock:
    """Review texts of consecutive lines of the source."""

    rows: NDArray[np.int64]
    """(lines,) ascending."""
    texts: pl.Series
    """(lines,) strings."""


@dataclass(frozen=True)
class SourceTables:
    """A source, read and checked."""

    platform: str
    """Goes into the tables' `source` column where items carry none of their own."""
    users: Mapping[str, Mapping[str, str]]
    """Profile by user id; iterates in order of the ids."""
    items: Mapping[str, Item]
    """By item id; iterates in order of the ids."""
    interactions: "Histories"
    """Its catalogue is `items`; its users are those of the user table, the reviews and the tasks."""
    files: Mapping[str, FileReport] = field(default_factory=dict)
    """What was left out, by file name."""
    item_platforms: Platforms | None = None
    """None when all items are of `platform`."""
    tasks: Sequence[SourceTask] = ()
    texts: Callable[[], Iterator[TextBlock]] = field(default=lambda: iter(()))
    """Yields the reviews' texts in row order, read again from the file: never are all of them in memory."""

    @property
    def platforms(self) -> Platforms:
        """Each item's platform."""
        return self.item_platforms or Platforms((self.platform,), np.zeros(len(self.items), np.int32))

    @property
    def faults(self) -> Counter[Fault]:
        """How many lines and tasks were left out for what, over all files."""
        return sum((Counter(report.faults) for report in self.files.values()), Counter())
