"""Who may approve and override, as a real API server sees it: each user for themselves, and with the right to alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from star_operator.api.approvals import binds, is_whole
from tests.contract.bad_manifests import sample
from tests.support.helm import render
from tests.support.kubectl import Kubectl, eventually

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAMESPACE = "approvals"
RIGHTS = {
    "ann": ("star-operator-approver",),
    "bob": ("star-operator-edit", "star-operator-approver"),
    "eve": ("star-operator-edit",),
    "own": ("star-operator-edit", "star-operator-overrider"),
}
"""Users, and the chart's roles that each is bound to."""
GUARD = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@pytest.fixture(scope="module")
def team(kubectl: Kubectl) -> Kubectl:
    """A namespace with users, and the guard in force."""
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    kubectl.apply(*(obj for obj in render() if obj["kind"] in (*GUARD, "ClusterRole")))
    for user, roles in RIGHTS.items():
        kubectl.apply(*(binding(user, role) for role in roles))
    kubectl.apply(promotion("probe"))
    forged = [approval("zoe")]
    said = "spec.approvals: you are"
    eventually(lambda: said in refusal(kubectl, "bob", "probe", approvals=forged), "the guard is in force")
    return kubectl


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


def patch(kubectl: Kubectl, user: str, name: str, **spec: Any) -> None:
    """Merge-patch a Promotion's spec as a user."""
    body = json.dumps({"spec": spec})
    kubectl.run("patch", "promotion", name, "-n", NAMESPACE, "--as", user, "--type", "merge", "-p", body)


def refusal(kubectl: Kubectl, user: str, name: str, **spec: Any) -> str:
    """What the API server says; empty where it takes it."""
    try:
        patch(kubectl, user, name, **spec)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture
def name(team: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Promotion that bob has approved."""
    found = f"p-{abs(hash(request.node.name)) % 10**8}"
    team.apply(promotion(found))
    patch(team, "bob", found, approvals=[approval("bob")])
    yield found
    team.run("delete", "promotion", found, "-n", NAMESPACE)


def test_an_own_approval_is_taken_and_may_be_taken_back(team: Kubectl, name: str) -> None:
    patch(team, "ann", name, approvals=[approval("bob"), approval("ann")])
    patch(team, "ann", name, approvals=[approval("bob")])
    patch(team, "bob", name, approvals=[])
    assert (
        "approvals" not in team.get("promotion", name, NAMESPACE)["spec"]
        or not team.get("promotion", name, NAMESPACE)["spec"]["approvals"]
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("user", "spec", "says"),
    [
        ("ann", {"approvals": [approval("bob"), approval("zoe")]}, "you are ann, and approve as yourself alone"),
        ("ann", {"approvals": [approval("ann")]}, "you are ann, and take back your own approval alone"),
        ("ann", {"approvals": []}, "you are ann, and take back your own approval alone"),
        ("ann", {"approvals": [approval("bob", OTHER)]}, "you are ann, and approve as yourself alone"),
        (
            "eve",
            {"approvals": [approval("bob"), approval("eve")]},
            "eve has no right to approve: it needs the verb approve",
        ),
        (
            "eve",
            {"override": {"user": "eve", "reason": "x"}},
            "eve has no right to override: it needs the verb override",
        ),
        ("bob", {"override": {"user": "bob", "reason": "x"}}, "bob has no right to override"),
        ("own", {"override": {"user": "eve", "reason": "x"}}, "you are own, and override as yourself alone"),
        ("own", {"approvals": [approval("bob"), approval("own")]}, "own has no right to approve"),
    ],
)
def test_what_is_another_ones_is_refused(team: Kubectl, name: str, user: str, spec: dict[str, Any], says: str) -> None:
    said = refusal(team, user, name, **spec)
    assert says in said
    assert "Forbidden" in said or "forbidden" in said


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", [{"approvals": [approval("zoe")]}, {"override": {"user": "zoe", "reason": "x"}}])
def test_what_is_forged_is_refused_when_it_is_created(team: Kubectl, spec: dict[str, Any]) -> None:
    body = json.dumps(promotion("forged", **spec))
    with pytest.raises(RuntimeError, match="as yourself alone"):
        team.run("create", "--as", "bob", "-f", "-", stdin=body)


def test_one_may_be_created_with_an_own_approval(team: Kubectl) -> None:
    team.run("create", "--as", "bob", "-f", "-", stdin=json.dumps(promotion("own", approvals=[approval("bob")])))


def test_an_override_is_taken_from_whom_it_may_be_and_stays(team: Kubectl, name: str) -> None:
    patch(team, "own", name, override={"user": "own", "reason": "the shop is down"})
    assert "override cannot be changed" in refusal(team, "own", name, override=None)
    assert "override cannot be changed" in refusal(team, "own", name, override={"user": "own", "reason": "y"})


def test_other_changes_need_no_right_to_approve(team: Kubectl, name: str) -> None:
    patch(team, "eve", name, suspend=True)
    patch(team, "eve", name, cancel=True)
    assert "cancel cannot be taken back" in refusal(team, "eve", name, cancel=False)


@pytest.mark.bad_input
def test_who_edits_may_not_change_what_an_environment_requires(team: Kubectl) -> None:
    body = sample("promotionpolicy")
    body["metadata"]["namespace"] = NAMESPACE
    team.apply(body)
    with pytest.raises(RuntimeError, match="forbidden"):
        team.run(
            "patch",
            "ppol",
            body["metadata"]["name"],
            "-n",
            NAMESPACE,
            "--as",
            "eve",
            "--type",
            "merge",
            "-p",
            '{"spec": {"requires": null}}',
        )


def test_the_operator_knows_its_guard_by_what_the_api_server_has(team: Kubectl) -> None:
    name = "star-operator-approvals"
    policy = json.loads(team.run("get", "validatingadmissionpolicy", name, "-o", "json"))
    bound = json.loads(team.run("get", "validatingadmissionpolicybinding", name, "-o", "json"))
    assert is_whole(policy["spec"])
    assert binds(bound["spec"], name)
    warnings = (policy.get("status", {}).get("typeChecking") or {}).get("expressionWarnings")
    assert not warnings
    for key, value in (("failurePolicy", "Ignore"), ("validations", policy["spec"]["validations"][:-1])):
        assert not is_whole({**policy["spec"], key: value})
    narrowed = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    assert not is_whole({**policy["spec"], "matchConstraints": {**policy["spec"]["matchConstraints"], **narrowed}})
    assert not binds({**bound["spec"], "validationActions": ["Warn"]}, name)
    assert not binds({**bound["spec"], "matchResources": {**bound["spec"].get("matchResources", {}), **narrowed}}, name)
