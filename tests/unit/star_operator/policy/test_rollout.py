"""Shares of the traffic: from the steps, the last status and the time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.stardeployment import RevisionStatus, Rollout, RolloutStep
from star_operator.policy.rollout import DRAIN, EVERYTHING, Servers, Shares, carried, full_count, shares

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = Rollout(steps=(RolloutStep(weight=10, pause_seconds=60), RolloutStep(weight=50, pause_seconds=600)))


def known(name: str, weight: int, since: datetime = START, ready: int = 1, **more: Any) -> RevisionStatus:
    return RevisionStatus(
        name=name,
        uri=f"s3://star/{name}",
        digest=name,
        weight=weight,
        since=since.isoformat(),
        gate="Passed",
        ready_replicas=ready,
        **more,
    )


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def after(
    seconds: float, *revisions: RevisionStatus, rollout: Rollout = STEPS, ready: bool = True, wanted: str = "new"
) -> Shares:
    servers = Servers({one.name: one.ready_replicas for one in revisions} | {wanted: int(ready)}, 1, 1)
    return shares(rollout, revisions, wanted, servers, at(seconds))


def all_of(found: Shares) -> tuple[dict[str, int], datetime | None]:
    return dict(found.weights), found.until


def test_the_first_revision_gets_everything_at_once() -> None:
    assert all_of(after(0)) == ({"new": 100}, None)
    assert all_of(after(0, ready=False)) == ({"new": 100}, None)
    assert all_of(after(0, known("new", 100), ready=False)) == ({"new": 100}, None), (
        "there is nothing else to fall back on"
    )


def test_until_the_new_server_answers_the_old_one_has_everything() -> None:
    assert all_of(after(0, known("old", 100), ready=False)) == ({"old": 100, "new": 0}, None)


def test_each_step_lasts_its_pause() -> None:
    first = ({"old": 90, "new": 10}, at(60))
    assert all_of(after(0, known("old", 100), known("new", 0))) == first
    assert all_of(after(59, known("old", 90), known("new", 10))) == first
    assert all_of(after(60, known("old", 90), known("new", 10))) == ({"old": 50, "new": 50}, at(660))
    assert after(600, known("old", 50), known("new", 50)).weights == {"old": 0, "new": 100}


def test_without_steps_everything_moves_at_once_and_what_served_is_kept_until_all_gateways_know() -> None:
    moved = Shares({"old": 0, "new": 100}, START + DRAIN)
    assert after(0, known("old", 100), known("new", 0), rollout=Rollout()) == moved
    assert after(5, known("old", 0), known("new", 100)) == moved
    assert all_of(after(DRAIN.total_seconds(), known("old", 0), known("new", 100))) == ({"new": 100}, None)
    assert all_of(after(5, known("old", 0, ready=0), known("new", 100))) == ({"new": 100}, None), (
        "nobody can be asking it"
    )


def test_a_new_server_that_stops_answering_gives_everything_back() -> None:
    assert all_of(after(300, known("old", 50), known("new", 50), ready=False)) == ({"old": 100, "new": 0}, None)


@pytest.mark.parametrize("weight", [10, 50, 90])
def test_who_wants_the_old_one_back_gets_it_at_once(weight: int) -> None:
    """A roll-back has no steps, however far the roll-out was."""
    back = after(5, known("old", 100 - weight), known("new", weight), wanted="old")
    assert back == Shares({"new": 0, "old": 100}, at(5) + DRAIN)
    revisions = known("new", 0, at(5)), known("old", 100, at(5))
    assert after(6, *revisions, wanted="old") == back
    assert all_of(after(5 + DRAIN.total_seconds(), *revisions, wanted="old")) == ({"old": 100}, None)


def test_a_candidate_that_never_served_is_not_kept() -> None:
    """Back to what serves, after another checkpoint had failed its gates: the candidate stands first in the status."""
    assert all_of(after(1, known("bad", 0, ready=0), known("new", 100))) == ({"new": 100}, None)
    assert after(1, known("new", 0, ready=0), known("old", 100)).weights == {"old": 90, "new": 10}


def test_a_third_checkpoint_takes_over_from_the_one_that_has_most_and_the_other_is_drained() -> None:
    revisions = known("old", 90), known("half", 10)
    assert all_of(after(0, *revisions, ready=False)) == ({"old": 100, "half": 0, "new": 0}, START + DRAIN)
    assert all_of(after(0, *revisions)) == ({"old": 90, "half": 0, "new": 10}, START + DRAIN)


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
        found = shares(Rollout(steps=steps), revisions, "new", Servers({"old": 1, "new": 1}, 1, 1), now)
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


@pytest.mark.parametrize(
    ("target", "ready", "others", "full", "share"),
    [
        (10, 8, 8, 8, 10),  # all are there: as the steps say
        (100, 1, 8, 8, 12),  # one of eight carries an eighth
        (100, 7, 8, 8, 87),
        (100, 8, 8, 8, 100),
        (10, 8, 4, 8, 50),  # what the other one has lost, this one carries
        (10, 8, 0, 8, 100),
        (100, 0, 8, 8, 0),
        (10, 2, 2, 8, 50),  # not enough of both: each server carries the same
        (10, 1, 3, 8, 25),
        (50, 1, 0, 8, 100),
        (100, 1, 2, 3, 33),  # rounded down; the other one's share up
        (20, 9, 9, 3, 20),  # more than are wanted, as while it is scaled down
        (20, 0, 0, 0, 20),  # scaled to nothing
    ],
)
def test_a_share_is_what_ready_servers_carry(target: int, ready: int, others: int, full: int, share: int) -> None:
    assert carried(target, ready, others, full) == share


def test_what_is_added_counts_once_it_answers() -> None:
    """An autoscaler that wants eight of what has two, half way through a roll-out, moves nobody."""
    assert full_count(None, 8, 2) == 8
    assert full_count(2, 8, 2) == 2
    assert full_count(2, 8, 5) == 5
    assert full_count(5, 8, 8) == 8
    assert full_count(8, 8, 1) == 8, "what is lost counts"
    assert full_count(8, 2, 8) == 2
    assert full_count(0, 4, 0) == 0


class Simulation:
    """Two revisions of so many servers, and an operator that writes down what it decides."""

    def __init__(self, rollout: Rollout, count: int) -> None:
        self.rollout, self.count, self.now = rollout, count, START
        self.known: tuple[RevisionStatus, ...] = (known("old", 100, ready=count),)
        self.ready = {"old": count, "new": 0}

    def decide(self, wanted: str) -> Shares:
        servers = Servers(self.ready, self.count, self.count)
        found = shares(self.rollout, self.known, wanted, servers, self.now)
        again = shares(self.rollout, self.known, wanted, servers, self.now)
        assert found == again
        before = {one.name: one for one in self.known}
        rows = []
        for name, weight in found.weights.items():
            old = before.get(name)
            since = datetime.fromisoformat(old.since) if old is not None and old.weight == weight else self.now
            mine = {"target": found.target, "replaces": found.replaces} if name == wanted else {}
            rows.append(known(name, weight, since, self.ready[name], **mine))
        self.known = tuple(rows)
        for name in self.ready:
            if name not in found.weights:
                self.ready[name] = 0
        return found

    def holds(self, found: Shares) -> None:
        """What must be true of every decision while one revision takes over from another."""
        assert sum(found.weights.values()) == EVERYTHING
        if not found.replaces:
            return
        able = {name: 100 * min(self.ready[name], self.count) / self.count for name in found.weights}
        for name, share in found.weights.items():
            [other] = set(found.weights) - {name}
            if self.ready[other]:
                assert share == 0 or self.ready[name], "nobody is sent to servers that do not answer"
            if share >= able[name] + 1:
                assert found.weights[other] + 1 > able[other], "too much for one, while the other could take it"


EVENTS = st.lists(
    st.tuples(st.integers(0, 900), st.integers(0, 8), st.integers(0, 8), st.sampled_from(["new", "new", "new", "old"])),
    min_size=1,
    max_size=30,
)


@given(
    count=st.integers(1, 8), weights=st.lists(st.integers(1, 99), max_size=4), pause=st.integers(1, 600), events=EVENTS
)
def test_no_revision_gets_more_than_its_ready_servers_carry(
    count: int, weights: list[int], pause: int, events: list[tuple[int, int, int, str]]
) -> None:
    """In any sequence of readiness changes and of changes of mind."""
    rollout = Rollout(steps=tuple(RolloutStep(weight=w, pause_seconds=pause) for w in sorted(set(weights))))
    world = Simulation(rollout, count)
    under_way = ""
    for seconds, old, new, wanted in events:
        world.now += timedelta(seconds=seconds)
        world.ready |= {"old": min(old, count), "new": min(new, count)}
        world.ready |= {name: 0 for name in world.ready if name not in {one.name for one in world.known} | {wanted}}
        found = world.decide(wanted)
        world.holds(found)
        if under_way and under_way not in found.weights:
            raise AssertionError("servers went while they might have been needed")
        if not found.replaces and len(found.weights) == 2 and under_way:
            assert found.weights[wanted] == EVERYTHING
            assert world.ready[wanted] >= count, "the old servers go once the new revision has all of its own"
        under_way = found.replaces


@given(count=st.integers(1, 8), weights=st.lists(st.integers(1, 99), max_size=4), lost=st.lists(st.integers(0, 8)))
def test_every_roll_out_ends_once_its_servers_stay_ready(count: int, weights: list[int], lost: list[int]) -> None:
    rollout = Rollout(steps=tuple(RolloutStep(weight=w, pause_seconds=60) for w in sorted(set(weights))))
    world = Simulation(rollout, count)
    for number in [*lost, *[count] * (len(weights) + 4)]:
        world.ready["new"] = min(number, count)
        world.decide("new")
        world.now += timedelta(seconds=60)
    assert world.decide("new") == Shares({"new": 100})


def test_steps_are_not_lost_when_the_one_before_is_short_of_servers_for_a_while() -> None:
    world = Simulation(STEPS, 4)
    world.ready["new"] = 4
    assert world.decide("new").weights == {"old": 90, "new": 10}
    world.ready["old"] = 1
    assert world.decide("new").weights == {"old": 25, "new": 75}
    world.ready["old"] = 4
    assert world.decide("new").weights == {"old": 90, "new": 10}


def test_a_step_lasts_its_pause_from_when_its_servers_carry_it() -> None:
    world = Simulation(STEPS, 8)
    world.ready["new"] = 8
    world.decide("new")
    world.now = at(60)
    world.ready["new"] = 2
    assert world.decide("new") == Shares({"old": 75, "new": 25}, None, 50, "old")
    world.now = at(5000)
    assert world.decide("new").weights["new"] == 25
    world.ready["new"] = 6
    assert world.decide("new") == Shares({"old": 50, "new": 50}, at(5600), 50, "old")


def test_the_old_servers_stay_while_the_new_revision_lacks_some_though_they_do_not_answer() -> None:
    world = Simulation(Rollout(), 4)
    world.ready |= {"old": 0, "new": 3}
    for seconds in (0, 60, 600):
        world.now = at(seconds)
        assert world.decide("new") == Shares({"old": 0, "new": 100}, None, 100, "old")
    world.ready["old"] = 2
    assert world.decide("new").weights == {"old": 25, "new": 75}
    world.ready["new"] = 4
    assert world.decide("new") == Shares({"old": 0, "new": 100}, at(600) + DRAIN)


def test_the_old_servers_stay_until_the_new_revision_has_all_that_are_wanted() -> None:
    """Also where they were raised half way, and fewer have carried everything until now."""
    revisions = known("old", 100, ready=2), known("new", 0, ready=2)
    found = shares(Rollout(), revisions, "new", Servers({"old": 2, "new": 2}, 2, 8), START)
    assert found == Shares({"old": 0, "new": 100}, None, 100, "old")


def test_who_is_taken_back_is_given_what_it_carries_at_once() -> None:
    world = Simulation(STEPS, 4)
    world.ready |= {"old": 3, "new": 4}
    assert world.decide("new").weights == {"old": 75, "new": 25}
    assert world.decide("old").weights == {"new": 25, "old": 75}
    world.ready["old"] = 4
    assert world.decide("old") == Shares({"new": 0, "old": 100}, START + DRAIN)
    assert world.decide("new").weights == {"old": 90, "new": 10}, "who comes again begins with the first step"
