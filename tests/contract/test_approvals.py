"""Who may approve and override, as a real API server sees it: each user for themselves, and with the right to alone."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from star_cli.local.controlplane import ControlPlane
from star_cli.local.errors import LocalClusterError
from star_cli.promotion import approve, override, take_back
from star_operator.api.approvals import binds, is_whole
from star_operator.core.queue import Key
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.promotion import PromotionReconciler
from tests.contract.bad_manifests import sample
from tests.contract.team import DIGEST, HERE, NAMESPACE, OPERATOR, OTHER, PLURALS, Team, approval, promotion
from tests.support.clock import Clock, Recorder
from tests.support.goldens import settings
from tests.support.star import star


@pytest.fixture(scope="module")
def team(control_plane: ControlPlane) -> Team:
    found = Team(control_plane)
    found.install()
    return found


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


async def looked_at(control_plane: ControlPlane, name: str, passes: int = 3) -> None:
    """Let the operator, with its own rights, look at a Promotion some times."""
    cluster = await Cluster.connect(str(control_plane.user_kubeconfig(OPERATOR)))
    try:
        reconciler = PromotionReconciler(Clock(cluster, settings(), Recorder(time.monotonic)))
        for _ in range(passes):
            await reconciler.reconcile(Key("Promotion", NAMESPACE, name))
    finally:
        await cluster.close()


def ready(team: Team, name: str) -> tuple[str, str]:
    """Reason and message."""
    conditions = team.get(name)["status"]["conditions"]
    return next((one["reason"], one["message"]) for one in conditions if one["type"] == "Ready")


def test_the_operator_believes_what_the_api_server_has_checked(team: Team, control_plane: ControlPlane) -> None:
    policy = sample("promotionpolicy")
    policy["metadata"] = {"name": "prod", "namespace": NAMESPACE}
    spec = policy["spec"]
    policy["spec"] = {"target": {**spec["target"], "path": "believed.yaml"}, "git": spec["git"], "mode": spec["mode"]}
    team.put({**policy, "spec": {**policy["spec"], "requires": {"approvals": 1}}})
    team.put(star("Checkpoint", NAMESPACE, "amazon-weekly-grpo", {"uri": "s3://star/x", "digest": DIGEST}))
    store, data = settings().store.secret_name, {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": store, "namespace": NAMESPACE}, "data": data}
    team.admin.apply(secret, f"/api/v1/namespaces/{NAMESPACE}/secrets/{store}")
    wish = promotion("believed", environment="prod")
    wish["spec"]["target"]["path"] = "believed.yaml"
    team.put(wish)
    asyncio.run(looked_at(control_plane, "believed"))
    assert ready(team, "believed")[0] == "AwaitingApproval"
    approve(team.users["ann"], NAMESPACE, "believed", None)
    asyncio.run(looked_at(control_plane, "believed"))
    assert ready(team, "believed")[0] == "Committing"
    assert [one["user"] for one in team.get("believed")["status"]["approvals"]] == ["ann"]
    job = team.admin.get(f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/believed-promo-1-promote")
    assert job is not None
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "star/git:cpu-1"


@pytest.mark.bad_input
def test_the_operator_believes_nobody_while_the_binding_is_gone(team: Team, control_plane: ControlPlane) -> None:
    path = f"/{PLURALS['ValidatingAdmissionPolicyBinding']}/star-operator-approvals"
    bound = team.admin.get(path)
    assert bound is not None
    wish = promotion("unguarded", checkpoint={"uri": "s3://star/models/x", "digest": DIGEST}, suspend=True)
    del wish["spec"]["environment"]
    team.put(wish)
    approve(team.users["ann"], NAMESPACE, "unguarded", None)
    team.admin.delete(path)
    try:
        asyncio.run(looked_at(control_plane, "unguarded"))
        assert "approvals" not in team.get("unguarded")["status"] or not team.get("unguarded")["status"]["approvals"]
    finally:
        team.admin.apply({**bound, "metadata": {"name": bound["metadata"]["name"]}}, path)
