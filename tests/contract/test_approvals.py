"""Who may approve and override, as a real API server sees it: each user for themselves, and with the right to alone."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from star_cli.local.controlplane import ControlPlane
from star_cli.local.errors import LocalClusterError
from star_cli.local.kubeapi import KubeApi
from star_cli.promotion import approve, override, take_back
from star_contracts.names import GROUP, VERSION
from star_operator.api.approvals import binds, is_whole
from tests.contract.bad_manifests import sample
from tests.contract.conftest import CRDS
from tests.support.helm import render
from tests.support.kubectl import eventually

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAMESPACE = "approvals"
RIGHTS = {
    "ann": ("star-operator-approver",),
    "bob": ("star-operator-edit", "star-operator-approver"),
    "eve": ("star-operator-edit",),
    "own": ("star-operator-edit", "star-operator-overrider"),
}
"""Users, and the chart's roles that each is bound to."""
PLURALS = {
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ValidatingAdmissionPolicy": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
HERE = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}"
SECONDS = 60.0


class Team:
    """A namespace with users, and the guard in force."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.admin = KubeApi(control_plane.kubeconfig, timeout=SECONDS)
        self.users = {user: KubeApi(control_plane.user_kubeconfig(user), timeout=SECONDS) for user in RIGHTS}

    def install(self) -> None:
        """Make all of it."""
        for plural in ("promotions", "promotionpolicies"):
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
        forged = [approval("zoe")]
        said = "spec.approvals: you are"
        eventually(lambda: said in self.refusal("bob", "probe", approvals=forged), "the guard is in force")

    def is_served(self) -> bool:
        try:
            return self.admin.get(f"{HERE}/promotions") is not None
        except LocalClusterError:  # its storage is being made
            return False

    def put(self, body: dict[str, Any]) -> None:
        plural = "promotions" if body["kind"] == "Promotion" else "promotionpolicies"
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


@pytest.fixture(scope="module")
def team(control_plane: ControlPlane) -> Team:
    found = Team(control_plane)
    found.install()
    return found


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


@pytest.fixture
def name(team: Team, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Promotion that bob has approved."""
    found = f"p-{abs(hash(request.node.name)) % 10**8}"
    team.put(promotion(found))
    team.patch("bob", found, approvals=[approval("bob")])
    yield found
    team.admin.delete(f"{HERE}/promotions/{found}")


def test_an_own_approval_is_taken_and_may_be_taken_back(team: Team, name: str) -> None:
    team.patch("ann", name, approvals=[approval("bob"), approval("ann")])
    team.patch("ann", name, approvals=[approval("bob")])
    team.patch("bob", name, approvals=[])
    assert team.get(name)["spec"].get("approvals", []) == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("user", "spec", "says"),
    [
        ("ann", {"approvals": [approval("bob"), approval("zoe")]}, "you are ann, and approve as yourself alone"),
        ("ann", {"approvals": [approval("ann")]}, "you are ann, and take back your own approval alone"),
        ("ann", {"approvals": []}, "you are ann, and take back your own approval alone"),
        ("ann", {"approvals": [approval("bob", OTHER)]}, "you are ann, and approve as yourself alone"),
        ("eve", {"approvals": [approval("bob"), approval("eve")]}, "eve has no right to approve: it needs the verb"),
        ("eve", {"override": {"user": "eve", "reason": "x"}}, "eve has no right to override: it needs the verb"),
        ("bob", {"override": {"user": "bob", "reason": "x"}}, "bob has no right to override"),
        ("own", {"override": {"user": "eve", "reason": "x"}}, "you are own, and override as yourself alone"),
        ("own", {"approvals": [approval("bob"), approval("own")]}, "own has no right to approve"),
    ],
)
def test_what_is_another_ones_is_refused(team: Team, name: str, user: str, spec: dict[str, Any], says: str) -> None:
    said = team.refusal(user, name, **spec)
    assert says in said
    assert "(403)" in said


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", [{"approvals": [approval("zoe")]}, {"override": {"user": "zoe", "reason": "x"}}])
def test_what_is_forged_is_refused_when_it_is_created(team: Team, spec: dict[str, Any]) -> None:
    with pytest.raises(LocalClusterError, match="as yourself alone"):
        team.users["bob"].create(f"{HERE}/promotions", promotion("forged", **spec))


def test_one_may_be_created_with_an_own_approval(team: Team) -> None:
    team.users["bob"].create(f"{HERE}/promotions", promotion("own", approvals=[approval("bob")]))


def test_an_override_is_taken_from_whom_it_may_be_and_stays(team: Team, name: str) -> None:
    team.patch("own", name, override={"user": "own", "reason": "the shop is down"})
    assert "override cannot be changed" in team.refusal("own", name, override=None)
    assert "override cannot be changed" in team.refusal("own", name, override={"user": "own", "reason": "y"})


def test_other_changes_need_no_right_to_approve(team: Team, name: str) -> None:
    team.patch("eve", name, suspend=True)
    team.patch("eve", name, cancel=True)
    assert "cancel cannot be taken back" in team.refusal("eve", name, cancel=False)


@pytest.mark.bad_input
def test_who_edits_may_not_change_what_an_environment_requires(team: Team) -> None:
    body = sample("promotionpolicy")
    body["metadata"]["namespace"] = NAMESPACE
    team.put(body)
    path = f"{HERE}/promotionpolicies/{body['metadata']['name']}"
    with pytest.raises(LocalClusterError, match="forbidden"):
        team.users["eve"].merge(path, {"spec": {"requires": None}})


def test_the_command_line_approves_overrides_and_takes_back(team: Team, name: str) -> None:
    pinned = {"checkpoint": {"uri": "s3://star/models/x", "digest": DIGEST}}
    team.admin.delete(f"{HERE}/promotions/{name}")
    team.put(promotion(name, **pinned))
    assert "ann approved sha256:aaaa" in approve(team.users["ann"], NAMESPACE, name, "looks good")
    approve(team.users["bob"], NAMESPACE, name, None)
    assert [one["user"] for one in team.get(name)["spec"]["approvals"]] == ["ann", "bob"]
    take_back(team.users["ann"], NAMESPACE, name)
    assert [one["user"] for one in team.get(name)["spec"]["approvals"]] == ["bob"]
    override(team.users["own"], NAMESPACE, name, "the shop is down")
    assert team.get(name)["spec"]["override"] == {"user": "own", "reason": "the shop is down"}


def test_the_operator_knows_its_guard_by_what_the_api_server_has(team: Team) -> None:
    name = "star-operator-approvals"
    policy = team.admin.get(f"/{PLURALS['ValidatingAdmissionPolicy']}/{name}")
    bound = team.admin.get(f"/{PLURALS['ValidatingAdmissionPolicyBinding']}/{name}")
    assert policy is not None
    assert bound is not None
    assert is_whole(policy["spec"])
    assert binds(bound["spec"], name)
    assert not (policy.get("status", {}).get("typeChecking") or {}).get("expressionWarnings")
    for key, value in (("failurePolicy", "Ignore"), ("validations", policy["spec"]["validations"][:-1])):
        assert not is_whole({**policy["spec"], key: value})
    narrowed = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    assert not is_whole({**policy["spec"], "matchConstraints": {**policy["spec"]["matchConstraints"], **narrowed}})
    assert not binds({**bound["spec"], "validationActions": ["Warn"]}, name)
    assert not binds({**bound["spec"], "matchResources": {**bound["spec"].get("matchResources", {}), **narrowed}}, name)
