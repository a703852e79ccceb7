"""Every golden child is accepted by a real API server, and every pod by its `restricted` Pod Security admission."""

import json
from typing import Any

import pytest

from star_operator.core.objects import KubeObject
from tests.support.goldens import CASES, children, resource
from tests.support.kubectl import Kubectl

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


def moved(obj: KubeObject, namespace: str) -> KubeObject:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def pod(owner: KubeObject) -> dict[str, Any]:
    """The pod of a workload's template, with what its controller would add."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    made = {"name": f"{meta['name']}-0", "namespace": meta["namespace"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": template["spec"]}
