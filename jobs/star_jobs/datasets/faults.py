"""How what cannot be used, or is taken with a warning, is counted by reason and bounded: one tally a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from star_contracts.errors import Reason
from star_jobs.datasets.limits import MAX_IMPLAUSIBLE, RULES, Doubt
from star_jobs.errors import TerminalFailure
from star_jobs.trajectory.text import shorten, whole_text

_EXAMPLES = 3
"""Sentences kept for each fault and doubt of a file."""
_SENTENCE_CHARS = 300


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
    UNKNOWN_TASK_TYPE = "unknownTaskType"
    """A task in a folder that names none of the five types, and is not one of the AgentSociety Challenge's."""
    CANDIDATE_COUNT = "candidateCount"
    """A task with a single candidate, or with thousands."""


_CUT = frozenset({Fault.NOT_JSON, Fault.WRONG_COLUMNS, Fault.MISSING_FIELD})
"""What becomes of a line that was cut; all other faults are those of a whole line."""


class Malformed(ValueError):
    """One line or task cannot be used; the message says what is wrong with it."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(shorten(whole_text(message), _SENTENCE_CHARS))
        self.fault = fault


@dataclass(frozen=True)
class FileReport:
    """What was left out of a file, or taken with a warning."""

    lines: int
    """Lines that are not blank (or task files), those left out included."""
    faults: Mapping[Fault, int]
    """How many were left out for what."""
    examples: Mapping[Fault | Doubt, Sequence[str]]
    """The first few of each fault and doubt, with their line numbers."""
    doubts: Mapping[Doubt, int] = field(default_factory=dict)
    """How many were taken with which warning."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as it stands in stats.json."""
        return {
            "lines": self.lines,
            "faults": {fault.value: count for fault, count in self.faults.items()},
            **({"doubts": {doubt.value: count for doubt, count in self.doubts.items()}} if self.doubts else {}),
            "examples": {reason.value: list(sentences) for reason, sentences in self.examples.items()},
        }


class Tally:
    """Counts a file's lines and those of them that cannot be used or are in doubt; refuses the file at too many."""

    def __init__(
        self,
        name: str,
        max_malformed: float,
        unit: str = "lines",
        *,
        max_implausible: float = MAX_IMPLAUSIBLE,
        spare: int = 0,
    ) -> None:
        """`max_malformed` and `max_implausible` are the shares that may be left out and in doubt.

        `spare` lines may be left out of any file, however small, unless `max_malformed` is 0.
        """
        self._name = name
        self._max = max_malformed
        self._max_doubted = max_implausible
        self._spare = spare if max_malformed > 0 else 0
        self._unit = unit
        self._lines = 0
        self._faults: Counter[Fault] = Counter()
        self._doubts: Counter[Doubt] = Counter()
        self._examples: dict[Fault | Doubt, list[str]] = {}
        self._first = ""
        self._last = (-1, "")

    def saw(self, lines: int) -> None:
        """Count lines, whether they can be used or not."""
        self._lines += lines

    def bad_line(self, row: int, error: Malformed) -> None:
        """Leave out the line of that row (its number less one)."""
        self._last = (row, str(error)) if error.fault in _CUT else (-1, "")
        self.bad(f"line {row + 1}: {error}", error.fault)

    def bad(self, sentence: str, fault: Fault, count: int = 1) -> None:
        """Leave out `count` lines; `sentence` tells of the first of them."""
        self._faults[fault] += count
        self._first = self._first or sentence
        self._keep(fault, sentence)

    def doubt(self, sentence: str, doubt: Doubt, count: int = 1) -> None:
        """Note `count` lines that are taken with a warning; `sentence` tells of the first of them."""
        self._doubts[doubt] += count
        self._keep(doubt, sentence)

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
        if malformed == self._lines or (share > self._max and malformed > self._spare):
            reasons = ", ".join(f"{fault} {count}" for fault, count in self._faults.most_common())
            raise invalid(
                f"{self._name}: {malformed} of {self._lines} {self._unit} are malformed ({share:.1%}, allowed "
                f"{self._max:.1%}; {reasons}); the first is {self._first}; fix the source, or raise maxMalformed"
            )
        self._refuse_doubtful()
        return FileReport(self._lines, dict(self._faults), self._examples, dict(self._doubts))

    def _refuse_doubtful(self) -> None:
        for doubt, count in self._doubts.items():
            share, allowed = count / self._lines, max(self._max_doubted, RULES[doubt].spared)
            if RULES[doubt].refused and share > allowed:
                raise invalid(
                    f"{self._name}: {count} of {self._lines} {self._unit} are in doubt ({doubt}, {share:.1%}, allowed "
                    f"{allowed:.1%}); the first is {self._examples[doubt][0]}; {RULES[doubt].remedy}, or "
                    "raise spec.source.maxImplausible"
                )

    def _keep(self, reason: Fault | Doubt, sentence: str) -> None:
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(sentence)


def invalid(message: str) -> TerminalFailure:
    """Return the failure for a source that cannot be used."""
    return TerminalFailure(Reason.INVALID_DATASET, message)
