"""Gates before pods, and one revision after the other."""

import json
from typing import Any

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.job import JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, DIGEST, checkpoint, names, ready_message, star, status, wait_phase

OTHER = "sha256:" + "c" * 64
OWN = "star.recsys.dev/kind=stardeployment"


def deployment(namespace: str, at_least: float, model: str = "base", **more: Any) -> dict[str, Any]:
    gates = {"rules": [{"metric": "hrAvg", "value": at_least}], "settings": {"tools": False}}
    spec = {"checkpoint": {"checkpoint": model}, "dataset": {"name": "d"}, "gates": gates, **more}
    return star("StarDeployment", namespace, "live", spec)


def gateway_annotations(kubectl: Kubectl, namespace: str) -> list[str]:
    """The digests of the configuration on the gateway's pods."""
    pods = names(kubectl, "pods", namespace, f"{OWN},star.recsys.dev/component=gateway")
    found = [kubectl.get("pod", pod, namespace)["metadata"].get("annotations", {}) for pod in pods]
    return [annotations.get("star.recsys.dev/config", "") for annotations in found]


def scale(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """What an autoscaler sees."""
    command = ("get", "stardeployment", "live", "-n", namespace, "--subresource=scale", "-o", "json")
    found: dict[str, Any] = json.loads(kubectl.run(*command))["status"]
    return found


def weights(kubectl: Kubectl, namespace: str) -> list[int]:
    """The revisions' shares by the status."""
    return [one["weight"] for one in status(kubectl, "StarDeployment", namespace, "live")["revisions"]]


def backends(kubectl: Kubectl, namespace: str) -> list[int]:
    """The revisions' shares by the gateway's configuration."""
    [name] = names(kubectl, "configmaps", namespace, f"{OWN},star.recsys.dev/component=gateway")
    config = json.loads(kubectl.get("configmap", name, namespace)["data"]["gateway.json"])
    return [one["weight"] for one in config["backends"]]


def test_a_gate_out_of_reach_starts_no_serving_pods_and_says_measured_against_required(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(deployment(namespace, 0.99))
    found = wait_phase(kubectl, "StarDeployment", namespace, "live", "Gated")
    assert "hrAvg measured 0.5, required >= 0.99" in ready_message(found)
    assert "nothing is served" in ready_message(found)
    assert names(kubectl, "deployments", namespace, OWN) == []
    assert names(kubectl, "pods", namespace, OWN) == []
    assert found.get("servingDigest", "") == ""


def test_a_checkpoint_that_passes_is_served_by_its_digest(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET), deployment(namespace, 0.4))
    found = wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")
    assert found["servingDigest"] == DIGEST
    assert [revision["gate"] for revision in found["revisions"]] == ["Passed"]
    [config] = names(kubectl, "configmaps", namespace, f"{OWN},star.recsys.dev/component=gateway")
    told = value_hash(kubectl.get("configmap", config, namespace)["data"])
    eventually(lambda: gateway_annotations(kubectl, namespace) == [told], "the gateway's pods are told of their file")
    [verdict] = kubectl.get("checkpoint", "base", namespace)["status"]["verdicts"]
    assert verdict["metrics"]["hrAvg"] == 0.5


def test_gates_that_are_tightened_turn_no_server_off(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET), deployment(namespace, 0.4))
    wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")
    kubectl.apply(deployment(namespace, 0.99))
    found = wait_phase(kubectl, "StarDeployment", namespace, "live", "Gated")
    assert ready_message(found).endswith(f"revision {DIGEST[7:19]} goes on serving")
    assert found["servingDigest"] == DIGEST
    assert [(one["gate"], one["weight"]) for one in found["revisions"]] == [("Failed", 100)]


def test_what_serves_goes_on_while_a_worse_checkpoint_is_turned_away_and_a_better_one_takes_over(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    scores = {DIGEST: 0.5, OTHER: 0.1}

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult:
        if spec.stage.stage != "evaluate":
            return succeed(spec, pod)
        assert spec.stage.llm is not None
        digest = next(digest for digest in scores if spec.stage.llm.model in digest)
        report = ArtifactRef(uri=spec.output, digest=value_hash({"of": digest}))
        return JobResult(artifact=report, metrics={"hrAvg": scores[digest]})

    kubelet.script = script
    kubectl.apply(checkpoint(namespace), checkpoint(namespace, "next", OTHER))
    kubectl.apply(star("RecDataset", namespace, "d", DATASET), deployment(namespace, 0.4))
    wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")
    [server] = names(kubectl, "deployments", namespace, f"{OWN},app.kubernetes.io/name=vllm")
    [gateway] = names(kubectl, "pods", namespace, f"{OWN},star.recsys.dev/component=gateway")
    eventually(lambda: gateway_annotations(kubectl, namespace) != [""], "the gateway's pod is told of its file")
    before = gateway_annotations(kubectl, namespace)

    kubectl.apply(deployment(namespace, 0.4, "next"))
    found = wait_phase(kubectl, "StarDeployment", namespace, "live", "Gated")
    assert "hrAvg measured 0.1, required >= 0.4" in ready_message(found)
    assert f"revision {DIGEST[7:19]} goes on serving" in ready_message(found)
    assert names(kubectl, "deployments", namespace, f"{OWN},app.kubernetes.io/name=vllm") == [server]

    kubectl.run("scale", "stardeployment", "live", "-n", namespace, "--replicas=2")
    eventually(lambda: scale(kubectl, namespace)["replicas"] == 2, "what serves is scaled, whatever waits at the gates")
    assert len(names(kubectl, "pods", namespace, scale(kubectl, namespace)["selector"])) == 2
    assert len(names(kubectl, "evaluations", namespace)) == 2, "to scale is not to measure again"

    kubelet.ignored = lambda pod: "star.recsys.dev/server" in pod["metadata"]["labels"]
    steps = [{"weight": 20, "pauseSeconds": 20}]
    kubectl.apply(deployment(namespace, 0.05, "next", rollout={"steps": steps}))

    def waits_for_the_new_server() -> bool:
        message = ready_message(status(kubectl, "StarDeployment", namespace, "live"))
        return message.startswith("server ") and message.endswith(f"; revision {DIGEST[7:19]} goes on serving")

    eventually(waits_for_the_new_server, "the condition tells of the server that starts and of the one that serves")
    assert status(kubectl, "StarDeployment", namespace, "live")["servingDigest"] == DIGEST
    kubelet.ignored = lambda pod: False
    eventually(
        lambda: weights(kubectl, namespace) == backends(kubectl, namespace) == [80, 20],
        "the new revision has the first step's share",
    )
    eventually(
        lambda: wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")["servingDigest"] == OTHER,
        "the next checkpoint serves",
    )
    eventually(
        lambda: server not in names(kubectl, "deployments", namespace, f"{OWN},app.kubernetes.io/name=vllm"),
        "the old server is gone",
    )
    eventually(lambda: gateway_annotations(kubectl, namespace) != before, "the gateway's pod is told of another file")
    assert names(kubectl, "pods", namespace, f"{OWN},star.recsys.dev/component=gateway") == [gateway], "the same pod"
