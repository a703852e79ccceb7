"""Namespaces that are being deleted: nothing new is made there, and nothing of ours may keep them.

Kubernetes deletes a namespace's pods first (KEP-5080), its Jobs only when no pod is left. A failed shard of a Job with
backoffLimitPerIndex keeps its pod, by a finalizer, until its successor is there, and that may not be made any more:
unless the Job is deleted the namespace stays for ever.
"""

from star_operator.core.errors import Refused, Waiting
from star_operator.core.labels import OURS
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import RunView
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import JOB, NAMESPACE


async def require_living(cluster: Cluster, namespace: str) -> None:
    """Raise Waiting when the namespace is being deleted."""
    if await _is_going(cluster, namespace):
        raise _going(namespace)


async def let_go(cluster: Cluster, namespace: str, view: RunView) -> None:
    """Delete our Jobs of a namespace that is being deleted, and raise Waiting then.

    Somebody deletes the pods of a Job that goes on: only then the namespace is looked at.
    """
    going_on = any(not (job.complete or job.failed or job.deleting) for job in view.jobs)
    if not going_on or not any(pod.deleting for pod in view.pods) or not await _is_going(cluster.live, namespace):
        return
    for job in await cluster.list_objects(JOB, namespace, OURS):
        if "deletionTimestamp" not in job["metadata"]:
            await cluster.delete(JOB, namespace, job["metadata"]["name"])
    raise _going(namespace)


async def _is_going(cluster: Cluster, namespace: str) -> bool:
    try:
        found = await cluster.get(NAMESPACE, "", namespace)
    except Refused:  # a role of somebody's own may lack this right
        return False
    return found is not None and "deletionTimestamp" in found["metadata"]


def _going(namespace: str) -> Waiting:
    text = f"namespace {namespace} is being deleted: nothing is started in it any more"
    return Waiting(ConditionReason.NAMESPACE_TERMINATING, text)
