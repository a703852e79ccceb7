"""A fresh look at one run: its Jobs, pods and servers as small values for the policies."""

from typing import Any

from pydantic import ValidationError

from star_contracts.names import LABEL_ATTEMPT, LABEL_STEP
from star_contracts.result import JobResult
from star_operator.core.labels import resource_labels
from star_operator.core.objects import KubeObject
from star_operator.core.views import JobView, PodView, RunView
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import JOB, POD

MAIN = "main"
"""Name of the container that does the work."""
BAD_WAITING = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}


async def observe_run(cluster: Cluster, kind: str, namespace: str, name: str) -> RunView:
    """Look at the Jobs and pods of a resource, live."""
    labels = resource_labels(kind, name)
    jobs = await cluster.list_objects(JOB, namespace, labels)
    pods = await cluster.list_objects(POD, namespace, labels)
    return RunView(
        jobs=tuple(job_view(job) for job in jobs),
        pods=tuple(pod_view(pod) for pod in pods if LABEL_STEP in _labels(pod)),
    )


def job_view(job: KubeObject) -> JobView:
    """Reduce a Job."""
    labels, status = _labels(job), job.get("status", {})
    ended = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    failure = ended.get("Failed", {})
    return JobView(
        name=job["metadata"]["name"],
        attempt=int(labels.get(LABEL_ATTEMPT, 0)),
        step=labels.get(LABEL_STEP, ""),
        suspended=bool(job["spec"].get("suspend")),
        complete="Complete" in ended,
        failed="Failed" in ended,
        reason=failure.get("reason", ""),
        message=failure.get("message", ""),
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        queue=labels.get("kueue.x-k8s.io/queue-name", ""),
        deleting="deletionTimestamp" in job["metadata"],
    )


def pod_view(pod: KubeObject) -> PodView:
    """Reduce a pod."""
    labels, status = _labels(pod), pod.get("status", {})
    main: dict[str, Any] = next((c for c in status.get("containerStatuses", []) if c["name"] == MAIN), {})
    ended = main.get("state", {}).get("terminated") or {}
    return PodView(
        name=pod["metadata"]["name"],
        attempt=int(labels.get(LABEL_ATTEMPT, 0)),
        step=labels.get(LABEL_STEP, ""),
        index=int(pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0)),
        phase=status.get("phase", "Pending"),
        result=parse_result(ended.get("message", "")),
        trouble=pod_trouble(status),
        exit_code=ended.get("exitCode"),
        oom_killed=ended.get("reason") == "OOMKilled",
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])),
    )


def parse_result(message: str) -> JobResult | None:
    """Read a termination message; None when it is not a job result (the process died before it could say)."""
    try:
        return JobResult.model_validate_json(message)
    except ValidationError:
        return None


def pod_trouble(status: dict[str, Any]) -> str:
    """Say why a pod does not run: unschedulable, image, configuration, or a failed init container."""
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"not scheduled: {condition.get('message', 'no reason given')}"
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in BAD_WAITING:
            return f"container {container['name']}: {waiting['reason']}: {waiting.get('message', '')}"
        last = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
        if last.get("exitCode"):
            result = parse_result(last.get("message", ""))
            why = result.error.message if result and result.error else f"exit code {last['exitCode']}"
            return f"container {container['name']} failed: {why}"
    return ""


def _labels(obj: KubeObject) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"].get("labels", {})
    return labels
