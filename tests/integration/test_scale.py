"""A StarDeployment whose servers are scaled to nothing and back, and whose gateway somebody else scales."""

import json
from typing import Any

import pytest

from tests.support.fakekubelet import FakeKubelet
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, names, star, status, wait_phase

OWN = "star.recsys.dev/kind=stardeployment"
GATEWAY = f"{OWN},star.recsys.dev/component=gateway"


def idle(kubectl: Kubectl, namespace: str) -> str:
    """Whether the status says that requests wait for a server."""
    conditions: list[dict[str, Any]] = status(kubectl, "StarDeployment", namespace, "live").get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == "ScaledToZero"), "absent")


def held(kubectl: Kubectl, namespace: str) -> bool:
    """Whether the gateway is told to hold requests."""
    [name] = names(kubectl, "configmaps", namespace, GATEWAY)
    found: bool = json.loads(kubectl.get("configmap", name, namespace)["data"]["gateway.json"])["hold"]
    return found


@pytest.mark.case("scale-to-zero")
@pytest.mark.case("gateway-scale")
def test_servers_go_to_nothing_and_back_while_the_gateway_stays_as_an_autoscaler_made_it(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    spec = {"checkpoint": {"checkpoint": "base"}, "dataset": {"name": "d"}}
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("StarDeployment", namespace, "live", spec))
    wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")
    assert (idle(kubectl, namespace), held(kubectl, namespace)) == ("absent", False)
    kubectl.run("scale", "deployment/live", "--replicas=3", "-n", namespace)
    eventually(lambda: len(names(kubectl, "pods", namespace, GATEWAY)) == 3, "the gateway has three pods")

    kubectl.run("scale", "star/live", "--replicas=0", "-n", namespace)
    eventually(lambda: idle(kubectl, namespace) == "True", "the status says that requests wait")
    eventually(lambda: names(kubectl, "pods", namespace, f"{OWN},star.recsys.dev/component=vllm") == [], "no server")
    assert held(kubectl, namespace)
    wait_phase(kubectl, "StarDeployment", namespace, "live", "Ready")

    kubectl.run("scale", "star/live", "--replicas=1", "-n", namespace)
    eventually(lambda: idle(kubectl, namespace) == "False", "a server answers again")
    eventually(lambda: not held(kubectl, namespace), "the gateway holds nothing back")
    assert kubectl.get("deployment", "live", namespace)["spec"]["replicas"] == 3, "after all these passes"
