"""What the policies see of the cluster: small values reduced from live objects."""

from dataclasses import dataclass

from star_contracts.result import JobError, JobResult
from star_operator.core.reasons import ConditionReason


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run. `reason` is a stable word, `message` says what is wrong and what to do."""

    reason: ConditionReason
    message: str

    @property
    def waits(self) -> bool:
        """Say whether it waits for something; else it was started and ended badly."""
        return self.reason not in ENDED


ENDED = (ConditionReason.CONTAINER_FAILED, ConditionReason.POD_LOST, ConditionReason.POD_FAILED)


@dataclass(frozen=True)
class PodView:
    """What matters of a pod."""

    name: str
    attempt: int
    step: str
    index: int
    phase: str
    result: JobResult | None = None
    """From the main container's termination message."""
    trouble: Trouble | None = None
    """Why it is not running, with the scheduler's or kubelet's own words."""
    exit_code: int | None = None
    """Of the main container, once that has ended."""
    oom_killed: bool = False
    uid: str = ""
    reason: str = ""
    """Its `status.reason`: the kubelet evicted it, refused it, or is not heard of any more."""
    message: str = ""
    """Its `status.message`."""
    disrupted: str = ""
    """Why it was taken away, where that was no fault of its own (condition DisruptionTarget, KEP-3329)."""
    ended: str = ""
    """How the container that failed has ended: its name, exit code, and what the container runtime says of it."""
    ended_at: str = ""
    """RFC 3339: when the main container ended."""
    lingers: bool = False
    """The main container has ended and another one, injected by somebody, keeps the pod running."""
    deleting: bool = False
    ready: bool = False
    """Its condition Ready: a server's pod answers, a job's pod asks for the step's servers."""


@dataclass(frozen=True)
class JobView:
    """What matters of a Job."""

    name: str
    attempt: int
    step: str
    suspended: bool
    complete: bool
    failed: bool
    completions: int = 1
    """Pods that have to end well."""
    per_index: bool = False
    """Its pods are shards, each tried again by itself (backoffLimitPerIndex); else they work, and fail, as one."""
    reason: str = ""
    message: str = ""
    active: int = 0
    succeeded: int = 0
    queue: str = ""
    """Kueue queue it waits in, when it has one."""
    queue_asked: str | None = None
    """The queue that this operator gave it, or none; Kueue may give one by itself. None: made by an older operator."""
    priority_asked: str | None = None
    """The priority class that this operator gave it, or none; a policy may give one by itself."""
    deleting: bool = False
    uid: str = ""
    ended_at: str = ""
    """RFC 3339: when it completed or failed."""
    deadline: int | None = None
    """Its activeDeadlineSeconds."""
    trouble: Trouble | None = None
    """Why it lacks pods."""
    answer: JobResult | None = None
    """Of a small Job: what `main` has said, taken down as it does not end by itself."""
    answered_at: str = ""
    """RFC 3339: when that was said."""


@dataclass(frozen=True)
class Stranger:
    """A Job or pod with a run's labels that was made for an earlier resource of the same name."""

    kind: str
    name: str
    uid: str
    deleting: bool = False


@dataclass(frozen=True)
class RunView:
    """One run's children."""

    jobs: tuple[JobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    strangers: tuple[Stranger, ...] = ()
    """What is in the way of its next start."""

    def job(self, attempt: int, step: str) -> JobView | None:
        """Return the Job of a step's attempt."""
        return next((job for job in self.jobs if (job.attempt, job.step) == (attempt, step)), None)

    def pods_of(self, attempt: int, step: str) -> tuple[PodView, ...]:
        """Return the pods of a step's attempt."""
        return tuple(pod for pod in self.pods if (pod.attempt, pod.step) == (attempt, step))


@dataclass(frozen=True)
class ServerView:
    """A vLLM server a step needs, as seen."""

    name: str
    ready: bool
    ready_replicas: int = 0
    """Copies that answer."""
    replicas: int = 0
    """Copies there are."""
    trouble: Trouble | None = None
    """What keeps it from being ready, or a ready one from having all of its copies."""
    fatal: JobError | None = None
    """Set when it can never start, e.g. its checkpoint's digest does not match."""


@dataclass(frozen=True)
class GroupMember:
    """A pod of a multi-node server. Times are RFC 3339 in UTC, as the API gives them: they sort as text."""

    name: str
    uid: str
    group: str
    """Which replica of the server it works for."""
    started: str | None
    """When its main container's present process started; None while there is none."""
    ready_since: str | None
    """When it became ready; None while it is not."""
    deleting: bool = False
