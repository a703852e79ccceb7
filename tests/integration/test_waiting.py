"""Whatever waits says why, in a condition that names the field: Secrets, nodes, quotas, deadlines."""

import base64
from typing import Any

import pytest

from star_contracts.job import JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import CREATING, RUNNING, FakeKubelet, succeed, while_asking
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, names, ready_message, star, status, wait_message, wait_phase

ENDPOINT = {"endpoint": {"url": "http://llm.test/v1", "model": "m", "secretRef": {"name": "llm-key"}}}
EVALUATION = {"dataset": {"name": "d"}, "llm": ENDPOINT, "settings": {"tools": False}}


def is_evaluation(pod: dict[str, Any]) -> bool:
    return str(pod["metadata"]["labels"].get("star.recsys.dev/kind")) == "evaluation"


def reason(kubectl: Kubectl, kind: str, namespace: str, name: str) -> str:
    conditions = status(kubectl, kind, namespace, name).get("conditions", [])
    return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")


@pytest.mark.bad_input
def test_a_missing_api_key_is_waited_for_by_name_and_the_run_goes_on_when_it_is_there(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    missing = {"llm-key"}
    kubelet.stuck = lambda pod: 'secret "llm-key" not found' if missing and is_evaluation(pod) else ""
    kubectl.apply(star("RecDataset", namespace, "d", DATASET), star("Evaluation", namespace, "e", EVALUATION))
    eventually(lambda: reason(kubectl, "evaluation", namespace, "e") == "SecretMissing", "the condition says it")
    assert ready_message(status(kubectl, "evaluation", namespace, "e")) == (
        f"step evaluate: namespace {namespace} has no Secret llm-key, which spec.llm.endpoint.secretRef names; "
        "create it with apiKey, or correct the name"
    )
    missing.clear()
    wait_phase(kubectl, "evaluation", namespace, "e", "Succeeded")


@pytest.mark.bad_input
def test_a_volume_that_cannot_be_mounted_is_told_from_its_event(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    """The kubelet makes no container before its volumes are there: only an Event says that a Secret lacks a key."""
    kubelet.stuck = lambda pod: CREATING if is_evaluation(pod) else ""
    kubectl.apply(star("RecDataset", namespace, "d", DATASET), star("Evaluation", namespace, "e", EVALUATION))
    eventually(lambda: len(names(kubectl, "pods", namespace, "star.recsys.dev/kind=evaluation")) == 1, "there is a pod")
    [pod] = names(kubectl, "pods", namespace, "star.recsys.dev/kind=evaluation")
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "mount", "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": pod,
                "uid": kubectl.get("pod", pod, namespace)["metadata"]["uid"],
            },
            "reason": "FailedMount",
            "message": 'MountVolume.SetUp failed for volume "star" : references non-existent secret key: apiKey',
            "type": "Warning",
        }
    )
    eventually(lambda: reason(kubectl, "evaluation", namespace, "e") == "SecretIncomplete", "the condition says it")
    assert "spec.llm.endpoint.secretRef names, has no key apiKey" in ready_message(
        status(kubectl, "evaluation", namespace, "e")
    )


