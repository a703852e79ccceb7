"""What is done about a small Job that a resource needs done: (its Job, its pods) -> a decision, as a value.

Such a Job is named by what it is told, so that another question is another Job; all that is remembered is the Job.

What `main` has said counts, also where a container that others added keeps its pod going: it is written on the Job,
which then gets no pods any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.result import ErrorClass, ExitCode, JobResult
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
    if job.answer is not None:
        return _said(job.answer, job.answered_at)
    pods = _pods(view, name, step)
    if (last := _last_word(pods)) is not None and last.result is not None:
        return _said(last.result, last.ended_at)
    if job.complete:
        return Ended(next((pod.result for pod in pods if pod.result is not None and pod.result.error is None), None))
    return _gave_up(job, pods) if job.failed else GoingOn(_so_far(job, pods))


@dataclass(frozen=True)
class Lingering:
    """What is to be done about pods that something else than `main` keeps going."""

    job: JobView | None = None
    """The Job that is to get no pods any more."""
    said: PodView | None = None
    """Whose answer is to be written on it first."""
    ended: tuple[PodView, ...] = ()
    """Pods to be ended, so that the Job tries again."""


def lingering(view: RunView, name: str, step: str) -> Lingering:
    """Return what is to be done about the pods of a Job."""
    job, pods = next((one for one in view.jobs if one.name == name), None), _pods(view, name, step)
    if job is None or job.complete or job.failed or job.deleting or job.answer is not None:
        return Lingering()
    last = _last_word(pods)
    if last is not None:
        return Lingering(job, last)
    return Lingering(ended=tuple(pod for pod in pods if pod.lingers and pod.exit_code))


def _pods(view: RunView, name: str, step: str) -> list[PodView]:
    return [pod for pod in view.pods_of(1, step) if pod.name.startswith(f"{name}-")]


def _last_word(pods: Sequence[PodView]) -> PodView | None:
    """Return the pod whose `main` has said all that there is to say, and which goes on all the same."""
    final = (ExitCode.DONE, ExitCode.TERMINAL)
    return next((pod for pod in pods if pod.lingers and pod.result is not None and pod.exit_code in final), None)


def _said(result: JobResult, at: str) -> Outcome:
    error = result.error
    if error is None:
        return Ended(result)
    return GaveUp(of_job(error.reason), error.message, at, error.error_class is ErrorClass.TERMINAL)


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
