"""What a reader of a source format returns, and how what cannot be used is counted by reason and bounded."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from star_contracts.data import Item, TaskType
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

if TYPE_CHECKING:
    from star_jobs.datasets.histories import Histories

_EXAMPLES = 3
"""Sentences kept for each fault of a file."""


class Fault(StrEnum):
    """Why a line or a task file is left out; the value is its name in stats.json and among the metrics."""

    NOT_JSON = "notJson"
    WRONG_COLUMNS = "wrongColumns"
    MISSING_FIELD = "missingField"
    BAD_VALUE = "badValue"
    UNKNOWN_ITEM = "unknownItem"
    """A review of an item, or a task with a candidate, that the item table does not have."""
    DUPLICATE_ITEM = "duplicateItem"
    DUPLICATE_USER = "duplicateUser"
    DUPLICATE_REVIEW = "duplicateReview"
    """The same user, item and second as a review before it."""
    DUPLICATE_CANDIDATE = "duplicateCandidate"
    NO_ANSWER = "noAnswer"
    """A task whose ground truth is not among its candidates."""
    UNREADABLE_TASK = "unreadableTask"


class Malformed(ValueError):
    """One line or task cannot be used; the message says what is wrong with it."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class FileReport:
    """What was left out of a file."""

    lines: int
    """Lines that are not blank (or task files), those left out included."""
    faults: Mapping[Fault, int]
    """How many were left out for what."""
    examples: Mapping[Fault, Sequence[str]]
    """The first few of each, with their line numbers."""


class Tally:
    """Counts a file's lines and those of them that cannot be used, and refuses the file when they are too many."""

    def __init__(self, name: str, max_malformed: float, unit: str = "lines") -> None:
        """`max_malformed` is the share that may be left out."""
        self._name = name
        self._max = max_malformed
        self._unit = unit
        self._lines = 0
        self._faults: Counter[Fault] = Counter()
        self._examples: dict[Fault, list[str]] = {}
        self._first = ""
        self._last = (-1, "")

    def saw(self, lines: int) -> None:
        """Count lines, whether they can be used or not."""
        self._lines += lines

    def bad_line(self, row: int, error: Malformed) -> None:
        """Leave out the line of that row (its number less one)."""
        self._last = (row, str(error))
        self.bad(f"line {row + 1}: {error}", error.fault)

    def bad(self, sentence: str, fault: Fault, count: int = 1) -> None:
        """Leave out `count` lines; `sentence` tells of the first of them."""
        self._faults[fault] += count
        self._first = self._first or sentence
        examples = self._examples.setdefault(fault, [])
        if len(examples) < _EXAMPLES:
            examples.append(sentence)

    def refuse_cut_short(self, path: Path, last_row: int) -> None:
        """Refuse a file whose last line is malformed and has no end: the upload was cut short."""
        row, what = self._last
        if row != last_row or row < 0:
            return
        with path.open("rb") as data:
            data.seek(-1, 2)
            if data.read(1) != b"\n":
                raise invalid(
                    f"{self._name} ends in the middle of line {row + 1} ({what}): it was cut short; upload it again"
                )

    def finish(self) -> FileReport:
        """Return the counts.

        Raises TerminalFailure(InvalidDataset), naming file, first fault and where it is, when there are too many or
        when nothing usable is left.
        """
        if self._lines == 0:
            raise invalid(f"{self._name} holds no data: upload the whole file")
        malformed = self._faults.total()
        share = malformed / self._lines
        if share > self._max or malformed == self._lines:
            reasons = ", ".join(f"{fault} {count}" for fault, count in self._faults.most_common())
            raise invalid(
                f"{self._name}: {malformed} of {self._lines} {self._unit} are malformed ({share:.1%}, allowed "
                f"{self._max:.1%}; {reasons}); the first is {self._first}; fix the source, or raise maxMalformed"
            )
        return FileReport(self._lines, dict(self._faults), self._examples)


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


def number(text: object, what: str) -> float:
    """Parse a finite number. Raises Malformed naming `what`."""
    try:
        if isinstance(text, bool):
            raise TypeError
        value = float(text)  # type: ignore[arg-type]  # anything else is the TypeError caught here
    except (TypeError, ValueError, OverflowError):
        raise Malformed(Fault.BAD_VALUE, f"{what} {text!r} is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise Malformed(Fault.BAD_VALUE, f"{what} {text!r} is not a finite number")
    return value


def invalid(message: str) -> TerminalFailure:
    """Return the failure for a source that cannot be used."""
    return TerminalFailure(Reason.INVALID_DATASET, message)
