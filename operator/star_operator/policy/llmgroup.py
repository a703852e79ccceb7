"""Which groups of a multi-node vLLM server have to form anew: (pods seen) -> leaders to delete.

A group forms once. When the leader goes, its workers' liveness probes fail and they start anew by themselves. When a
worker goes, the leader would notice only with the next request, after vLLM's execution timeout (300 s): so the operator
deletes a leader that is ready in a formation of which a worker is no longer part, and the workers follow. (The rule of
LeaderWorkerSet's RecreateGroupOnPodRestart, without ever deleting a pod that only waits.)
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupPod:
    """What matters of a pod of a group. Times are RFC 3339 in UTC, as the API gives them: they sort as text."""

    name: str
    group: str
    leader: bool
    started: str | None
    """When its main container's present process started; None while it waits."""
    ready_since: str | None
    """When it became ready; None while it is not."""


def leaders_to_delete(pods: Iterable[GroupPod]) -> tuple[str, ...]:
    """Return the names of ready leaders with a worker that is not running, or started after the group had formed."""
    found = tuple(pods)
    workers: dict[str, list[GroupPod]] = {}
    for pod in found:
        if not pod.leader:
            workers.setdefault(pod.group, []).append(pod)
    return tuple(
        sorted(
            pod.name
            for pod in found
            if pod.leader and pod.ready_since is not None and _lost_one(pod.ready_since, workers.get(pod.group, []))
        )
    )


def _lost_one(formed: str, workers: list[GroupPod]) -> bool:
    return any(worker.started is None or worker.started > formed for worker in workers)
