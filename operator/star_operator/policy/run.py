"""What to do next with a run-to-completion resource: (spec, what status remembers, what is seen) -> one decision.

A run is a row of steps, one Job a step. An attempt that failed in a retryable way is cleared away whole before the
next one starts, so that two attempts never run at once (what users complain about in KubeRay #5211).
"""

from dataclasses import dataclass, field

from star_contracts.result import ErrorClass, JobResult
from star_operator.api.common import RunSpec
from star_operator.api.meta import Phase, StepStatus
from star_operator.core.views import JobView, PodView, RunView, ServerView

RETRY_BASE_SECONDS = 10.0
RETRY_MAX_SECONDS = 300.0
MAX_WARNINGS = 4
"""Different ones of a step's shards that are told."""
SHARDS_TRIED = {"FailedIndexes", "MaxFailedIndexesExceeded"}
"""Reasons of a Job whose shards were retried one by one already (KEP-3850)."""


@dataclass(frozen=True)
class Hold:
    """Nothing to do but to wait; say why."""

    phase: Phase
    reason: str
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

    reason: str
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

    reason: str
    message: str


Decision = Hold | Start | SetSuspended | SetDeadline | Finish | Retry | ClearAttempt | NextAttempt | Fail


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
            return Hold(Phase.SUSPENDED, "Suspended", "spec.suspend is true; set it to false to start")
        return Start()
    if job.complete:
        return _completed(run, step)
    if job.failed:
        return _failed(run, step, job)
    broken = next((server for server in step.servers if server.fatal), None)
    if broken is not None and broken.fatal is not None:
        return Fail(broken.fatal.reason, f"LLM server {broken.name} cannot start: {broken.fatal.message}")
    return _running(run, step, job)


def _completed(run: RunSpec, step: StepView) -> Decision:
    results = [pod.result for pod in step.pods if pod.result is not None and pod.result.error is None]
    if not step.has_artifact:
        warnings = dict.fromkeys(warning for result in results for warning in result.warnings)
        return Finish(JobResult(metrics=_sum_metrics(results), warnings=tuple(warnings)[:MAX_WARNINGS]))
    result = next((result for result in results if result.artifact is not None), None)
    if result is None:
        text = f"step {step.name} ended well but its result was lost with its pod; it is asked for again"
        return _retry(run, step, "ResultLost", text)
    return Finish(result)


def _failed(run: RunSpec, step: StepView, job: JobView) -> Decision:
    if job.reason == "DeadlineExceeded":
        return Fail("DeadlineExceeded", f"step {step.name} ran longer than spec.activeDeadlineSeconds; raise it")
    errors = [pod.result.error for pod in step.pods if pod.result is not None and pod.result.error is not None]
    terminal = next((error for error in errors if error.error_class is ErrorClass.TERMINAL), None)
    if terminal is not None:
        return Fail(terminal.reason, terminal.message)
    if any(pod.oom_killed for pod in step.pods):
        text = f"step {step.name} ran out of memory; raise spec.compute.resources.memoryLimit"
        return _retry(run, step, "OutOfMemory", text)
    if errors and job.reason in SHARDS_TRIED:
        return Fail(errors[0].reason, f"{errors[0].message} (gave up on a shard; spec.retries is {run.retries})")
    if errors:
        return _retry(run, step, errors[0].reason, errors[0].message)
    codes = sorted({pod.exit_code for pod in step.pods if pod.exit_code})
    text = f"step {step.name} failed without a word (exit codes {codes or 'unknown'}): {job.message or job.reason}"
    return _retry(run, step, "PodFailed", text)


def _retry(run: RunSpec, step: StepView, reason: str, message: str) -> Decision:
    if step.attempt > run.retries:
        tries = f"{step.attempt} attempt{'s' if step.attempt > 1 else ''}"
        return Fail(reason, f"{message} (gave up after {tries}; spec.retries is {run.retries})")
    return Retry(reason, message)


def _running(run: RunSpec, step: StepView, job: JobView) -> Decision:
    if job.queue and run.suspend:
        return ClearAttempt()  # `suspend` of a queued Job belongs to the queue, which would undo a change
    if run.suspend != job.suspended and not job.queue:
        return SetSuspended(run.suspend)
    if run.suspend:
        return Hold(Phase.SUSPENDED, "Suspended", "spec.suspend is true; set it to false to go on")
    if job.suspended:
        return Hold(Phase.QUEUED, "Queued", f"Job {job.name} waits in queue {job.queue} to be admitted")
    if run.active_deadline_seconds != job.deadline:
        return SetDeadline(run.active_deadline_seconds)
    return _held_up(step, job) or Hold(Phase.RUNNING, "Running", f"step {step.name} is running")


def _held_up(step: StepView, job: JobView) -> Hold | None:
    """Say what a step that has been started still waits for, if anything."""
    pending = [pod for pod in step.pods if pod.phase == "Pending"]
    stuck = next((pod.trouble for pod in pending if pod.trouble is not None), None)
    if not step.pods and job.trouble is not None:
        return Hold(Phase.WAITING, job.trouble.reason, f"step {step.name}: {job.trouble.message}")
    if stuck is not None and len(pending) == len(step.pods):
        return Hold(Phase.WAITING, stuck.reason, f"step {step.name}: {stuck.message}")
    unready = [server for server in step.servers if not server.ready]
    if unready:
        return _waits_for(step, next((server for server in unready if server.trouble), unready[0]))
    if stuck is not None:
        some = f"{len(pending)} of {len(step.pods)} pods wait"
        return Hold(Phase.RUNNING, "Running", f"step {step.name} is running; {some}: {stuck.message}")
    return None


def _waits_for(step: StepView, server: ServerView) -> Hold:
    text, trouble = f"step {step.name} waits for LLM server {server.name}: ", server.trouble
    if trouble is None:
        return Hold(Phase.RUNNING, "ServerStarting", f"{text}starting")
    if trouble.waits:
        return Hold(Phase.WAITING, trouble.reason, text + trouble.message)
    return Hold(Phase.RUNNING, "ServerStarting", text + trouble.message)


def _sum_metrics(results: list[JobResult]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for result in results:
        for name, value in result.metrics.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def retry_delay(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one."""
    return min(RETRY_MAX_SECONDS, RETRY_BASE_SECONDS * 2.0 ** (attempt - 1))
