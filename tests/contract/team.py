"""Promotions on a real API server: users with the chart's roles, the guard in force, and the operator's own rights."""

from itertools import count
from typing import Any

import yaml

from star_cli.local.controlplane import ControlPlane
from star_cli.local.errors import LocalClusterError
from star_cli.local.kubeapi import KubeApi
from star_contracts.names import GROUP, VERSION
from tests.contract.bad_manifests import sample
from tests.support.helm import CHART, render
from tests.support.kubectl import eventually

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CRDS = CHART / "resources" / "crds"
OPERATOR = "system:serviceaccount:star-system:star-operator"
NAMESPACE = "approvals"
RIGHTS = {
    "ann": ("star-operator-approver",),
    "bob": ("star-operator-edit", "star-operator-approver"),
    "eve": ("star-operator-edit",),
    "own": ("star-operator-edit", "star-operator-overrider"),
}
"""Users, and the chart's roles that each is bound to."""
PLURALS = {
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ValidatingAdmissionPolicy": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
KINDS = ("promotions", "promotionpolicies", "checkpoints", "evaluations", "recdatasets", "stardeployments")
HERE = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}"
SECONDS = 60.0


class Team:
    """A namespace with users, and the guard in force."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.admin = KubeApi(control_plane.kubeconfig, timeout=SECONDS)
        self.users = {user: KubeApi(control_plane.user_kubeconfig(user), timeout=SECONDS) for user in RIGHTS}

    def install(self) -> None:
        """Make all of it."""
        for plural in KINDS:
            crd = yaml.safe_load((CRDS / f"{plural}.{GROUP}.yaml").read_text())
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            self.admin.apply(crd, path)
        self.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for obj in render():
            if obj["kind"] in PLURALS:
                self.admin.apply(obj, f"/{PLURALS[obj['kind']]}/{obj['metadata']['name']}")
        for user, roles in RIGHTS.items():
            for role in roles:
                bound = binding(user, role)
                path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"
                self.admin.apply(bound, f"{path}/{bound['metadata']['name']}")
        eventually(self.is_served, "the CRD is served")
        self.put(promotion("probe"))
        forged = (self.refusal("bob", "probe", approvals=[approval(f"zoe-{n}")]) for n in count())
        eventually(lambda: "spec.approvals: you are" in next(forged), "the guard is in force")

    def is_served(self) -> bool:
        try:
            return all(self.admin.get(f"{HERE}/{plural}") is not None for plural in KINDS)
        except LocalClusterError:  # its storage is being made
            return False

    def put(self, body: dict[str, Any]) -> None:
        plural = "promotionpolicies" if body["kind"] == "PromotionPolicy" else f"{body['kind'].lower()}s"
        self.admin.apply(body, f"{HERE}/{plural}/{body['metadata']['name']}")

    def get(self, name: str) -> dict[str, Any]:
        found = self.admin.get(f"{HERE}/promotions/{name}")
        assert found is not None
        return found

    def patch(self, user: str, name: str, **spec: Any) -> None:
        """Merge-patch a Promotion's spec as a user."""
        self.users[user].merge(f"{HERE}/promotions/{name}", {"spec": spec})

    def refusal(self, user: str, name: str, **spec: Any) -> str:
        """What the API server says; empty where it takes it."""
        try:
            self.patch(user, name, **spec)
        except LocalClusterError as error:
            return str(error)
        return ""


def binding(user: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{user}-{role}", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


def promotion(name: str, **spec: Any) -> dict[str, Any]:
    body = sample("promotion")
    body["metadata"] = {"name": name, "namespace": NAMESPACE}
    body["spec"] |= spec
    return body


def approval(user: str, digest: str = DIGEST) -> dict[str, str]:
    return {"user": user, "digest": digest}
