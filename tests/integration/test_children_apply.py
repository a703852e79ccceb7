"""Every golden child is accepted by a real API server, and every pod by its `restricted` Pod Security admission."""

import json
from typing import Any

import pytest

from star_contracts.job import Store
from star_operator.builders.keys import deployment_keys, server_keys, step_keys
from star_operator.builders.network import namespace_policies
from star_operator.builders.step import Owner
from star_operator.core.keys import KeyRing
from star_operator.core.network import IPBlock, Peer, PodNetwork
from star_operator.core.objects import KubeObject
from star_operator.core.outside import Proxy
from star_operator.core.settings import StoreSettings
from tests.support.goldens import CASES, children, resource, settings
from tests.support.kubectl import Kubectl
from tests.support.plans import steps_of

CLASSES = (
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}, "value": 1},
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
)


@pytest.fixture(scope="module")
def restricted(kubectl: Kubectl) -> str:
    """A namespace that admits `restricted` pods only."""
    kubectl.apply(*CLASSES)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "restricted"}}
    kubectl.apply(account)
    return "restricted"


@pytest.mark.parametrize("case", CASES)
def test_children_are_accepted(case: str, kubectl: Kubectl, restricted: str) -> None:
    objects = [moved(obj, restricted) for obj in children(resource(case))]
    pods = [pod(obj) for obj in objects if "template" in obj.get("spec", {})]
    for items, command in ((objects, ("apply", "--server-side")), (pods, ("create",))):
        manifest = {"apiVersion": "v1", "kind": "List", "items": items}
        accepted = kubectl.run(*command, "--dry-run=server", "-o", "name", "-f", "-", stdin=json.dumps(manifest))
        assert len(accepted.splitlines()) == len(items)


NETWORKS = {
    "as the chart ships it": settings(),
    "a role, a proxy, and further ways": settings().model_copy(
        update={
            "store": StoreSettings(uri="s3://star", secret_name="", connection=Store(endpoint="http://[fd00::1]:9000")),
            "proxy": Proxy(https="http://10.0.0.9:3128"),
            "network": PodNetwork(
                outside=(Peer(ip_block=IPBlock(cidr="10.0.0.0/8", except_=("10.1.0.0/16",))),),
                egress=({"to": [{"namespaceSelector": {}}], "ports": [{"port": 15012, "protocol": "TCP"}]},),
            ),
        }
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_namespaces_policies_are_accepted(network: str, kubectl: Kubectl, restricted: str) -> None:
    taken(kubectl, namespace_policies(restricted, NETWORKS[network]))


def test_secrets_with_keys_are_accepted(kubectl: Kubectl, restricted: str) -> None:
    owner = Owner("GRPOJob", restricted, "x" * 253, "0a1b2c3d-0000-0000-0000-000000000001")
    steps = [step for case in ("grpojob-h20", "teacherrun-h20-two-nodes") for step in steps_of(resource(case))]
    made = [step_keys(owner, step, 99, KeyRing()) for step in steps]
    made += [server_keys(restricted, server, KeyRing()) for step in steps for server in step.servers]
    secrets = [one for one in [*made, deployment_keys(owner)] if one is not None]
    assert len(secrets) >= 5
    taken(kubectl, secrets)


def taken(kubectl: Kubectl, items: list[KubeObject]) -> None:
    manifest = {"apiVersion": "v1", "kind": "List", "items": items}
    arguments = ("apply", "--server-side", "--dry-run=server", "-o", "name", "-f", "-")
    assert len(kubectl.run(*arguments, stdin=json.dumps(manifest)).splitlines()) == len(items)


def moved(obj: KubeObject, namespace: str) -> KubeObject:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def pod(owner: KubeObject) -> dict[str, Any]:
    """The pod of a workload's template, with what its controller would add."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    made = {"name": f"{meta['name']}-0", "namespace": meta["namespace"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": template["spec"]}
