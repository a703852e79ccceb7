"""Environments pass by pass: what they make by themselves, what they remember, give up and forget."""

from typing import Any

import pytest

from star_contracts.promotion import PromotionState
from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.policy.holdings import thing
from tests.support.promotions import COMMIT, DIGEST, NAMESPACE, OTHER, answer, environment, promotion
from tests.support.star import checkpoint, star
from tests.unit.star_operator.reconcilers.test_promotion import World

AUTO: dict[str, Any] = {"auto": True, "from": {"series": "weekly"}}
MADE = f"prod-{DIGEST[7:19]}"


def pipeline(name: str = "run", digest: str = DIGEST, record: str = "new", at: str = "2026-01-01") -> KubeObject:
    """A run of the series that made a checkpoint."""
    body = star("StarPipeline", NAMESPACE, name, {"series": "weekly", "dataset": {"use": {"name": "d"}}})
    made = {"checkpoint": record, "uri": f"s3://star/models/{record}", "digest": digest}
    return {**body, "status": {"phase": "Succeeded", "completionTime": f"{at}T00:00:00Z", "checkpoint": made}}


def lands(world: World) -> None:
    """The Job that runs commits."""
    statuses = [one.get("status", {}) for one in world.cluster.of("Promotion")]
    (digest,) = (one["digest"] for one in statuses if one.get("phase") == "Running")
    world.ends(answer(PromotionState.COMMITTED, commit=COMMIT, standing=digest))
    world.passes()


def test_what_a_series_made_is_promoted_once() -> None:
    world = World(environment(**AUTO), pipeline())
    world.passes()
    assert world.body(MADE)["spec"]["checkpoint"] == {"name": "new", "digest": DIGEST}
    lands(world)
    assert world.ready(MADE)[0] == "Succeeded"
    status = world.status("prod", "PromotionPolicy")
    assert (status["standing"], status["promoted"][0]["commit"]) == (DIGEST, COMMIT)
    del world.cluster.objects["Promotion", NAMESPACE, MADE]
    world.passes()
    assert world.cluster.of("Promotion") == []
    assert world.status("prod", "PromotionPolicy")["standing"] == DIGEST


def test_the_last_run_of_the_series_counts() -> None:
    later = pipeline("later", OTHER, "other", "2026-01-02")
    world = World(environment(**AUTO), later, pipeline(), checkpoint(NAMESPACE, "other", OTHER))
    world.passes()
    assert [one["metadata"]["name"] for one in world.cluster.of("Promotion")] == [f"prod-{OTHER[7:19]}"]


def test_a_held_environment_makes_none_of_another_digest() -> None:
    world = World(environment(**AUTO, hold={"digest": OTHER, "reason": "incident"}), pipeline())
    world.passes()
    assert world.cluster.of("Promotion") == []
    assert "held at sha256:bbbb" in world.ready("prod", "PromotionPolicy")[2]
    del world.body("prod", "PromotionPolicy")["spec"]["hold"]
    world.passes()
    assert len(world.cluster.of("Promotion")) == 1


@pytest.mark.parametrize("write", range(1, 9))
def test_an_operator_that_dies_makes_it_once(write: int) -> None:
    world = World(environment(**AUTO), pipeline())
    world.cluster.dies_before = write
    for _ in range(4):
        try:
            world.passes(1)
        except Retryable:
            world.start()
    assert [one["metadata"]["name"] for one in world.cluster.of("Promotion")] == [MADE]
    assert world.cluster.writes.count(f"apply Promotion/{MADE}") == 1


def test_what_was_promoted_before_moves_on() -> None:
    world = World(environment("dev", **AUTO), environment("prod", after="dev", auto=True), pipeline())
    world.passes()
    assert [one["metadata"]["name"] for one in world.cluster.of("Promotion")] == [f"dev-{DIGEST[7:19]}"]
    lands(world)
    assert MADE in [one["metadata"]["name"] for one in world.cluster.of("Promotion")]


def serving(digest: str = DIGEST, seconds: int = 0) -> KubeObject:
    body = star("StarDeployment", NAMESPACE, "live", {"checkpoint": {"checkpoint": "new"}, "dataset": {"name": "d"}})
    since = "2026-01-01T00:00:00Z"
    row = {"digest": digest, "weight": 100, "since": since, "until": since, "seconds": seconds, "serving": True}
    return {**body, "status": {"served": [row]}}


def test_what_serves_before_moves_on_when_it_has_soaked() -> None:
    dev = environment("dev", serves={"name": "live"})
    prod = environment("prod", after="dev", auto=True, requires={"soak": {"seconds": 3600}})
    world = World(dev, prod, serving())
    world.passes()
    phase, reason, message = world.ready(MADE)
    assert (phase, reason) == ("Waiting", "Soaking")
    assert "until 2026-01-01T01:00:00Z" in message
    world.body("live", "StarDeployment")["status"]["served"][0]["seconds"] = 3600
    world.passes()
    assert world.jobs == [f"{MADE}-promo-1-promote"]


def test_what_still_waits_is_given_up_when_a_later_one_has_moved_the_place() -> None:
    world = World(environment(**AUTO, requires={"approvals": 1}), pipeline())
    world.passes()
    later = f"prod-{OTHER[7:19]}"
    world.add(pipeline("later", OTHER, "other", "2026-01-02"), checkpoint(NAMESPACE, "other", OTHER))
    world.passes(1)
    world.body(later)["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.body(later)["spec"]["approvals"] = [{"user": "ann", "digest": OTHER}]
    world.passes()
    assert world.ready(MADE)[1] == "AwaitingApproval"
    lands(world)
    assert world.ready(later)[0] == "Succeeded"
    world.passes()
    phase, reason, message = world.ready(MADE)
    assert (phase, reason) == ("Failed", "Superseded")
    assert later in message


def test_history_limits_let_ended_promotions_go() -> None:
    world = World(environment(successfulHistoryLimit=1, failedHistoryLimit=0))
    for name in ("a", "b"):
        world.add(promotion(name))
        world.passes()
        lands(world)
    world.add(promotion("c", cancel=True))
    world.passes()
    assert [one["metadata"]["name"] for one in world.cluster.of("Promotion")] == ["b"]
    assert len(world.status("prod", "PromotionPolicy")["promoted"]) == 2


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([environment("rival", target=environment()["spec"]["target"])], "PolicyConflict"),
        ([], "InputMissing"),
    ],
)
def test_a_policy_that_cannot_be_followed_says_so(others: list[KubeObject], reason: str) -> None:
    spec: dict[str, Any] = AUTO if others else {"after": "dev", "auto": True}
    world = World(environment(**spec), *others, pipeline())
    world.passes()
    assert world.ready("prod", "PromotionPolicy")[:2] == ("Degraded", reason)
    assert world.cluster.of("Promotion") == []


def test_what_stands_and_what_moves_is_kept_and_what_once_served_is_not() -> None:
    policy = environment() | {"status": {"standing": DIGEST, "promoted": [{"digest": OTHER, "uid": "u"}]}}
    assert thing(policy).mentions == {DIGEST}
    moving = promotion() | {"status": {"digest": DIGEST, "from": OTHER}}
    moving["metadata"]["uid"] = "uid-p"
    assert thing(moving).mentions == {DIGEST, OTHER}
    assert ("Checkpoint", "new") in {(kind, one.name) for one in thing(moving).refers for kind in one.kinds}
    live = serving()
    live["metadata"]["uid"] = "uid-live"
    assert thing(live).mentions == frozenset()
