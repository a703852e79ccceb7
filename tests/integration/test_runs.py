"""Kinds that run to completion, from the resource to its artifact."""

from typing import Any

import pytest

from star_contracts.artifact import Inventory
from star_contracts.job import JobSpec
from star_contracts.result import ErrorClass, JobError, JobResult
from tests.support.fakekubelet import RUNNING, FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, DIGEST, names, ready_message, star, status, wait_message, wait_phase

SOURCE = Inventory(digest=DIGEST, objects=2, bytes=7, newest="2026-01-02T03:04:05.678+00:00")


def test_a_dataset_becomes_a_job_and_its_artifact(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: succeed(spec, pod).model_copy(update={"source": SOURCE})
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    found = status(kubectl, "recdataset", namespace, "a")
    assert found["artifact"]["uri"].startswith(f"s3://star/artifacts/{namespace}/recdataset/a/1/prepare")
    assert found["attempt"] == 1
    assert found["source"] == SOURCE.to_json_dict()
    assert found["startTime"] <= found["completionTime"]
    assert names(kubectl, "jobs", namespace) == ["a-rds-1-prepare"]


def test_a_missing_input_is_waited_for_by_name_and_taken_when_it_is_there(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    evaluation = {"dataset": {"name": "a"}, "settings": {"tools": False}}
    kubectl.apply(star("Evaluation", namespace, "e", evaluation))
    missing = f"spec.dataset names RecDataset a, which does not exist in namespace {namespace}"
    wait_message(kubectl, "evaluation", namespace, "e", missing)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    wait_phase(kubectl, "evaluation", namespace, "e", "Succeeded")


@pytest.mark.bad_input
def test_a_missing_store_secret_is_waited_for_by_name_and_no_pod_is_made(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.run("delete", "secret", "star-store", "-n", namespace)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    missing = f"namespace {namespace} has no Secret star-store with the store's credentials"
    said = wait_message(kubectl, "recdataset", namespace, "a", missing)
    assert said == f"{missing}; create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert names(kubectl, "pods", namespace) == []


@pytest.mark.bad_input
def test_an_unknown_pool_fails_with_the_pools_there_are(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(star("RecDataset", namespace, "a", {**DATASET, "compute": {"pool": "h200"}}))
    found = wait_phase(kubectl, "recdataset", namespace, "a", "Failed")
    message = ready_message(found)
    assert "spec.compute.pool" in message
    assert "h200" in message
    assert "h20" in message.replace("h200", "")
    assert names(kubectl, "jobs", namespace) == []


def test_a_terminal_error_ends_the_run_with_its_sentence_and_is_not_retried(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    sentence = "line 7 of u.data has 3 columns, expected 4; correct the source"
    error = JobError(error_class=ErrorClass.TERMINAL, reason="InvalidDataset", message=sentence)
    kubelet.script = lambda spec, pod: JobResult(error=error)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "a", "Failed")
    found = status(kubectl, "recdataset", namespace, "a")
    assert ready_message(found) == sentence
    assert found["attempt"] == 1
    assert kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1


def test_attempts_never_overlap_and_the_last_one_says_that_it_was_the_last(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    error = JobError(error_class=ErrorClass.RETRYABLE, reason="StoreUnreachable", message="no answer from the store")
    kubelet.script = lambda spec, pod: JobResult(error=error)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: status(kubectl, "recdataset", namespace, "a").get("attempt") == 2, "there is a second attempt")
    wait_phase(kubectl, "recdataset", namespace, "a", "Failed")
    found = status(kubectl, "recdataset", namespace, "a")
    assert "gave up after 2 attempts; spec.retries is 1" in ready_message(found)
    assert names(kubectl, "jobs", namespace) == ["a-rds-2-prepare"], "the first attempt was cleared away"


def test_suspend_stops_the_pods_and_going_on_keeps_the_attempt(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    kubectl.run("patch", "recdataset", "a", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    wait_phase(kubectl, "recdataset", namespace, "a", "Suspended")
    eventually(lambda: not names(kubectl, "pods", namespace), "its pods are gone")
    kubelet.script = succeed
    kubectl.run("patch", "recdataset", "a", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    assert status(kubectl, "recdataset", namespace, "a")["attempt"] == 1


@pytest.mark.parametrize("moment", ["before the job ends", "after"])
def test_killing_the_operator_loses_nothing_and_doubles_nothing(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str, moment: str
) -> None:
    held = True

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        return RUNNING if held else succeed(spec, pod)

    kubelet.script = script
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    if moment == "after":
        operator.kill()
        held = False
        eventually(lambda: "Complete" in kubectl.run("get", "jobs", "-n", namespace), "the job ends meanwhile")
        operator.start()
    else:
        operator.kill()
        operator.start()
        held = False
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")
    assert kubelet.started == {f"{namespace}/a-rds-1-prepare": 1}
    assert names(kubectl, "jobs", namespace) == ["a-rds-1-prepare"]
