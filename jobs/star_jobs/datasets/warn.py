"""What a person is told of a dataset that was made of a source with faults: a few bounded sentences."""

from collections.abc import Iterable, Iterator, Mapping

from star_contracts.errors import JobWarning, WarningReason
from star_jobs.datasets.faults import FileReport
from star_jobs.datasets.limits import RULES
from star_jobs.trajectory.text import shorten

_SENTENCE_CHARS = 250
_MESSAGE_CHARS = 900
"""Of one warning: all of them together fit into a termination message."""


def warnings_of(reports: Mapping[str, FileReport], skipped: int) -> list[JobWarning]:
    """Return the warnings, at most one a reason; `skipped` users leave too few items to draw negatives from."""
    left_out = list(_left_out(reports))
    if skipped:
        left_out.append(f"users without a task, as they leave too few items to draw negatives from: {skipped}")
    warnings = [
        _warning(WarningReason.DATA_IMPLAUSIBLE, _in_doubt(reports)),
        _warning(WarningReason.DATA_LEFT_OUT, left_out),
    ]
    return [warning for warning in warnings if warning is not None]


def _in_doubt(reports: Mapping[str, FileReport]) -> Iterator[str]:
    for name, report in reports.items():
        for doubt, count in report.doubts.items():
            text = f"{name}: {doubt} {count} of {report.lines} ({report.examples[doubt][0]}): {RULES[doubt].remedy}"
            yield shorten(text, _SENTENCE_CHARS)


def _left_out(reports: Mapping[str, FileReport]) -> Iterator[str]:
    for name, report in reports.items():
        if report.faults:
            count, first = sum(report.faults.values()), report.examples[next(iter(report.faults))][0]
            yield shorten(f"{name}: {count} of {report.lines} left out ({first})", _SENTENCE_CHARS)


def _warning(reason: WarningReason, sentences: Iterable[str]) -> JobWarning | None:
    message = "; ".join(sentences)
    return JobWarning(reason=reason, message=shorten(message, _MESSAGE_CHARS)) if message else None
