"""Job pods that somebody gave a container that never ends: what `main` said counts, and nothing of them stays.

The Job controller is real and sees pods that go on; the kubelet, and so the side-car, is played.
"""

from typing import Any

import pytest

from star_contracts.errors import Reason
from star_contracts.job import JobSpec
from star_contracts.result import ErrorClass, JobError, JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, names, ready_message, star, status, wait_phase

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
INDEX = "batch.kubernetes.io/job-completion-index"


def nothing_is_left(kubectl: Kubectl, namespace: str) -> bool:
    return names(kubectl, "jobs,pods", namespace) == []


def failure(error_class: ErrorClass, reason: Reason) -> JobResult:
    return JobResult(error=JobError(error_class=error_class, reason=reason, message="main's own sentence"))


@pytest.mark.case("side-car")
def test_a_run_ends_well_and_its_job_goes(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.side_car = lambda pod: True
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "d", "Succeeded")
    eventually(lambda: nothing_is_left(kubectl, namespace), "the Job and its pod are gone")


@pytest.mark.case("side-car")
def test_a_run_fails_with_the_sentence_of_main(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.side_car = lambda pod: True
    kubelet.script = lambda spec, pod: failure(ErrorClass.TERMINAL, Reason.INVALID_DATASET)
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    found = wait_phase(kubectl, "recdataset", namespace, "d", "Failed")
    assert ready_message(found) == "main's own sentence"
    eventually(lambda: nothing_is_left(kubectl, namespace), "the Job and its pod are gone")


@pytest.mark.case("side-car")
def test_a_shard_that_failed_is_tried_again(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    failed: set[str] = set()

    def once(spec: JobSpec, pod: dict[str, Any]) -> JobResult:
        if spec.shard.count == 1 or pod["metadata"]["annotations"][INDEX] != "1":
            return succeed(spec, pod)
        if failed - {pod["metadata"]["uid"]}:
            return succeed(spec, pod)
        failed.add(pod["metadata"]["uid"])
        return failure(ErrorClass.RETRYABLE, Reason.LLM_UNREACHABLE)

    kubelet.side_car, kubelet.script = lambda pod: True, once
    llm = {"endpoint": {"url": "http://llm.test/v1", "model": "m"}}
    teacher = {"dataset": {"name": "d"}, "llm": llm, "agents": {"tools": False}, "shards": 3}
    kubectl.apply(star("RecDataset", namespace, "d", DATASET), star("TeacherRun", namespace, "t", teacher))
    found = wait_phase(kubectl, "teacherrun", namespace, "t", "Succeeded")
    assert found["attempt"] == 1
    assert kubelet.started[f"{namespace}/t-tr-1-generate"] == 4
    eventually(lambda: nothing_is_left(kubectl, namespace), "nothing is left")


@pytest.mark.case("side-car")
def test_a_proof_is_written_down_and_what_is_verified_is_served(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    """The answer of a small Job is kept on it, and the real Job controller takes its pods away."""
    kubelet.side_car = lambda pod: True
    keys = [{"name": "ours", "publicKey": PEM}]
    live = {"dataset": {"name": "d"}, "checkpoint": {"checkpoint": "base"}, "requireSignatures": {"keys": keys}}
    kubectl.apply(
        star("RecDataset", namespace, "d", DATASET),
        checkpoint(namespace),
        star("StarDeployment", namespace, "live", live),
    )
    wait_phase(kubectl, "stardeployment", namespace, "live", "Ready")
    assert any(one["reason"] == "Attested" for one in status(kubectl, "checkpoint", namespace, "base")["conditions"])
    eventually(
        lambda: [name for name in names(kubectl, "jobs", namespace) if "verify" not in name] == [], "one is left"
    )
    [verify] = names(kubectl, "jobs", namespace)
    job = kubectl.get("job", verify, namespace)
    assert (job["spec"]["parallelism"], kubelet.started[f"{namespace}/{verify}"]) == (0, 1)
    labels = f"batch.kubernetes.io/job-name={verify}"
    eventually(lambda: kubectl.run("get", "pods", "-n", namespace, "-l", labels, "-o", "name") == "", "its pod is gone")
