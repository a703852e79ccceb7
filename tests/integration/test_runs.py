"""Kinds that run to completion, from the resource to its artifact."""

import json
from typing import Any

import pytest

from star_contracts.job import JobSpec
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.api.meta import API_VERSION
from tests.support.fakekubelet import RUNNING, FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess

DATASET = {"source": {"format": "MovieLens", "uri": "s3://star/raw/ml-100k"}, "retries": 1}


def star(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def status(kubectl: Kubectl, kind: str, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get(kind, name, namespace).get("status", {})
    return found


def has_phase(kubectl: Kubectl, kind: str, namespace: str, name: str, phase: str) -> bool:
    return status(kubectl, kind, namespace, name).get("phase") == phase


def ready_message(found: dict[str, Any]) -> str:
    return next((c["message"] for c in found.get("conditions", []) if c["type"] == "Ready"), "")


def jobs(kubectl: Kubectl, namespace: str) -> list[str]:
    return kubectl.run("get", "jobs", "-n", namespace, "-o", "name").split()


def test_a_dataset_becomes_a_job_and_its_artifact(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Succeeded"), "the dataset succeeded")
    found = status(kubectl, "rds", namespace, "a")
    assert found["artifact"]["uri"].startswith(f"s3://star/artifacts/{namespace}/recdataset/a/1/prepare")
    assert found["attempt"] == 1
    assert found["startTime"] <= found["completionTime"]
    assert jobs(kubectl, namespace) == ["job.batch/a-rds-1-prepare"]


def test_a_missing_input_is_waited_for_by_name_and_taken_when_it_is_there(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    evaluation = {"dataset": {"name": "a"}, "settings": {"tools": False}}
    kubectl.apply(star("Evaluation", namespace, "e", evaluation))
    eventually(lambda: has_phase(kubectl, "eval", namespace, "e", "Waiting"), "the evaluation waits")
    message = ready_message(status(kubectl, "eval", namespace, "e"))
    assert message.startswith(f"spec.dataset names RecDataset a, which does not exist in namespace {namespace}")
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: has_phase(kubectl, "eval", namespace, "e", "Succeeded"), "the evaluation succeeded")


def test_a_terminal_error_ends_the_run_with_its_sentence_and_is_not_retried(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    sentence = "line 7 of u.data has 3 columns, expected 4; correct the source"
    error = JobError(error_class=ErrorClass.TERMINAL, reason="InvalidDataset", message=sentence)
    kubelet.script = lambda spec, pod: JobResult(error=error)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Failed"), "the dataset failed")
    found = status(kubectl, "rds", namespace, "a")
    assert ready_message(found) == sentence
    assert found["attempt"] == 1
    assert kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1


def test_attempts_never_overlap_and_the_last_one_says_that_it_was_the_last(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    error = JobError(error_class=ErrorClass.RETRYABLE, reason="StoreUnreachable", message="no answer from the store")
    kubelet.script = lambda spec, pod: JobResult(error=error)
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: status(kubectl, "rds", namespace, "a").get("attempt") == 2, "there is a second attempt")
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Failed"), "the dataset failed")
    found = status(kubectl, "rds", namespace, "a")
    assert "gave up after 2 attempts; spec.retries is 1" in ready_message(found)
    assert jobs(kubectl, namespace) == ["job.batch/a-rds-2-prepare"], "the first attempt was cleared away"


def test_suspend_stops_the_pods_and_going_on_keeps_the_attempt(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = lambda spec, pod: RUNNING
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")
    kubectl.run("patch", "rds", "a", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Suspended"), "the dataset is suspended")
    eventually(lambda: not json.loads(kubectl.run("get", "pods", "-n", namespace, "-o", "json"))["items"], "no pods")
    kubelet.script = succeed
    kubectl.run("patch", "rds", "a", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Succeeded"), "the dataset succeeded")
    assert status(kubectl, "rds", namespace, "a")["attempt"] == 1


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
    eventually(lambda: has_phase(kubectl, "rds", namespace, "a", "Succeeded"), "the dataset succeeded")
    assert kubelet.started == {f"{namespace}/a-rds-1-prepare": 1}
    assert jobs(kubectl, namespace) == ["job.batch/a-rds-1-prepare"]
