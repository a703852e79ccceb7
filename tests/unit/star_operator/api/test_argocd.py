"""What Argo CD shows of each kind in each phase, and what its actions make of a resource: in a Lua of its version."""

import copy
from typing import Any

import pytest
import yaml

from star_operator.api.argocd import APPROVER, customizations, offered, render, render_data, script
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Phase, Resource
from star_operator.core.reasons import ConditionReason
from star_operator.policy.status import Moment, told
from tests.support.argolua import run

AT = Moment("2026-01-01T00:00:00Z", 2)
HEALTH = {
    Phase.PENDING: "Progressing",
    Phase.WAITING: "Progressing",
    Phase.SUSPENDED: "Suspended",
    Phase.QUEUED: "Progressing",
    Phase.RUNNING: "Progressing",
    Phase.SUCCEEDED: "Healthy",
    Phase.FAILED: "Degraded",
    Phase.GATED: "Degraded",
    Phase.DEGRADED: "Degraded",
    Phase.READY: "Healthy",
}
Kind = type[Resource[Any, Any]]
DATA = customizations()


def key(name: str, what: str) -> str:
    return f"resource.customizations.{what}.star.recsys.dev_{name}"


def resource(name: str, status: Any = None, **spec: Any) -> dict[str, Any]:
    body = {"apiVersion": "star.recsys.dev/v1alpha1", "kind": name, "metadata": {"name": "x", "generation": 2}}
    body |= {"spec": spec}
    return body if status is None else {**body, "status": status}


def phase_of(kind: Kind, phase: Phase, reason: Any = ConditionReason.RUNNING) -> dict[str, Any]:
    status: dict[str, Any] = told(kind.status_type()(), AT, phase, reason, "why").to_json_dict()
    return status


def health(name: str, body: dict[str, Any]) -> Any:
    return run(DATA[key(name, "health")], body)


def act(name: str, action: str, body: dict[str, Any], **parameters: str) -> Any:
    actions = yaml.safe_load(DATA[key(name, "actions")])
    (found,) = (one["action.lua"] for one in actions["definitions"] if one["name"] == action)
    return run(found, body, **parameters)


def possible(name: str, body: dict[str, Any]) -> set[str]:
    found = run(yaml.safe_load(DATA[key(name, "actions")])["discovery.lua"], body)
    return {action for action, about in found.items() if not about["disabled"]}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_every_kind_in_every_phase_is_as_healthy_as_a_person_would_say(kind: Kind) -> None:
    name = kind.INFO.kind
    for phase, expected in HEALTH.items():
        found = health(name, resource(name, phase_of(kind, phase)))
        assert found == {"status": expected, "message": "why"}, phase


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_what_nobody_has_looked_at_is_on_its_way(kind: Kind) -> None:
    name = kind.INFO.kind
    for status in (None, {"observedGeneration": -1}, {**phase_of(kind, Phase.FAILED), "observedGeneration": 1}):
        assert health(name, resource(name, status))["status"] == "Progressing"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("InvalidSpec", "Degraded"), ("InputFailed", "Degraded"), ("InputMissing", "Progressing")]
    + [(word, "Suspended") for word in ("AwaitingApproval", "Held", "Frozen", "WindowClosed", "PullRequestOpen")],
)
def test_what_waits_for_people_is_suspended_and_what_nothing_can_help_degraded(reason: str, expected: str) -> None:
    for name in ("StarPipeline", "StarDeployment"):
        kind = next(kind for kind in KINDS if kind.INFO.kind == name)
        assert health(name, resource(name, phase_of(kind, Phase.WAITING, reason)))["status"] == expected


