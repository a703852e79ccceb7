"""Figures of what serves, as sums over processes, written no more often than they say something new."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.online import OnlineCounts, OnlineReport, OnlineTarget
from star_operator.api.retrainschedule import Drift
from star_operator.api.stardeployment import RevisionStatus, StarDeploymentStatus
from star_operator.core.online import (
    KEEP_FRESH_SECONDS,
    LOOK_SECONDS,
    MAX_DEPLOYMENTS,
    SILENT_SECONDS,
    WARM_SECONDS,
    OnlineBoard,
)
from star_operator.policy.online import STALE_SECONDS, figures, with_online
from star_operator.policy.schedule.drift import measured
from tests.support.star import DIGEST, star

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEARD = 1000.0 + WARM_SECONDS
"""When all processes can have reported to a board that began to listen at 1000."""


def counts(recommendations: int, chosen: int = 0, one: int = 0, three: int = 0, five: int = 0) -> OnlineCounts:
    return OnlineCounts(recommendations=recommendations, chosen=chosen, hits1=one, hits3=three, hits5=five)


def report(instance: str, *, name: str = "live", uid: str = "u-1", **revisions: OnlineCounts) -> OnlineReport:
    target = OnlineTarget(url="http://x", namespace="team", name=name, uid=uid)
    return OnlineReport(target=target, instance=instance, revisions=revisions)


def serving(**fields: Any) -> StarDeploymentStatus:
    revision = RevisionStatus(name="r1", digest=DIGEST, weight=100)
    return StarDeploymentStatus(revisions=(revision,), serving_digest=DIGEST, **fields)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_figures_are_quotients_of_sums() -> None:
    board = OnlineBoard(1000.0)
    board.take(report("a", r1=counts(90, 10, 9, 9, 10)), HEARD)
    board.take(report("b", r1=counts(10, 2, 0, 1, 1)), HEARD)
    sums = board.sums("team", "live", "u-1", HEARD)
    assert sums == {"r1": counts(100, 12, 9, 10, 11)}
    assert figures(sums["r1"]) == {
        "online.hr1": 0.75, "online.hr3": 0.8333, "online.hr5": 0.9167, "online.hrAvg": 0.8333, "online.ctr": 0.12,
    }  # fmt: skip


def test_a_later_report_stands_for_its_process_and_one_that_ended_counts_no_longer() -> None:
    board = OnlineBoard(0.0)
    board.take(report("a", r1=counts(5)), HEARD)
    board.take(report("a", r1=counts(7)), HEARD + 30)
    board.take(report("b", r1=counts(1)), HEARD + 30)
    assert board.sums("team", "live", "u-1", HEARD + 30) == {"r1": counts(8)}
    board.take(report("b", r1=counts(2)), HEARD + 31 + SILENT_SECONDS)
    assert board.sums("team", "live", "u-1", HEARD + 31 + SILENT_SECONDS) == {"r1": counts(2)}


def test_an_operator_that_has_just_begun_to_listen_says_nothing() -> None:
    board = OnlineBoard(1000.0)
    assert not board.take(report("a", r1=counts(5)), HEARD - 1)
    assert board.sums("team", "live", "u-1", HEARD - 1) is None
    before = serving(metrics={"online.hr1": 0.5})
    assert with_online(before, None, NOW) is before


def test_a_deployment_is_looked_at_when_something_changed_and_not_too_often() -> None:
    board = OnlineBoard(0.0)
    assert board.take(report("a", r1=counts(1000, 100, 50, 60, 70)), HEARD)
    assert not board.take(report("a", r1=counts(2000, 200, 50, 60, 70)), HEARD + LOOK_SECONDS - 1)
    assert board.take(report("a", r1=counts(2000, 200, 50, 60, 70)), HEARD + LOOK_SECONDS)
    later = HEARD + 2 * LOOK_SECONDS
    assert not board.take(report("a", r1=counts(2001, 200, 50, 60, 70)), later)
    assert board.take(report("a", r1=counts(2001, 200, 50, 60, 70)), later + KEEP_FRESH_SECONDS)


@pytest.mark.bad_input
def test_a_namespace_that_reports_of_what_there_is_not_pushes_out_nobody_elses() -> None:
    board = OnlineBoard(0.0)
    board.take(report("a", r1=counts(5)), HEARD)
    for n in range(3 * MAX_DEPLOYMENTS):
        forged = report("a", uid=f"forged-{n}", r1=counts(1))
        target = forged.target.model_copy(update={"namespace": "hostile"})
        board.take(forged.model_copy(update={"target": target}), HEARD)
    target = report("a").target.model_copy(update={"namespace": "hostile"})
    board.take(report("z", r1=counts(999)).model_copy(update={"target": target}), HEARD)
    assert board.sums("team", "live", "u-1", HEARD) == {"r1": counts(5)}


@pytest.mark.bad_input
def test_invented_uids_and_names_make_no_work() -> None:
    board = OnlineBoard(0.0)
    looks = sum(board.take(report("a", uid=f"u-{n}", r1=counts(n)), HEARD) for n in range(1000))
    assert looks == 1, "one deployment, whatever its UIDs are said to be"
    looks = sum(board.take(report("a", name=f"n-{n}", r1=counts(n)), HEARD) for n in range(1000))
    assert looks < MAX_DEPLOYMENTS


def test_what_has_been_silent_is_forgotten() -> None:
    board = OnlineBoard(0.0)
    for n in range(5):
        board.take(report("a", name=f"n-{n}", r1=counts(n)), HEARD)
    board.take(report("a", r1=counts(1)), HEARD + KEEP_FRESH_SECONDS + 2 * SILENT_SECONDS)
    assert {name for name, _ in board._heard["team"]} == {"live"}
    assert set(board._told["team"]) == {"live"}


def test_figures_of_what_served_before_are_not_those_of_what_serves() -> None:
    status = with_online(serving(metrics={"other": 1.0}), {"r1": counts(10, 2, 1, 1, 1)}, NOW)
    moved = status.model_copy(update={"revisions": (RevisionStatus(name="r2", digest=DIGEST, weight=100),)})
    silent = with_online(moved, None, at(1))
    assert silent.metrics == {"other": 1.0}
    assert silent.online is None


def test_what_serves_alone_is_told_of() -> None:
    status = with_online(
        serving(metrics={"other": 1.0}), {"r0": counts(9, 9, 9, 9, 9), "r1": counts(10, 2, 1, 1, 1)}, NOW
    )
    assert status.metrics["online.hr1"] == 0.5
    assert status.metrics["other"] == 1.0
    assert status.online is not None
    assert (status.online.revision, status.online.chosen) == ("r1", 2)
    moved = status.model_copy(update={"revisions": (RevisionStatus(name="r2", digest=DIGEST, weight=100),)})
    fresh = with_online(moved, {"r1": counts(10, 2, 1, 1, 1)}, at(1))
    assert fresh.metrics == {"other": 1.0}, "a model that has just taken over is not judged by its predecessor's"
    assert with_online(StarDeploymentStatus(), {"r1": counts(1)}, NOW).online is None


@pytest.mark.parametrize(
    ("seconds", "now", "written"),
    [
        (30, counts(1000, 100, 90, 95, 99), False),
        (60, counts(1000, 100, 90, 95, 99), True),
        (60, counts(1004, 100, 50, 60, 70), False),
        (60, counts(3000, 300, 150, 180, 210), True),
        (KEEP_FRESH_SECONDS, counts(1000, 100, 50, 60, 70), True),
    ],
)
def test_figures_are_written_when_they_moved_and_confirmed_now_and_then(
    seconds: int, now: OnlineCounts, written: bool
) -> None:
    first = with_online(serving(), {"r1": counts(1000, 100, 50, 60, 70)}, NOW)
    assert (with_online(first, {"r1": now}, at(seconds)) is not first) == written


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)), max_size=9))
def test_sums_of_processes_are_the_figures_of_one_that_had_it_all(parts: list[tuple[int, int, int, int]]) -> None:
    board, whole = OnlineBoard(0.0), OnlineCounts()
    for n, (a, b, c, d) in enumerate(parts):
        one = counts(a, a + b + c + d, a, a + b, a + b + c)
        whole = whole.plus(one)
        board.take(report(f"pod-{n}", r1=one), HEARD)
    sums = board.sums("team", "live", "u-1", HEARD) or {"r1": OnlineCounts()}
    assert sums["r1"] == whole
    assert all(0 <= value <= 1 for value in figures(whole).values())


def deployed(as_of: str = "2026-06-01T00:00:00Z", chosen: int = 200, **metrics: Any) -> dict[str, Any]:
    found = star("StarDeployment", "team", "live", {"checkpoint": {"digest": DIGEST}})
    online = {"revision": "r1", "chosen": chosen, "asOf": as_of}
    return {**found, "status": {"metrics": metrics, "online": online}}


LOW: dict[str, Any] = {"online.hr1": 0.2}
ONLINE = Drift(metric="online.hr1", below=0.3)


@pytest.mark.parametrize(
    ("drift", "body", "says"),
    [
        (ONLINE, deployed(**LOW), 0.2),
        (ONLINE, None, "does not exist yet"),
        (ONLINE, deployed(), "has no online.hr1 yet: no feedback has come in on what serves (POST /v1/feedback)"),
        (
            ONLINE,
            deployed(chosen=99, **LOW),
            "has feedback on 99 recommendations, fewer than spec.trigger.drift.minChosen (100)",
        ),
        (
            ONLINE,
            deployed("2026-05-31T00:00:00Z", **LOW),
            "has online.hr1 of 2026-05-31T00:00:00Z: its gateways do not report since (now 2026-06-01T00:00:00Z)",
        ),
        (Drift(metric="ours", below=1), deployed("2026-05-31T00:00:00Z", ours=0.5), 0.5),
        (Drift(metric="ours", below=1), deployed(), "has no metric ours in its status"),
        (ONLINE, {**deployed(), "status": {"metrics": 3}}, "has a status of another version"),
    ],
)
def test_what_a_schedule_reads_of_it(drift: Drift, body: dict[str, Any] | None, says: float | str) -> None:
    assert measured(drift, body, int(NOW.timestamp())) == says
    assert STALE_SECONDS > 2 * KEEP_FRESH_SECONDS, "one confirmation may be missed"
