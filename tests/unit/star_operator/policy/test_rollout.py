"""Shares of the traffic: from the steps, the last status and the time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.stardeployment import RevisionStatus, Rollout, RolloutStep
from star_operator.policy.rollout import DRAIN, EVERYTHING, Shares, shares

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = Rollout(steps=(RolloutStep(weight=10, pause_seconds=60), RolloutStep(weight=50, pause_seconds=600)))


def known(name: str, weight: int, since: datetime = START, ready: int = 1) -> RevisionStatus:
    return RevisionStatus(
        name=name,
        uri=f"s3://star/{name}",
        digest=name,
        weight=weight,
        since=since.isoformat(),
        gate="Passed",
        ready_replicas=ready,
    )


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def after(
    seconds: float, *revisions: RevisionStatus, rollout: Rollout = STEPS, ready: bool = True, wanted: str = "new"
) -> Shares:
    return shares(rollout, revisions, wanted, ready=ready, now=at(seconds))


def test_the_first_revision_gets_everything_at_once() -> None:
    assert after(0) == Shares({"new": 100})
    assert after(0, ready=False) == Shares({"new": 100})
    assert after(0, known("new", 100), ready=False) == Shares({"new": 100}), "there is nothing else to fall back on"


def test_until_the_new_server_answers_the_old_one_has_everything() -> None:
    assert after(0, known("old", 100), ready=False) == Shares({"old": 100, "new": 0})


def test_each_step_lasts_its_pause() -> None:
    first = Shares({"old": 90, "new": 10}, at(60))
    assert after(0, known("old", 100), known("new", 0)) == first
    assert after(59, known("old", 90), known("new", 10)) == first
    assert after(60, known("old", 90), known("new", 10)) == Shares({"old": 50, "new": 50}, at(660))
    assert after(600, known("old", 50), known("new", 50)).weights == {"old": 0, "new": 100}


def test_without_steps_everything_moves_at_once_and_what_served_is_kept_until_all_gateways_know() -> None:
    moved = Shares({"old": 0, "new": 100}, START + DRAIN)
    assert after(0, known("old", 100), known("new", 0), rollout=Rollout()) == moved
    assert after(5, known("old", 0), known("new", 100)) == moved
    assert after(DRAIN.total_seconds(), known("old", 0), known("new", 100)) == Shares({"new": 100})
    assert after(5, known("old", 0, ready=0), known("new", 100)) == Shares({"new": 100}), "nobody can be asking it"


def test_a_new_server_that_stops_answering_gives_everything_back() -> None:
    assert after(300, known("old", 50), known("new", 50), ready=False) == Shares({"old": 100, "new": 0})


@pytest.mark.parametrize("weight", [10, 50, 90])
def test_who_wants_the_old_one_back_gets_it_at_once(weight: int) -> None:
    """A roll-back has no steps, however far the roll-out was."""
    back = after(5, known("old", 100 - weight), known("new", weight), wanted="old")
    assert back == Shares({"new": 0, "old": 100}, at(5) + DRAIN)
    revisions = known("new", 0, at(5)), known("old", 100, at(5))
    assert after(6, *revisions, wanted="old") == back
    assert after(5 + DRAIN.total_seconds(), *revisions, wanted="old") == Shares({"old": 100})


def test_a_candidate_that_never_served_is_not_kept() -> None:
    """Back to what serves, after another checkpoint had failed its gates: the candidate stands first in the status."""
    assert after(1, known("bad", 0, ready=0), known("new", 100)) == Shares({"new": 100})
    assert after(1, known("new", 0, ready=0), known("old", 100)).weights == {"old": 90, "new": 10}


def test_a_third_checkpoint_takes_over_from_the_one_that_has_most_and_the_other_is_drained() -> None:
    revisions = known("old", 90), known("half", 10)
    assert after(0, *revisions, ready=False) == Shares({"old": 100, "half": 0, "new": 0}, START + DRAIN)
    assert after(0, *revisions) == Shares({"old": 90, "half": 0, "new": 10}, START + DRAIN)


def test_steps_may_be_edited_half_way() -> None:
    edited = Rollout(steps=(RolloutStep(weight=5, pause_seconds=10), RolloutStep(weight=80, pause_seconds=20)))
    assert after(30, known("old", 50), known("new", 50), rollout=edited).weights == {"old": 20, "new": 80}


@given(
    weights=st.lists(st.integers(1, 99), max_size=6),
    pauses=st.lists(st.integers(1, 900), min_size=6, max_size=6),
    lost=st.integers(0, 8),
)
def test_every_rollout_ends_and_shares_never_fall(weights: list[int], pauses: list[int], lost: int) -> None:
    """Also when the operator dies once after it has moved the traffic and before it has written that down."""
    steps = tuple(RolloutStep(weight=w, pause_seconds=p) for w, p in zip(sorted(set(weights)), pauses, strict=False))
    revisions, now, had = (known("old", 100), known("new", 0)), START, 0
    for number in range(len(steps) + 3):
        found = shares(Rollout(steps=steps), revisions, "new", ready=True, now=now)
        assert found.weights["new"] >= had
        assert sum(found.weights.values()) == EVERYTHING
        had = found.weights["new"]
        if found.until is None:
            break
        if number == lost:
            now += timedelta(seconds=1)
            continue
        before = {one.name: one for one in revisions}
        revisions = tuple(
            before[name] if before[name].weight == weight else known(name, weight, now)
            for name, weight in found.weights.items()
        )
        now = found.until
    assert found == Shares({"new": 100})
