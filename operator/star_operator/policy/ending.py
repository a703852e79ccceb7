"""Why a step's pods ended, and whether another attempt can end better: (Job, pods) -> verdict.

What the cluster says of a pod comes before what the pod said of itself: one that is evicted or whose node is gone is
told to stop, and may report nothing but that. Among pods that work as one, the first to go takes the others with it:
what these say (a peer is gone, its memory cannot be reached) is a consequence.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass, ExitCode
from star_operator.core.reasons import AnyReason, ConditionReason, of_job
from star_operator.core.views import JobView, PodView

EVICTED = "Evicted"
SHARDS_TRIED = {"FailedIndexes", "MaxFailedIndexesExceeded"}
"""Reasons of a Job whose shards were retried one by one already (KEP-3850)."""
VOLUME_FULL = re.compile(r'EmptyDir volume "(?P<volume>[^"]+)" exceeds the limit')
STORAGE_FULL = re.compile(r"local ephemeral storage limit|ephemeral local storage usage exceeds the total limit")
NODE_SHORT = "node was low on resource"
"""The kubelet's sentences (pkg/kubelet/eviction/helpers.go)."""
LIMITS = {"work": "{compute}.resources.scratch", "shm": "shmSize of its pool in the chart's values"}
"""What to raise, by the pod's volumes that have a limit."""


@dataclass(frozen=True)
class Verdict:
    """Why it ended."""

    reason: AnyReason
    message: str
    terminal: bool = False
    """It would end in the same way again."""


def limit_to_raise(message: str, compute: str = "spec.compute") -> str | None:
    """Return what to do about an eviction for a limit of the pod's own, or None where it was evicted for the node.

    `compute` is the field that says where the pod runs.
    """
    if found := VOLUME_FULL.search(message):
        limit = LIMITS.get(found["volume"], f"the limit of volume {found['volume']}, which others gave the pod")
        return f"raise {limit.format(compute=compute)}"
    if STORAGE_FULL.search(message):
        return "raise the limit of ephemeral-storage, which a LimitRange of the namespace sets"
    return None


def hopeless(step: str, pods: Sequence[PodView], retries: int) -> Verdict | None:
    """Return why the step cannot end well, whatever its Job does: every new pod would meet the same.

    A pod that outgrew a limit does it again. One that the kubelet evicts because its node runs short is replaced by the
    Job without an end (KEP-3329); more often than `retries` it is the pod that is too large.
    """
    for pod in pods:
        remedy = limit_to_raise(pod.message) if pod.reason == EVICTED else None
        if remedy is not None:
            text = f"step {step}: pod {pod.name} was evicted: {_sentence(pod.message)}; {remedy}"
            return Verdict(Reason.OUT_OF_DISK, text, terminal=True)
    short = [pod for pod in pods if pod.reason == EVICTED and NODE_SHORT in pod.message]
    index, times = next(iter(Counter(pod.index for pod in short).most_common(1)), (0, 0))
    if times <= retries:
        return None
    last = [pod for pod in short if pod.index == index][-1]
    reason = Reason.OUT_OF_MEMORY if "resource: memory" in last.message else Reason.OUT_OF_DISK
    field = "memory" if reason is Reason.OUT_OF_MEMORY else "scratch"
    text = f"step {step}: pod {last.name} and {times - 1} before it were evicted: {_sentence(last.message)}"
    return Verdict(reason, f"{text}; raise spec.compute.resources.{field}, or choose larger nodes", terminal=True)


def verdict(step: str, job: JobView, pods: Sequence[PodView], retries: int) -> Verdict:
    """Return why a Job failed, or one whose pods linger."""
    if job.reason == "DeadlineExceeded":
        text = f"step {step} ran longer than spec.activeDeadlineSeconds; raise it"
        return Verdict(ConditionReason.DEADLINE_EXCEEDED, text, terminal=True)
    own = sorted((pod for pod in pods if _failed_by_itself(pod)), key=lambda pod: (pod.ended_at == "", pod.ended_at))
    indexes = {pod.index for pod in own}
    made = Counter(pod.index for pod in pods)  # one that was replaced, and the group worked on, is no reason any more
    taken = next((pod for pod in pods if _taken(pod) and pod.index not in indexes and made[pod.index] == 1), None)
    if taken is not None and not job.per_index:
        return Verdict(ConditionReason.POD_LOST, f"step {step}: {last_word(taken)}")
    if ended := _terminal(step, own):
        return ended
    if any(pod.oom_killed for pod in own):
        text = f"step {step} ran out of memory; raise spec.compute.resources.memoryLimit"
        return Verdict(Reason.OUT_OF_MEMORY, text)
    errors = [pod.result.error for pod in own if pod.result is not None and pod.result.error is not None]
    if errors and job.reason in SHARDS_TRIED:
        text = f"{errors[0].message} (gave up on a shard; spec.retries is {retries})"
        return Verdict(of_job(errors[0].reason), text, terminal=True)
    if errors:
        return Verdict(of_job(errors[0].reason), errors[0].message)
    words = next((word for pod in (*own, *pods) if (word := last_word(pod))), "")
    text = words or f"failed, and no pod is left to tell why: {job.message or job.reason}"
    return Verdict(ConditionReason.POD_FAILED, f"step {step}: {text}")


def last_word(pod: PodView) -> str:
    """Return what there is to tell of a pod that failed, the best first; nothing where nothing is known."""
    if pod.reason or pod.message:
        return f"pod {pod.name}: {': '.join(part for part in (pod.reason, _sentence(pod.message)) if part)}"
    if pod.disrupted:
        return f"pod {pod.name} was taken away: {pod.disrupted}"
    if pod.result is not None and pod.result.error is not None:
        return f"pod {pod.name}: {pod.result.error.message}"
    return f"pod {pod.name}: {pod.ended}" if pod.ended else ""


def _failed_by_itself(pod: PodView) -> bool:
    return not _taken(pod) and bool(pod.exit_code or (pod.result is not None and pod.result.error is not None))


def _taken(pod: PodView) -> bool:
    """Say whether the cluster ended the pod: by a disruption, or by the kubelet, which says so in `status.reason`."""
    return bool(pod.disrupted or pod.reason)


def _terminal(step: str, pods: Sequence[PodView]) -> Verdict | None:
    for pod in pods:
        error = pod.result.error if pod.result is not None else None
        if error is not None and error.error_class is ErrorClass.TERMINAL:
            return Verdict(of_job(error.reason), error.message, terminal=True)
        if error is None and pod.exit_code == ExitCode.TERMINAL:
            text = f"step {step}: {last_word(pod)}: it would fail again, and its sentence is lost; read the pod's log"
            return Verdict(ConditionReason.POD_FAILED, text, terminal=True)
    return None


def _sentence(message: str) -> str:
    return " ".join(message.split()).rstrip(" .;")
