"""Which pods of a multi-node vLLM server have to start anew: (pods seen) -> pods to delete.

A group forms once: a process that comes back alone finds peers that wait for the old one. So when one pod of a group
dies or restarts, all of the group starts anew (LeaderWorkerSet's RecreateGroupOnPodRestart, lws.sigs.k8s.io: Failure
Handling). Left to itself, a leader whose worker has gone notices with the next request, after vLLM's execution timeout
of 300 s, and workers whose leader has gone notice by their liveness probe, after two minutes.

A pod turns ready only when its group has formed (the leader answers; a worker's probe asks the leader). So a pod that
was ready before the present process of another pod of its group began belongs to a formation that is no more, and only
such a pod is deleted. What merely waits is left to wait: a large model's start of an hour is never cut short, a crash
loop keeps the kubelet's back-off, and every pod goes once, because its successor is not ready before all are there.
"""

from collections.abc import Iterable

from star_operator.core.views import GroupMember


def pods_to_delete(pods: Iterable[GroupMember]) -> tuple[GroupMember, ...]:
    """Return the pods whose formation has lost a member, by name; those that go already are left out."""
    found = tuple(sorted(pods, key=lambda pod: pod.name))
    return tuple(pod for pod in found if not pod.deleting and _is_stale(pod, found))


def _is_stale(pod: GroupMember, pods: tuple[GroupMember, ...]) -> bool:
    formed = pod.ready_since
    if formed is None:
        return False
    others = (other for other in pods if other.group == pod.group and other.name != pod.name)
    return any(other.started is None or other.started > formed for other in others)
