"""Why pods do not run, with the words of whoever holds them up: scheduler, kubelet, admission, or the pod itself.

What a pod's status says is taken from there. Volumes that cannot be mounted and pods that a quota refuses are told in
Events only; these are read for what has not started after a while, as nothing else would say so.
"""

from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from star_contracts.result import JobResult
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import warnings_about

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
BAD_WAITING = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}
NOT_MOUNTED = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
SLOW = timedelta(seconds=10)


def parse_result(message: str) -> JobResult | None:
    """Read a termination message; None when it is not a job result (the process died before it could say)."""
    try:
        return JobResult.model_validate_json(message)
    except ValidationError:
        return None


def pod_trouble(pod: KubeObject) -> Trouble | None:
    """Say why a pod does not run: unschedulable, image, configuration, or a container that failed."""
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        waits = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if waits and "startTime" not in status:  # no kubelet has taken it
            return Trouble(ConditionReason.UNSCHEDULABLE, _waits_for_a_node(pod, condition.get("message") or "nothing"))
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BAD_WAITING:
            text = f"container {container['name']}: {waiting['reason']}: {waiting.get('message', '')}"
            return Trouble(ConditionReason.POD_NOT_STARTED, text)
        last = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
        if last.get("exitCode"):
            result = parse_result(last.get("message", ""))
            why = result.error.message if result and result.error else f"exit code {last['exitCode']}"
            return Trouble(ConditionReason.CONTAINER_FAILED, f"container {container['name']} failed: {why}")
    return None


def is_slow_to_start(pod: KubeObject) -> bool:
    """Say whether a pod has a node for a while and still no container."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or "startTime" not in status:
        return False
    return _age(status["startTime"]) > SLOW


async def mount_trouble(cluster: Cluster, pod: KubeObject) -> Trouble | None:
    """Say what the kubelet waits for before it can create the pod's containers."""
    meta = pod["metadata"]
    warnings = await warnings_about(cluster, meta["namespace"], meta["uid"], NOT_MOUNTED)
    return Trouble(ConditionReason.POD_NOT_STARTED, f"pod {meta['name']}: {warnings[-1]}") if warnings else None


async def refused_pods(cluster: Cluster, job: KubeObject) -> Trouble | None:
    """Say why a Job that should have pods has none: a quota, or another refusal at admission."""
    meta, status = job["metadata"], job.get("status", {})
    ended = any(condition["status"] == "True" for condition in status.get("conditions", []))
    if ended or job["spec"].get("suspend") or "startTime" not in status or _age(status["startTime"]) <= SLOW:
        return None
    warnings = await warnings_about(cluster, meta["namespace"], meta["uid"], ("FailedCreate",))
    return (
        Trouble(ConditionReason.PODS_REFUSED, f"Job {meta['name']} cannot make its pods: {warnings[-1]}")
        if warnings
        else None
    )


def _waits_for_a_node(pod: KubeObject, scheduler: str) -> str:
    spec = pod["spec"]
    asked: dict[str, str] = spec["containers"][0].get("resources", {}).get("requests", {})
    devices = [f"{count} x {name}" for name, count in sorted(asked.items()) if "/" in name]
    plain = [f"{count} {name}" for name, count in sorted(asked.items())]
    wanted = ", ".join(devices or plain) or "a place"
    labels = ", ".join(f"{key}={value}" for key, value in sorted(spec.get("nodeSelector", {}).items()))
    where = f"nodes with {labels}" if labels else "any node"
    return (
        f"pod {pod['metadata']['name']} waits for a node: {wanted} wanted on {where}; the scheduler says: {scheduler}"
    )


def _age(since: str) -> timedelta:
    return datetime.now(UTC) - datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
