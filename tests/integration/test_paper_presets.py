"""The paper's presets on a cluster without GPUs: the right pods are made, wait, and the resource says for what.

The scheduler is real and has one node, with CPUs alone. What a preset builds on (datasets, signals, trajectories,
checkpoints) is recorded as done before the operator starts.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.job import JobSpec, LookUp
from star_contracts.result import JobResult
from tests.support.fakekubelet import ASKING, FakeKubelet, succeed
from tests.support.fakenode import fake_node
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.paper import preset
from tests.support.star import DIGEST, checkpoint, ready_message, star, status, wait_phase

SUITE = "goodreads"
GPU = "nvidia.com/gpu"
CAPACITY = {"cpu": "256", "memory": "2Ti", "ephemeral-storage": "4Ti", "pods": "500"}


@pytest.fixture
def node(kubectl: Kubectl) -> Iterator[str]:
    with fake_node(kubectl, "cpus", CAPACITY) as name:
        yield name


@pytest.fixture
def asking(kubelet: FakeKubelet) -> FakeKubelet:
    """Pods without GPUs run and ask for their model, look-ups find nothing; pods with GPUs have no node."""
    kubelet.script = lambda spec, pod: succeed(spec, pod) if isinstance(spec.stage, LookUp) else ASKING
    kubelet.ignored = lambda pod: gpus(pod) > 0
    return kubelet


@pytest.fixture
def inputs(kubectl: Kubectl, namespace: str, node: str) -> str:
    """Everything the presets of a suite are made from, done."""
    for kind, name in (("RecDataset", SUITE), ("Verbalization", SUITE), ("TeacherRun", SUITE)):
        apply_preset(kubectl, namespace, kind, name)
        record(kubectl, namespace, kind, name, {"phase": "Succeeded", "artifact": artifact(kind), "attempt": 1})
    kubectl.apply(checkpoint(namespace, f"{SUITE}-sft"), checkpoint(namespace, f"{SUITE}-star"))
    return namespace


def artifact(kind: str) -> dict[str, Any]:
    return {"uri": f"s3://star/artifacts/x/{kind.lower()}/x/1/x", "digest": DIGEST, "bytes": 1}


def apply_preset(kubectl: Kubectl, namespace: str, kind: str, name: str) -> None:
    kubectl.apply(star(kind, namespace, name, preset(kind, name).spec))


def record(kubectl: Kubectl, namespace: str, kind: str, name: str, found: dict[str, Any]) -> None:
    body = json.dumps({"status": found})
    kubectl.run("patch", kind.lower(), name, "-n", namespace, "--subresource=status", "--type=merge", "-p", body)


def gpu_pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    """The pods that ask for GPUs."""
    found: list[dict[str, Any]] = json.loads(kubectl.run("get", "pods", "-n", namespace, "-o", "json"))["items"]
    return [pod for pod in found if gpus(pod)]


def gpus(pod: dict[str, Any]) -> int:
    return int(pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get(GPU, 0))


def waits_for(kubectl: Kubectl, namespace: str, kind: str, name: str, wanted: list[int]) -> str:
    """Wait until the pods with these numbers of GPUs are Pending and the resource says why; return what it says."""
    eventually(lambda: sorted(gpus(pod) for pod in gpu_pods(kubectl, namespace)) == wanted, f"{wanted} GPUs asked for")

    def said() -> str:
        return ready_message(status(kubectl, kind, namespace, name))

    eventually(lambda: "0/1 nodes are available" in said(), f"{kind} {name} says what the scheduler says")
    for pod in gpu_pods(kubectl, namespace):
        assert pod["status"]["phase"] == "Pending"
        assert pod["spec"]["nodeSelector"] == {"star.recsys.dev/pool": "h20"}
        assert "nodeName" not in pod["spec"]
    message = said()
    assert GPU in message, "what is missing"
    assert "star.recsys.dev/pool=h20" in message, "and where it would be"
    return message


def test_the_teacher_waits_for_two_nodes_of_eight_gpus(
    kubectl: Kubectl, inputs: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    apply_preset(kubectl, inputs, "TeacherRun", f"{SUITE}-mars")
    message = waits_for(kubectl, inputs, "TeacherRun", f"{SUITE}-mars", [8, 8])
    assert "step generate waits for LLM server llm-" in message
    workers = kubectl.run("get", "pods", "-n", inputs, "-l", "star.recsys.dev/step=generate", "-o", "name").split()
    assert len(workers) == 4, "the workers have a node, and ask for the server"


def test_the_hybrid_waits_for_both_of_its_servers(
    kubectl: Kubectl, inputs: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    kubectl.apply(checkpoint(inputs, f"{SUITE}-planner"))
    apply_preset(kubectl, inputs, "TeacherRun", f"{SUITE}-mars-planner")
    waits_for(kubectl, inputs, "TeacherRun", f"{SUITE}-mars-planner", [1, 8, 8])


def test_sft_waits_for_a_node_of_eight_gpus(
    kubectl: Kubectl, inputs: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    apply_preset(kubectl, inputs, "SFTJob", f"{SUITE}-4b-sft")
    message = waits_for(kubectl, inputs, "SFTJob", f"{SUITE}-4b-sft", [8])
    assert "step train" in message
    assert status(kubectl, "SFTJob", inputs, f"{SUITE}-4b-sft")["phase"] == "Waiting"


def test_a_model_that_is_there_is_found_without_a_gpu(
    kubectl: Kubectl, inputs: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    """Also by a training job that is created anew under the same name: it keeps the Checkpoint of the one before."""
    asking.script = lambda spec, pod: memory(spec) if isinstance(spec.stage, LookUp) else ASKING
    name, lineages = f"{SUITE}-4b-sft", set()
    for _ in range(2):
        apply_preset(kubectl, inputs, "SFTJob", name)
        found = wait_phase(kubectl, "SFTJob", inputs, name, "Succeeded")
        assert ready_message(found) == "artifact of equal work reused"
        assert [(step["name"], step["reused"]) for step in found["steps"]] == [("train", True)]
        assert gpu_pods(kubectl, inputs) == []
        record_of_it = kubectl.get("checkpoint", name, inputs)["spec"]
        assert record_of_it["digest"] == found["artifact"]["digest"]
        lineages.add(record_of_it["lineage"]["producerUid"])
        kubectl.run("delete", "sftjob", name, "-n", inputs)
    assert len(lineages) == 1


def memory(spec: JobSpec) -> JobResult:
    """What a look-up answers that has found the artifact."""
    ref = ArtifactRef(uri=spec.output, digest=value_hash({"work": spec.producer.work_hash}))
    return JobResult(artifact=ref, bytes=1, metrics={"loss": 1.0}, reused=True)


@pytest.fixture
def sampled(kubectl: Kubectl, inputs: str) -> str:
    """A GRPOJob that has chosen its RL set."""
    name = f"{SUITE}-4b-star"
    kubectl.apply(checkpoint(inputs, f"{SUITE}-4b-sft"))
    apply_preset(kubectl, inputs, "GRPOJob", name)
    done = {"name": "sample", "phase": "Succeeded", "artifact": artifact("samples")}
    record(kubectl, inputs, "GRPOJob", name, {"phase": "Running", "attempt": 1, "steps": [done]})
    return name


def test_grpo_waits_for_sixteen_gpus_once_its_set_is_chosen(
    kubectl: Kubectl, inputs: str, sampled: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    assert "step train" in waits_for(kubectl, inputs, "GRPOJob", sampled, [8, 8])


def test_the_result_is_not_served_before_its_gate_found_a_gpu(
    kubectl: Kubectl, inputs: str, operator: OperatorProcess, asking: FakeKubelet
) -> None:
    apply_preset(kubectl, inputs, "StarDeployment", SUITE)
    message = waits_for(kubectl, inputs, "StarDeployment", SUITE, [1])
    assert message.startswith("Evaluation "), "the gate's measurement is what waits"
