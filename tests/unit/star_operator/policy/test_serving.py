"""What a StarDeployment says of what it serves."""

from typing import Any

import pytest

from star_operator.api.meta import Phase
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import ServerView, Trouble
from star_operator.policy.gates import Gate, Verdict
from star_operator.policy.serving import Front, Scene, Share, Told, complete, held_back, served

PASSED = Gate(Verdict.PASSED, "no gates")
NO_NODE = Trouble(ConditionReason.UNSCHEDULABLE, "0/3 nodes are available")


def view(ready: int, trouble: Trouble | None = None) -> ServerView:
    return ServerView("star-a", ready=ready > 0, ready_replicas=ready, replicas=2, trouble=trouble)


ANSWERS = Front(ready=1)


def scene(ready: int = 2, front: Front = ANSWERS, trouble: Trouble | None = None, **more: Any) -> Scene:
    shares = (Share("aaaa", 100, view(ready, trouble)),)
    given: dict[str, Any] = {"shares": shares, "replicas": 2, "front": front, "url": "http://star:8080"}
    return Scene(**(given | more))


def said(found: Scene) -> Told:
    return served(found, PASSED, lambda trouble, compute: trouble)


@pytest.mark.parametrize(
    ("found", "phase", "reason", "words"),
    [
        (scene(), Phase.READY, "Serving", "revision aaaa serves at http://star:8080 (no gates)"),
        (scene(1), Phase.DEGRADED, "Degraded", "; 1 of 2 servers are ready"),
        (scene(1, trouble=NO_NODE), Phase.DEGRADED, "Degraded", "; 1 of 2 servers are ready: 0/3 nodes are available"),
        (scene(2, Front(1, 3)), Phase.DEGRADED, "Degraded", "; 1 of 3 gateways are ready"),
        (scene(1, Front(1, 3)), Phase.DEGRADED, "Degraded", "; 1 of 2 servers are ready; 1 of 3 gateways are ready"),
        (scene(0), Phase.RUNNING, "ServerStarting", "server star-a: starting (gates: no gates)"),
        (scene(0, trouble=NO_NODE), Phase.WAITING, "Unschedulable", "server star-a waits: 0/3 nodes are available"),
        (scene(2, Front()), Phase.RUNNING, "GatewayStarting", "the gateway: starting"),
        (scene(0, replicas=0, hold_seconds=9), Phase.READY, "ScaledToZero", "wait for a server, for up to 9 s"),
        (scene(0, suspended=True), Phase.SUSPENDED, "Suspended", "spec.suspend is true"),
        (scene(2, gone="the dataset is gone"), Phase.READY, "Serving", "; it goes on as it began: the dataset is gone"),
    ],
)
def test_it_is_ready_with_all_that_is_wanted(found: Scene, phase: Phase, reason: str, words: str) -> None:
    told = said(found)
    assert (told.phase, told.reason) == (phase, reason)
    assert words in told.message


def test_a_roll_out_says_who_has_how_much_and_what_is_missing() -> None:
    shares = (Share("aaaa", 50, view(2)), Share("bbbb", 50, view(1)))
    told = said(scene(shares=shares, replaces="aaaa"))
    assert (told.phase, told.reason) == (Phase.RUNNING, ConditionReason.ROLLING_OUT)
    assert told.message == (
        "revision bbbb answers 50% of the users, revision aaaa the others (gates: no gates); 1 of 2 servers are ready"
    )


def test_what_is_held_back_tells_what_goes_on() -> None:
    failed = Gate(Verdict.FAILED, "hrAvg measured 0.1")
    assert held_back(scene(), failed, "bbbb") == Told(
        Phase.GATED, ConditionReason.GATE_FAILED, "revision bbbb: hrAvg measured 0.1; revision aaaa goes on serving"
    )
    assert held_back(scene(shares=()), failed, "bbbb").message.endswith("; nothing is served")


@pytest.mark.parametrize(("ready", "replicas", "whole"), [(2, 2, True), (3, 2, True), (1, 2, False), (0, 0, False)])
def test_time_counts_with_all_servers(ready: int, replicas: int, whole: bool) -> None:
    assert complete(view(ready), replicas) is whole
