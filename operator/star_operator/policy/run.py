"""What to do next with a run-to-completion resource: (spec, what status remembers, what is seen) -> one decision.

A run is a row of steps, one Job a step. An attempt that failed in a retryable way is cleared away whole before the
next one starts, so that two attempts never run at once (what users complain about in KubeRay #5211).
"""

from dataclasses import dataclass, field

from star_contracts.result import ExitCode, JobResult
from star_operator.api.common import Compute, RunSpec
from star_operator.api.meta import Phase, StepStatus
from star_operator.core.reasons import AnyReason, ConditionReason, of_job
from star_operator.core.views import JobView, PodView, RunView, ServerView
from star_operator.policy import ending

RETRY_BASE_SECONDS = 10.0
RETRY_MAX_SECONDS = 300.0
MAX_WARNINGS = 4
"""Different ones of a step's shards that are told."""


@dataclass(frozen=True)
class Hold:
    """Nothing to do but to wait; say why."""

    phase: Phase
    reason: AnyReason
    message: str


@dataclass(frozen=True)
class Start:
    """Create the step's children."""


@dataclass(frozen=True)
class SetSuspended:
    """Suspend the step's Job, or let it go on."""

    suspended: bool


@dataclass(frozen=True)
class SetDeadline:
    """Hand a changed spec.activeDeadlineSeconds to the step's Job."""

    seconds: int | None


@dataclass(frozen=True)
class Finish:
    """The step is done."""

    result: JobResult


@dataclass(frozen=True)
class Retry:
    """The attempt failed; remember it, clear it away and try again."""

    reason: AnyReason
    message: str


@dataclass(frozen=True)
class ClearAttempt:
    """Delete what is left of the failed attempt."""


@dataclass(frozen=True)
class NextAttempt:
    """The failed attempt is gone: count one up."""


@dataclass(frozen=True)
class Fail:
    """The run ends here."""

    reason: AnyReason
    message: str


@dataclass(frozen=True)
class EndPods:
    """Delete pods that have failed and linger, so that the Job counts them and tries their shards again."""

    pods: tuple[PodView, ...]


Decision = Hold | Start | SetSuspended | SetDeadline | Finish | Retry | ClearAttempt | NextAttempt | Fail | EndPods


@dataclass(frozen=True)
class StepView:
    """The step a run is at, as remembered and as seen."""

    name: str
    attempt: int
    has_artifact: bool
    remembered: StepStatus | None
    view: RunView
    servers: tuple[ServerView, ...] = field(default=())
    """Those it uses; none before a pod has asked for them."""
    compute: Compute | None = None
    """Where it is to run now; None while its inputs are not there."""
    looks: bool = False
    """It only looks for an artifact: it may have found none."""

    @property
    def job(self) -> JobView | None:
        """The step's Job."""
        return self.view.job(self.attempt, self.name)

    @property
    def pods(self) -> tuple[PodView, ...]:
        """The step's pods."""
        return self.view.pods_of(self.attempt, self.name)

    @property
    def is_running(self) -> bool:
        """Whether the step's Job runs: only then may the step use servers."""
        job = self.job
        return job is not None and not job.complete and not job.failed and not job.suspended

    @property
    def wants_another_job(self) -> bool:
        """Whether its Job has another queue or priority than the spec names by now, and nothing of it has started.

        A Job's template never changes, and Kueue keeps the queue of what it has admitted; so the Job is made anew.
        """
        job, compute = self.job, self.compute
        if job is None or compute is None or any(pod.phase != "Pending" for pod in self.pods):
            return False
        asked = (job.queue_asked, job.priority_asked)
        return None not in asked and asked != (compute.queue_name or "", compute.priority_class_name or "")

    @property
    def asks_for_servers(self) -> bool:
        """Whether a pod has found that there is work to do, and needs its model for it."""
        return any(pod.ready for pod in self.pods)


def decide(run: RunSpec, step: StepView) -> Decision:
    """Return the one thing to do now."""
    if step.remembered is not None and step.remembered.phase is Phase.FAILED:
        left = [job for job in step.view.jobs if job.attempt == step.attempt]
        pods = [pod for pod in step.view.pods if pod.attempt == step.attempt]
        return ClearAttempt() if left or pods else NextAttempt()
    job = step.job
    if job is None:
        if run.suspend:
            return Hold(Phase.SUSPENDED, ConditionReason.SUSPENDED, "spec.suspend is true; set it to false to start")
        return Start()
    if job.complete:
        return _completed(run, step)
    if hopeless := ending.hopeless(step.name, step.pods, run.retries):
        return Fail(hopeless.reason, hopeless.message)
    if job.failed:
        return _failed(run, step, job)
    if ended := _lingering(run, step, job):
        return ended
    broken = next((server for server in step.servers if server.fatal), None)
    if broken is not None and broken.fatal is not None:
        return Fail(of_job(broken.fatal.reason), f"LLM server {broken.name} cannot start: {broken.fatal.message}")
    return _running(run, step, job)