def test_what_serves_with_some_of_its_servers_is_on_its_way_as_a_deployment_is() -> None:
    kind = next(kind for kind in KINDS if kind.INFO.kind == "StarDeployment")
    body = resource("StarDeployment", phase_of(kind, Phase.DEGRADED, "Degraded"))
    assert health("StarDeployment", body)["status"] == "Progressing"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_what_can_be_suspended_offers_it_and_takes_it_back(kind: Kind) -> None:
    name = kind.INFO.kind
    if "suspend" not in kind.spec_type().model_fields:
        assert "suspend" not in offered(kind)
        return
    body = resource(name, phase_of(kind, Phase.RUNNING), suspend=False)
    assert {"suspend", "resume"} & possible(name, body) == {"suspend"}
    off = act(name, "suspend", copy.deepcopy(body))
    assert (off["spec"], off["metadata"]) == ({"suspend": True}, body["metadata"])
    assert {"suspend", "resume"} & possible(name, off) == {"resume"}
    assert act(name, "resume", off)["spec"] == {"suspend": False}


def test_a_pipeline_is_retried_from_the_stage_that_failed_and_cancelled_once() -> None:
    stages = [{"name": "sft-a", "stage": "sft", "phase": "Succeeded"}, {"name": "grpo", "stage": "grpo"}]
    stages[1]["phase"] = "Failed"
    body = resource("StarPipeline", {"phase": "Failed", "stages": stages})
    assert possible("StarPipeline", body) == {"retry"}
    assert act("StarPipeline", "retry", body)["metadata"]["annotations"] == {"star.recsys.dev/retry": "grpo"}
    running = resource("StarPipeline", {"phase": "Running"})
    assert possible("StarPipeline", running) == {"suspend", "cancel"}
    assert act("StarPipeline", "cancel", running)["spec"] == {"cancel": True}
    assert possible("StarPipeline", resource("StarPipeline", {"phase": "Running"}, cancel=True)) == {"suspend"}


def test_a_schedule_runs_now() -> None:
    body = resource("RetrainSchedule", {"phase": "Ready"})
    assert possible("RetrainSchedule", body) == {"suspend", "run-now"}
    assert act("RetrainSchedule", "run-now", body)["metadata"]["annotations"] == {"star.recsys.dev/run-now": "*"}


def test_argo_cd_approves_as_itself_and_once() -> None:
    body = resource("Promotion", {"phase": "Waiting", "digest": "sha256:b"}, approvals=[])
    mine = {"user": APPROVER, "digest": "sha256:b"}
    approved = run(script("approve"), body)
    assert approved["spec"]["approvals"] == [mine]
    assert run(script("approve"), approved)["spec"]["approvals"] == [mine]
    other = resource("Promotion", body["status"], approvals=[{"user": "eve", "digest": "sha256:b"}])
    assert run(script("approve"), other)["spec"]["approvals"] == [{"user": "eve", "digest": "sha256:b"}, mine]


def test_a_policy_promotes_a_checkpoint_the_way_it_promotes_anything() -> None:
    target = {"repository": "https://git.example/r.git", "branch": "main", "path": "dev/x.yaml", "marker": "dev"}
    body = resource("PromotionPolicy", target=target, mode="Commit", git={"secretRef": {"name": "git"}}, auto=True)
    (made,) = run(script("promote"), body, checkpoint="night-7")
    assert made["operation"] == "create"
    assert made["resource"]["metadata"]["name"] == "x-night-7"
    wanted = {"checkpoint": {"name": "night-7"}, "environment": "x", "target": target, "mode": "Commit"}
    assert made["resource"]["spec"] == {**wanted, "git": {"secretRef": {"name": "git"}}}


@pytest.mark.bad_input
def test_nothing_is_promoted_without_a_name() -> None:
    with pytest.raises(Exception, match="name the Checkpoint"):
        run(script("promote"), resource("PromotionPolicy"), checkpoint="")


def test_the_configuration_is_that_of_argo_cd_and_small() -> None:
    config = yaml.safe_load(render())
    assert (config["kind"], config["metadata"]["name"], config["data"]) == ("ConfigMap", "argocd-cm", DATA)
    assert yaml.safe_load(render_data()) == DATA
    assert len(render()) < 100_000, "with what others put there it must stay below 1 MiB"
