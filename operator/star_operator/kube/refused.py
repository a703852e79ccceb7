"""Why a Job, Deployment or StatefulSet lacks pods: whoever refuses them at admission, in that one's own sentence.

A quota, a LimitRange, Pod Security, a webhook, a service account that is missing: a controller that may not make a pod
says so in its owner's condition (Deployments: ReplicaFailure) or in an Event of the reason FailedCreate.
"""

from collections.abc import Mapping

from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import warnings_about
from star_operator.kube.resources import DEPLOYMENT, STATEFUL_SET
from star_operator.kube.trouble import is_older

FAILED_CREATE = ("FailedCreate",)
NO_REPLICA_SET = "ReplicaSetCreateError"
"""Of a Deployment's condition Progressing: not even its ReplicaSet may be made."""


async def refused_of_job(cluster: Cluster, job: KubeObject, pods: int) -> Trouble | None:
    """Say why a Job that should have more pods than these has no more."""
    spec, status = job["spec"], job.get("status", {})
    ended = any(condition["status"] == "True" for condition in status.get("conditions", []))
    if ended or spec.get("suspend") or pods >= spec.get("completions", 1) or not is_older(status.get("startTime")):
        return None
    return await _from_events(cluster, job, "Job")


async def refused_of_workloads(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> Trouble | None:
    """Say why the Deployments and StatefulSets with these labels lack pods."""
    for deployment in await cluster.list_objects(DEPLOYMENT, namespace, labels):
        if (found := refused_of_deployment(deployment)) is not None:
            return found
    for workload in await cluster.list_objects(STATEFUL_SET, namespace, labels):
        lacks = workload.get("status", {}).get("replicas", 0) < workload["spec"].get("replicas", 1)
        if not lacks or not is_older(workload["metadata"].get("creationTimestamp")):
            continue
        if (found := await _from_events(cluster, workload, "StatefulSet")) is not None:
            return found
    return None


def refused_of_deployment(deployment: KubeObject | None) -> Trouble | None:
    """Say why a Deployment lacks pods."""
    if deployment is None:
        return None
    for condition in deployment.get("status", {}).get("conditions", []):
        no_pods = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        if no_pods or condition.get("reason") == NO_REPLICA_SET:
            return _refused("Deployment", deployment, condition.get("message", condition.get("reason", "")))
    return None


async def _from_events(cluster: Cluster, owner: KubeObject, kind: str) -> Trouble | None:
    meta = owner["metadata"]
    warnings = await warnings_about(cluster, meta["namespace"], meta["uid"], FAILED_CREATE)
    return _refused(kind, owner, warnings[-1]) if warnings else None


def _refused(kind: str, owner: KubeObject, why: str) -> Trouble:
    text = f"{kind} {owner['metadata']['name']} cannot make its pods: {why}"
    return Trouble(ConditionReason.PODS_REFUSED, text)
