"""Why pods do not run, with the words of whoever holds them up: scheduler, kubelet, admission, or the pod itself.

What a pod's status says is taken from there, and a Deployment's refused pods from its condition. Volumes that cannot be
mounted and the refused pods of Jobs and StatefulSets are told in Events only; these are read for what has not started
after a while, as nothing else would say so.
"""

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from star_contracts.result import JobResult
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import parse_timestamp
from star_operator.core.views import Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import warnings_about

MAIN = "main"
"""Name of the container that does the work; others may have been given to the pod."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
STARTING = ("ContainerCreating", "PodInitializing")
CRASHED = "CrashLoopBackOff"
"""Of a container that is started again: how it ended says more."""
NOT_OF_THE_START = ("FailedScheduling", "Unhealthy")
"""Warnings from before a pod had a node, and from after its containers have started."""
SLOW = timedelta(seconds=10)
MESSAGE_LIMIT = 500
"""Characters quoted of what a container printed."""


def parse_result(message: str) -> JobResult | None:
    """Read a termination message; None when it is not a job result (the process died before it could say)."""
    try:
        return JobResult.model_validate_json(message)
    except ValidationError:
        return None


def pod_trouble(pod: KubeObject) -> Trouble | None:
    """Say why a pod does not run: no node, ended by the cluster, an image, its configuration, or a failed container."""
    status = pod.get("status", {})
    if (ended := _ended_by_the_cluster(pod)) is not None:
        return ended
    for condition in status.get("conditions", []):
        waits = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if waits and "startTime" not in status:  # no kubelet has taken it
            return Trouble(ConditionReason.UNSCHEDULABLE, _waits_for_a_node(pod, condition.get("message") or "nothing"))
    for container in container_statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, *STARTING, CRASHED):
            text = f"container {container['name']}: {waiting['reason']}: {waiting.get('message', '')}"
            return Trouble(ConditionReason.POD_NOT_STARTED, text)
        last = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
        if last.get("exitCode"):
            result = parse_result(last.get("message", ""))
            why = result.error.message if result and result.error else how_it_ended(last)
            return Trouble(ConditionReason.CONTAINER_FAILED, f"container {container['name']} failed: {why}")
    return None


def container_statuses(pod: KubeObject) -> list[dict[str, Any]]:
    """Return the statuses of a pod's containers, in the order in which they start."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def how_it_ended(terminated: dict[str, Any]) -> str:
    """Return what a container's end (core/v1 ContainerStateTerminated) tells: code, signal, reason and message."""
    code = int(terminated.get("exitCode", 0))
    try:
        killed = f" ({signal.Signals(code - 128).name})" if code > 128 else ""
    except ValueError:  # no signal has that number
        killed = ""
    reason = terminated.get("reason", "")
    words = " ".join(str(terminated.get("message", "")).split())[:MESSAGE_LIMIT]
    told = [text for text in (reason if reason not in ("", "Error", "Completed") else "", words) if text]
    return ": ".join([f"exit code {code}{killed}", *told])


def disruption(pod: KubeObject) -> str:
    """Return why a pod was taken away though it did nothing wrong (condition DisruptionTarget), or nothing."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return ": ".join(text for text in (condition.get("reason", ""), condition.get("message", "")) if text)
    return ""


def is_slow_to_start(pod: KubeObject) -> bool:
    """Say whether a pod has a node for a while and still no container."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending" or "startTime" not in status:
        return False
    return is_older(status["startTime"])


def is_older(since: str | None, than: timedelta = SLOW) -> bool:
    """Say whether something has lasted longer than what starts by itself; never where it has not begun."""
    if not since:
        return False
    return datetime.now(UTC) - parse_timestamp(since) > than


async def mount_trouble(cluster: Cluster, pod: KubeObject) -> Trouble | None:
    """Say what the kubelet waits for before it can create the pod's containers."""
    meta = pod["metadata"]
    warnings = await warnings_about(cluster, meta["namespace"], meta["uid"], but=NOT_OF_THE_START)
    return Trouble(ConditionReason.POD_NOT_STARTED, f"pod {meta['name']}: {warnings[-1]}") if warnings else None


def _ended_by_the_cluster(pod: KubeObject) -> Trouble | None:
    """Say who ended a pod that failed or goes: the kubelet in `status.reason`, a disruption in its condition."""
    meta, status = pod["metadata"], pod.get("status", {})
    if status.get("phase") != "Failed" and "deletionTimestamp" not in meta:
        return None
    told = ": ".join(" ".join(text.split()) for key in ("reason", "message") if (text := status.get(key, "")))
    why = told or disruption(pod)
    return Trouble(ConditionReason.POD_LOST, f"pod {meta['name']}: {why}") if why else None


def _waits_for_a_node(pod: KubeObject, scheduler: str) -> str:
    spec = pod["spec"]
    main = next((one for one in spec["containers"] if one["name"] == MAIN), spec["containers"][0])
    asked: dict[str, str] = main.get("resources", {}).get("requests", {})
    devices = [f"{count} x {name}" for name, count in sorted(asked.items()) if "/" in name]
    plain = [f"{count} {name}" for name, count in sorted(asked.items())]
    wanted = ", ".join(devices or plain) or "a place"
    labels = ", ".join(f"{key}={value}" for key, value in sorted(spec.get("nodeSelector", {}).items()))
    where = f"nodes with {labels}" if labels else "any node"
    return (
        f"pod {pod['metadata']['name']} waits for a node: {wanted} wanted on {where}; the scheduler says: {scheduler}"
    )
