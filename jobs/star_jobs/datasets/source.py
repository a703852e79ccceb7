"""What a reader of a source format returns, and how malformed lines are counted and bounded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from star_contracts.data import Item, TaskType
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

INTERACTION_SCHEMA = pl.Schema(
    {"row": pl.UInt32, "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float64}
)
"""`row` is the interaction's place in the source: it orders equal time stamps and finds the review's text again."""


@dataclass(frozen=True)
class SourceTask:
    """A test task that the source brings with it (AgentRecBench)."""

    type: TaskType
    user_id: str
    candidates: tuple[str, ...]
    ground_truth: str


@dataclass(frozen=True)
class SourceTables:
    """A source, read and checked."""

    platform: str
    """Goes into the tables' `source` column where items carry none of their own."""
    users: Mapping[str, Mapping[str, str]]
    """Profile by user id."""
    items: Mapping[str, Item]
    interactions: pl.DataFrame
    """Of INTERACTION_SCHEMA, in source order; every item is in `items`."""
    malformed: int
    """Lines left out."""
    tasks: Sequence[SourceTask] = ()
    texts: Callable[[], Iterator[tuple[int, str]]] = field(default=lambda: iter(()))
    """Yields (row, review text) in row order, read again from the file: they never have to be in memory at once."""


class Malformed(ValueError):
    """One line cannot be used; the message says what is wrong with it."""


class LineCheck:
    """Counts a file's lines and its malformed ones, and refuses the file when they are too many."""

    def __init__(self, path: Path, max_malformed: float) -> None:
        self.path = path
        self.malformed = 0
        self._lines = 0
        self._first = ""
        self._max = max_malformed

    def lines(self, encoding: str = "utf-8", skip: int = 0) -> Iterator[tuple[int, str]]:
        """Yield (line number from 1, line without its end), the first `skip` and empty lines left out."""
        with self.path.open(encoding=encoding, errors="replace", newline="\n") as text:
            for number, line in enumerate(text, start=1):
                stripped = line.rstrip("\r\n")
                if stripped and number > skip:
                    self._lines += 1
                    yield number, stripped

    def bad(self, number: int, what: str) -> None:
        """Count a malformed line."""
        self.malformed += 1
        if not self._first:
            self._first = f"line {number}: {what}"

    def finish(self) -> int:
        """Return the number of malformed lines.

        Raises TerminalFailure(InvalidDataset), naming file, first bad line and what is wrong with it, when there are
        too many, when the file ends in the middle of a line, or when nothing usable is in it.
        """
        if self._lines == 0:
            raise invalid(f"{self.path.name} holds no data: upload the whole file")
        share = self.malformed / self._lines
        if share > self._max or self.malformed == self._lines:
            raise invalid(
                f"{self.path.name}: {self.malformed} of {self._lines} lines are malformed ({share:.1%}, allowed "
                f"{self._max:.1%}); the first is {self._first}; fix the source, or raise maxMalformed"
            )
        return self.malformed

    def refuse_cut_short(self, number: int, what: str) -> None:
        """Refuse a file whose last line is malformed and has no end: the upload was cut short."""
        with self.path.open("rb") as data:
            data.seek(-1, 2)
            if data.read(1) != b"\n":
                raise invalid(
                    f"{self.path.name} ends in the middle of line {number} ({what}): it was cut short; upload it again"
                )


def read_lines(check: LineCheck, parse: Callable[[str], None], encoding: str = "utf-8", skip: int = 0) -> int:
    """Pass every line after the first `skip` to `parse`, which raises Malformed; return how many were malformed."""
    last: tuple[int, str] | None = None
    for number, line in check.lines(encoding, skip):
        last = None
        try:
            parse(line)
        except Malformed as error:
            check.bad(number, str(error))
            last = (number, str(error))
    if last is not None:
        check.refuse_cut_short(*last)
    return check.finish()


def number(text: str, what: str) -> float:
    """Parse a finite number. Raises Malformed naming `what`."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise Malformed(f"{what} {text!r} is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise Malformed(f"{what} {text!r} is not a finite number")
    return value


def invalid(message: str) -> TerminalFailure:
    """Return the failure for a source that cannot be used."""
    return TerminalFailure(Reason.INVALID_DATASET, message)
