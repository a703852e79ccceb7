"""Why a pod does not run, read from its status."""

from typing import Any

import pytest

from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import Trouble
from star_operator.kube.trouble import how_it_ended, is_slow_to_start, pod_trouble

GPUS = {"limits": {"nvidia.com/gpu": "8"}, "requests": {"cpu": "32", "memory": "512Gi", "nvidia.com/gpu": "8"}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient x."}


def pod(status: dict[str, Any], **spec: Any) -> KubeObject:
    container = {"name": "main", "resources": spec.pop("resources", {})}
    return {"metadata": {"name": "t-0"}, "spec": {"containers": [container], **spec}, "status": status}


def test_a_pod_without_a_node_says_what_it_asks_for_and_what_the_scheduler_says() -> None:
    waiting = pod(
        {"phase": "Pending", "conditions": [UNSCHEDULABLE]},
        nodeSelector={"star.recsys.dev/pool": "h20"},
        resources=GPUS,
    )
    assert pod_trouble(waiting) == Trouble(
        "Unschedulable",
        "pod t-0 waits for a node: 8 x nvidia.com/gpu wanted on nodes with star.recsys.dev/pool=h20; "
        "the scheduler says: 0/1 nodes are available: 1 Insufficient x.",
    )


def test_without_devices_it_is_cpu_and_memory_that_count() -> None:
    resources = {"requests": {"cpu": "4", "memory": "16Gi"}}
    trouble = pod_trouble(pod({"conditions": [UNSCHEDULABLE]}, resources=resources))
    assert trouble is not None
    assert trouble.message.startswith("pod t-0 waits for a node: 4 cpu, 16Gi memory wanted on any node; ")


def test_a_container_that_cannot_be_made_says_so_in_the_kubelets_words() -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "star-store" not found'}
    found = pod_trouble(pod({"containerStatuses": [{"name": "main", "state": {"waiting": waiting}}]}))
    text = 'container main: CreateContainerConfigError: secret "star-store" not found'
    assert found == Trouble("PodNotStarted", text)


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_a_container_that_failed_says_its_own_sentence(state: str) -> None:
    error = JobError(error_class=ErrorClass.RETRYABLE, reason="StoreUnreachable", message="the store did not answer")
    ended = {"exitCode": 75, "message": JobResult(error=error).termination_message()}
    found = pod_trouble(pod({"initContainerStatuses": [{"name": "fetch", state: {"terminated": ended}}]}))
    assert found == Trouble(ConditionReason.CONTAINER_FAILED, "container fetch failed: the store did not answer")
    assert found is not None
    assert not found.waits


def test_only_a_pod_that_had_time_enough_is_slow_to_start() -> None:
    assert is_slow_to_start(pod({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}))
    assert not is_slow_to_start(pod({"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}))
    assert not is_slow_to_start(pod({"phase": "Pending"})), "it has no node yet"


@pytest.mark.parametrize(
    "reason",
    ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed", "RunContainerError"],
)
def test_whatever_a_container_waits_for_is_told(reason: str) -> None:
    waiting = {"reason": reason, "message": "the runtime's own sentence"}
    found = pod_trouble(
        pod({"phase": "Pending", "containerStatuses": [{"name": "main", "state": {"waiting": waiting}}]})
    )
    assert found == Trouble(ConditionReason.POD_NOT_STARTED, f"container main: {reason}: the runtime's own sentence")


def test_a_container_that_crashes_says_how_it_ended_and_not_that_it_is_started_again() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    found = pod_trouble(pod({"containerStatuses": [{"name": "main", "state": waiting, "lastState": ended}]}))
    text = "container main failed: exit code 137 (SIGKILL): OOMKilled"
    assert found == Trouble(ConditionReason.CONTAINER_FAILED, text)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"exitCode": 1, "reason": "Error"}, "exit code 1"),
        ({"exitCode": 143, "reason": "Error"}, "exit code 143 (SIGTERM)"),
        ({"exitCode": 255}, "exit code 255"),
        (
            {"exitCode": 128, "reason": "StartError", "message": "exec: no such file"},
            "128: StartError: exec: no such file",
        ),
    ],
)
def test_an_exit_says_its_code_signal_and_reason(ended: dict[str, Any], words: str) -> None:
    assert how_it_ended(ended).endswith(words)


@pytest.mark.parametrize("phase", ["Failed", "Running"])
def test_a_pod_that_the_cluster_ended_says_why(phase: str) -> None:
    lost = pod({"phase": phase, "reason": "NodeLost", "message": "Node n1 is unresponsive"})
    lost["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_trouble(lost) == Trouble(ConditionReason.POD_LOST, "pod t-0: NodeLost: Node n1 is unresponsive")