def _completed(run: RunSpec, step: StepView) -> Decision:
    results = [pod.result for pod in step.pods if pod.result is not None and pod.result.error is None]
    if not step.has_artifact:
        warnings = dict.fromkeys(warning for result in results for warning in result.warnings)
        reused = bool(results) and all(result.reused for result in results)
        metrics = _sum_metrics(results)
        return Finish(JobResult(metrics=metrics, reused=reused, warnings=tuple(warnings)[:MAX_WARNINGS]))
    result = next((result for result in results if result.artifact is not None or step.looks), None)
    if result is None:
        text = f"step {step.name} ended well but its result was lost with its pod; it is asked for again"
        return _retry(run, step, ConditionReason.RESULT_LOST, text)
    return Finish(result)


def _failed(run: RunSpec, step: StepView, job: JobView) -> Decision:
    why = ending.verdict(step.name, job, step.pods, run.retries)
    return Fail(why.reason, why.message) if why.terminal else _retry(run, step, why.reason, why.message)


def _lingering(run: RunSpec, step: StepView, job: JobView) -> Decision | None:
    """End what only a side-car keeps going: a container that somebody gave the Job's pods, and that never ends.

    What `main` has said counts. (A side-car that is an init container with restartPolicy Always goes with it, KEP-753.)
    """
    if job.suspended:  # its pods are about to be taken away
        return None
    lingering = [pod for pod in step.pods if pod.lingers]
    failed = [pod for pod in lingering if pod.exit_code]
    well = {pod.index for pod in step.pods if pod.exit_code == 0 and (pod.lingers or pod.phase == "Succeeded")}
    if lingering and len(well) == job.completions:
        return _completed(run, step)
    if failed and (not job.per_index or any(pod.exit_code == ExitCode.TERMINAL for pod in failed)):
        return _failed(run, step, job)
    return EndPods(tuple(failed)) if failed else None


def _retry(run: RunSpec, step: StepView, reason: AnyReason, message: str) -> Decision:
    if step.attempt > run.retries:
        tries = f"{step.attempt} attempt{'s' if step.attempt > 1 else ''}"
        return Fail(reason, f"{message} (gave up after {tries}; spec.retries is {run.retries})")
    return Retry(reason, message)


def _running(run: RunSpec, step: StepView, job: JobView) -> Decision:
    if job.queue and run.suspend:
        return ClearAttempt()  # `suspend` of a queued Job belongs to the queue, which would undo a change
    if step.wants_another_job:
        return ClearAttempt()
    if run.suspend != job.suspended and not job.queue:
        return SetSuspended(run.suspend)
    if run.suspend:
        return Hold(Phase.SUSPENDED, ConditionReason.SUSPENDED, "spec.suspend is true; set it to false to go on")
    if job.suspended:
        text = f"Job {job.name} waits in queue {job.queue} to be admitted"
        if job.trouble is not None:
            return Hold(Phase.QUEUED, job.trouble.reason, f"{text}: {job.trouble.message}")
        return Hold(Phase.QUEUED, ConditionReason.QUEUED, text)
    if run.active_deadline_seconds != job.deadline:
        return SetDeadline(run.active_deadline_seconds)
    return _held_up(step, job) or Hold(Phase.RUNNING, ConditionReason.RUNNING, _runs(step))


def _held_up(step: StepView, job: JobView) -> Hold | None:
    """Say what a step that has been started still waits for, if anything."""
    live = [pod for pod in step.pods if pod.phase not in ("Failed", "Succeeded")]
    pending = [pod for pod in live if pod.phase == "Pending"]
    stuck = next((pod.trouble for pod in pending if pod.trouble is not None), None) or job.trouble
    if stuck is not None and len(pending) == len(live):
        return Hold(Phase.WAITING, stuck.reason, f"step {step.name}: {stuck.message}")
    unready = [server for server in step.servers if not server.ready]
    if unready:
        return _waits_for(step, next((server for server in unready if server.trouble), unready[0]))
    if stuck is not None:
        some = f"{len(pending)} of {len(step.pods)} pods wait" if pending else "not all of its pods are there"
        return Hold(Phase.RUNNING, ConditionReason.RUNNING, f"{_runs(step)}; {some}: {stuck.message}")
    return None


def _runs(step: StepView) -> str:
    """Say that a step runs, and what has become of the pods that it lost on the way."""
    text = f"step {step.name} is running"
    going = next((pod.trouble for pod in step.pods if pod.deleting and pod.trouble is not None), None)
    if going is not None:
        return f"{text}; {going.message}"
    gone = [word for pod in step.pods if pod.phase == "Failed" and (word := ending.last_word(pod))]
    return f"{text}; {len(gone)} pods had to be tried again, the last: {gone[-1]}" if gone else text


def _waits_for(step: StepView, server: ServerView) -> Hold:
    text, trouble = f"step {step.name} waits for LLM server {server.name}: ", server.trouble
    if trouble is None:
        return Hold(Phase.RUNNING, ConditionReason.SERVER_STARTING, f"{text}starting")
    if trouble.waits:
        return Hold(Phase.WAITING, trouble.reason, text + trouble.message)
    return Hold(Phase.RUNNING, ConditionReason.SERVER_STARTING, text + trouble.message)


def _sum_metrics(results: list[JobResult]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for result in results:
        for name, value in result.metrics.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def retry_delay(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one."""
    return min(RETRY_MAX_SECONDS, RETRY_BASE_SECONDS * 2.0 ** (attempt - 1))
