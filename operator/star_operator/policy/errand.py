"""What is done about a small Job that a resource needs done: (its Job, its pods) -> a decision, as a value.

Such a Job is named by what it is told, so that another question is another Job; all that is remembered is the Job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.result import ErrorClass, JobResult
from star_operator.core.reasons import AnyReason, ConditionReason, of_job
from star_operator.core.views import JobView, PodView, RunView


@dataclass(frozen=True)
class Begin:
    """There is no Job: apply it."""


@dataclass(frozen=True)
class GoingOn:
    """It is at work, or waits for something."""

    message: str
    """So far; with why its pod does not start."""


@dataclass(frozen=True)
class Ended:
    """It ended well."""

    result: JobResult | None
    """Its answer; None where the pod went before it was read."""


@dataclass(frozen=True)
class GaveUp:
    """It failed."""

    reason: AnyReason
    message: str
    at: str = ""
    """RFC 3339: when its last pod ended; empty where that is gone."""
    terminal: bool = False
    """It would fail again."""


Outcome = Begin | GoingOn | Ended | GaveUp


def look(view: RunView, name: str, step: str) -> Outcome:
    """Return how the Job of that name and step is doing."""
    job = next((one for one in view.jobs if one.name == name), None)
    if job is None:
        return Begin()
    if job.deleting:
        return GoingOn("its last attempt is being removed")
    pods = [pod for pod in view.pods_of(1, step) if pod.name.startswith(f"{name}-")]
    if job.complete:
        return Ended(next((pod.result for pod in pods if pod.result is not None and pod.result.error is None), None))
    return _gave_up(job, pods) if job.failed else GoingOn(_so_far(job, pods))


def _gave_up(job: JobView, pods: Sequence[PodView]) -> GaveUp:
    ended = sorted((pod for pod in pods if pod.ended_at), key=lambda pod: pod.ended_at)
    last = ended[-1] if ended else None
    error = last.result.error if last is not None and last.result is not None else None
    if error is not None:
        ended_at, terminal = last.ended_at if last else "", error.error_class is ErrorClass.TERMINAL
        return GaveUp(of_job(error.reason), error.message, ended_at, terminal)
    text = (last.ended if last is not None else "") or job.message or job.reason
    return GaveUp(ConditionReason.POD_FAILED, text or "its pod ended without a word", last.ended_at if last else "")


def _so_far(job: JobView, pods: Sequence[PodView]) -> str:
    trouble = next((pod.trouble.message for pod in pods if pod.trouble is not None), None)
    if trouble is not None or job.trouble is not None:
        return trouble or (job.trouble.message if job.trouble else "")
    errors = [pod.result.error.message for pod in pods if pod.result is not None and pod.result.error is not None]
    return f"tried again: {errors[-1]}" if errors else "its pod is at work"
