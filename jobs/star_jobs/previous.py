"""The artifact of an earlier run, from which finished entries are taken over: a help, and no condition of the work.

Finished entries are those that would be made: what is made does not depend on it, and it is no part of the work's
hash. (Neighbours that are kept within a tolerance are another matter: there it is an input, and hashed.) Where it is
gone, because somebody or the retention deleted it, all is made anew, and a warning says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from star_contracts.artifact import ArtifactRef
from star_contracts.errors import JobWarning, Reason, WarningReason
from star_jobs.errors import TerminalFailure
from star_jobs.runtime import JobContext

_GONE = (Reason.ARTIFACT_NOT_FOUND, Reason.ARTIFACT_CORRUPTED)


@dataclass(frozen=True)
class Previous:
    """What there is of it."""

    folder: Path | None = None
    """A local, verified copy; None where none was named, or it is gone."""
    warnings: tuple[JobWarning, ...] = ()


def fetch_previous(job: JobContext, ref: ArtifactRef | None, only: Sequence[str] | None = None) -> Previous:
    """Return the previous artifact, or its files matching `only`.

    Raises JobFailure for whatever else is wrong with the store than that the artifact is gone or damaged.
    """
    if ref is None:
        return Previous()
    try:
        return Previous(job.fetch(ref, only))
    except TerminalFailure as failure:
        if failure.reason not in _GONE:
            raise
        return gone(job, ref, failure)


def gone(job: JobContext, ref: ArtifactRef, failure: TerminalFailure) -> Previous:
    """Return that there is nothing to take over, with the warning that says why."""
    text = f"nothing is taken over from the previous artifact, and all of it is made anew: {failure.message}"
    job.log.warning("the previous artifact is gone", uri=ref.uri, error=failure.message)
    return Previous(warnings=(JobWarning(reason=WarningReason.PREVIOUS_GONE, message=text),))