@pytest.mark.bad_input
def test_an_empty_key_of_the_stores_secret_is_waited_for_and_no_pod_is_made(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    data = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": base64.b64encode(b"key").decode()}
    metadata = {"name": "star-store", "namespace": namespace}
    kubectl.run("delete", "secret", "star-store", "-n", namespace)
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    empty = f"Secret star-store in namespace {namespace} has no AWS_ACCESS_KEY_ID, or an empty one"
    assert wait_message(kubectl, "recdataset", namespace, "a", empty) == f"{empty}; add what is missing"
    assert names(kubectl, "pods", namespace) == []


@pytest.mark.bad_input
def test_a_deployment_without_the_stores_secret_starts_no_pods_and_one_without_callers_keys_says_so(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.stuck = lambda pod: (
        'secret "callers" not found' if pod["metadata"]["labels"].get("star.recsys.dev/component") == "gateway" else ""
    )
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    wait_phase(kubectl, "RecDataset", namespace, "d", "Succeeded")
    secret = kubectl.get("secret", "star-store", namespace)
    kubectl.run("delete", "secret", "star-store", "-n", namespace)
    spec = {
        "checkpoint": {"checkpoint": "base"},
        "dataset": {"name": "d"},
        "gateway": {"apiKeys": {"name": "callers", "key": "keys.txt"}},
    }
    kubectl.apply(star("StarDeployment", namespace, "live", spec))
    wait_message(kubectl, "StarDeployment", namespace, "live", f"namespace {namespace} has no Secret star-store")
    assert names(kubectl, "deployments", namespace) == []
    metadata = {"name": "star-store", "namespace": namespace}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]})
    wanted = "no Secret callers, which spec.gateway.apiKeys names; create it with keys.txt"
    eventually(
        lambda: wanted in ready_message(status(kubectl, "StarDeployment", namespace, "live")), "the condition says it"
    )


def test_a_pod_without_a_node_says_what_it_wants_and_what_the_scheduler_says(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    """The scheduler is the real one; there is no node at all."""
    server = {"model": {"checkpoint": "base"}, "tensorParallelSize": 8, "compute": {"pool": "h20", "gpusPerNode": 8}}
    spec = {**EVALUATION, "llm": {"server": server}}
    kubelet.ignored = lambda pod: "star.recsys.dev/server" in pod["metadata"]["labels"]
    kubelet.script = while_asking("evaluate")
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "e", spec))
    # The server's pod is the one meant: that of the stage has no node either until the kubelet takes it.
    wanted = "waits for a node: 8 x nvidia.com/gpu wanted on nodes with star.recsys.dev/pool=h20"
    eventually(lambda: wanted in ready_message(status(kubectl, "evaluation", namespace, "e")), "the condition says it")
    found = status(kubectl, "evaluation", namespace, "e")
    assert found["phase"] == "Waiting"
    assert "the scheduler says: no nodes available to schedule pods" in ready_message(found)
    assert reason(kubectl, "evaluation", namespace, "e") == "Unschedulable"


def test_a_quota_that_refuses_a_jobs_pods_is_told(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.run("create", "quota", "none", "-n", namespace, "--hard=pods=0")
    kubectl.apply(star("RecDataset", namespace, "a", DATASET))
    eventually(lambda: reason(kubectl, "recdataset", namespace, "a") == "PodsRefused", "the condition says it")
    assert "exceeded quota: none" in ready_message(status(kubectl, "recdataset", namespace, "a"))
    kubectl.run("delete", "quota", "none", "-n", namespace)
    wait_phase(kubectl, "recdataset", namespace, "a", "Succeeded")


def test_another_deadline_reaches_the_running_job(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    held = True

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        return RUNNING if held else succeed(spec, pod)

    kubelet.script = script
    kubectl.apply(star("RecDataset", namespace, "a", {**DATASET, "activeDeadlineSeconds": 5000}))
    eventually(lambda: kubelet.started[f"{namespace}/a-rds-1-prepare"] == 1, "the pod runs")

    def deadline() -> int | None:
        found: int | None = kubectl.get("job", "a-rds-1-prepare", namespace)["spec"].get("activeDeadlineSeconds")
        return found

    def change(value: str) -> None:
        patch = f'{{"spec":{{"activeDeadlineSeconds":{value}}}}}'
        kubectl.run("patch", "recdataset", "a", "-n", namespace, "--type=merge", "-p", patch)

    assert deadline() == 5000
    change("9000")
    eventually(lambda: deadline() == 9000, "the Job has the longer deadline")
    change("null")
    eventually(lambda: deadline() is None, "the Job has no deadline any more")
    change("1")
    found = wait_phase(kubectl, "recdataset", namespace, "a", "Failed")
    assert "ran longer than spec.activeDeadlineSeconds" in ready_message(found)
    assert names(kubectl, "pods", namespace) == []
    held = False
