"""What a namespace's quota or limits refuse: the resource waits, with the sentence of whoever refused it."""

from typing import Any

import pytest

from tests.support.fakekubelet import FakeKubelet, while_asking
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, ready_message, star, status, wait_message, wait_phase

RESOURCES = {"cpu": "500m", "memory": "4Gi"}


def limits(namespace: str, kind: str) -> dict[str, Any]:
    spec = {
        "ResourceQuota": {"hard": {"limits.memory": "64Gi"}},
        "LimitRange": {"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]},
    }[kind]
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "tenant", "namespace": namespace}, "spec": spec}


def server(nodes: int) -> dict[str, Any]:
    return {"pool": "h20", "gpusPerNode": 1, "nodes": nodes, "resources": RESOURCES}


def inputs(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    wait_phase(kubectl, "recdataset", namespace, "d", "Succeeded")


def refused(kubectl: Kubectl, kind: str, namespace: str, name: str, words: str) -> str:
    """Wait until the resource waits with these words, and return all of them."""
    said: list[str] = [""]

    def waits() -> bool:
        found = status(kubectl, kind, namespace, name)
        said[0] = f"{found.get('phase')}: {ready_message(found)}"
        return found.get("phase") == "Waiting" and words in said[0]

    try:
        eventually(waits, f"{kind} {name} waits and says {words!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {said[0]}") from None
    return said[0]


@pytest.mark.case("quota-server")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ResourceQuota", "failed quota: tenant: must specify limits.memory for: fetch"),
        ("LimitRange", "must be less than or equal to memory limit of 2Gi"),
    ],
)
@pytest.mark.parametrize(("nodes", "workload"), [(1, "Deployment"), (2, "StatefulSet")])
def test_a_deployment_whose_servers_pods_are_refused_waits_and_goes_on_when_they_are_not(
    kubectl: Kubectl,
    operator: OperatorProcess,
    kubelet: FakeKubelet,
    namespace: str,
    kind: str,
    words: str,
    nodes: int,
    workload: str,
) -> None:
    inputs(kubectl, namespace)
    kubectl.apply(limits(namespace, kind))
    served = {"tensorParallelSize": nodes, "compute": server(nodes)}
    spec = {"checkpoint": {"checkpoint": "base"}, "dataset": {"name": "d"}, "server": served}
    kubectl.apply(star("StarDeployment", namespace, "live", spec))
    said = refused(kubectl, "stardeployment", namespace, "live", "cannot make its pods: ")
    assert workload in said
    assert words in said
    kubectl.run("delete", kind, "tenant", "-n", namespace)
    wait_phase(kubectl, "stardeployment", namespace, "live", "Ready")


@pytest.mark.case("quota-server")
def test_a_run_whose_servers_pods_are_refused_waits(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    inputs(kubectl, namespace)
    kubectl.apply(limits(namespace, "ResourceQuota"))
    kubelet.script = while_asking("verbalize-signals")
    compute = {"pool": "cpu", "resources": {"memory": "512Mi", "memoryLimit": "1Gi"}}
    llm = {"server": {"model": {"checkpoint": "base"}, "compute": server(1)}}
    kubectl.apply(
        star("Verbalization", namespace, "v", {"dataset": {"name": "d"}, "llm": llm, "compute": compute}),
    )
    said = refused(kubectl, "verbalization", namespace, "v", "failed quota: tenant: must specify limits.memory")
    assert "waits for LLM server" in said


def test_a_quota_of_objects_is_waited_for_and_is_no_failure(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    metadata = {"name": "objects", "namespace": namespace}
    spec = {"hard": {"count/jobs.batch": "0"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    kubectl.apply(quota)
    eventually(
        lambda: "hard" in kubectl.get("resourcequota", "objects", namespace).get("status", {}), "the quota counts"
    )
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    said = refused(kubectl, "recdataset", namespace, "d", "exceeded quota: objects")
    assert "count/jobs.batch" in said
    kubectl.run("delete", "resourcequota", "objects", "-n", namespace)
    wait_message(kubectl, "recdataset", namespace, "d", "artifact stored")
