"""Who moves to another build, and when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from star_operator.core.reasons import ConditionReason
from star_operator.policy.builds import NO_TURN, SETTLE, Change, Line, Standing, Turn, Unit, moving, turn, with_outdated

START = datetime(2026, 1, 1, tzinfo=UTC)
WAITING, HELD, UPDATING = ConditionReason.UPDATE_WAITING, ConditionReason.UPDATE_HELD, ConditionReason.UPDATING


def unit(name: str, change: Change, *, wanted: int = 1, answers: bool = True, whole: bool = True) -> Unit:
    return Unit(name, change, wanted, answers, whole and answers)


@pytest.mark.parametrize(
    ("change", "turn_", "stuck", "answers", "moves"),
    [
        (Change.NOTHING, True, True, False, False),
        (Change.BUILD, False, False, True, False),
        (Change.BUILD, False, False, False, False),  # it starts
        (Change.BUILD, False, True, False, True),  # it does not come up: nothing is lost
        (Change.BUILD, False, True, True, False),  # a part of it answers
        (Change.BUILD, True, False, True, True),
        (Change.ASKED, False, False, True, True),
        (Change.ASKED, False, False, False, True),
    ],
)
def test_a_deployment_moves(change: Change, turn_: bool, stuck: bool, answers: bool, moves: bool) -> None:
    one = unit("", change, answers=answers)
    assert moving([one], turn=turn_, stuck=stuck) == ({""} if moves else set())


def test_what_is_scaled_to_nothing_moves_at_any_time() -> None:
    assert moving([unit("", Change.BUILD, wanted=0, answers=False)], turn=False, stuck=False) == {""}


@pytest.mark.parametrize("change", [Change.ASKED, Change.BUILD])
def test_copies_of_several_nodes_move_one_by_one_whoever_has_asked_for_it(change: Change) -> None:
    first, second = unit("0", change), unit("1", change)
    assert moving([first, second], turn=True, stuck=False) == {"0"}
    starts = unit("0", Change.NOTHING, answers=False)
    assert moving([starts, second], turn=True, stuck=False) == set(), "one is on its way"
    rolls = unit("0", Change.NOTHING, whole=False)
    assert moving([rolls, second], turn=True, stuck=False) == set(), "its pods are still those of before"
    assert moving([unit("0", Change.NOTHING), second], turn=True, stuck=False) == {"1"}


def test_a_copy_that_does_not_answer_moves_first() -> None:
    broken, serves = unit("1", Change.ASKED, answers=False), unit("0", Change.ASKED)
    assert moving([serves, broken], turn=False, stuck=False) == {"1"}


def standing(**more: Any) -> Standing:
    return Standing(**({"behind": True, "moves": False, "whole": True, "gapless": True, "running": True} | more))


def decided(
    found: Standing,
    before: ConditionReason | None,
    *,
    seconds: float = 0,
    at_once: int = 1,
    others: int = 0,
    **more: Any,
) -> Turn:
    line = Line(at_once, [f"team/{number}" for number in range(others)], first=more.get("first", True))
    return turn(found, before, START, line, START + timedelta(seconds=seconds))


LATER = SETTLE.total_seconds()


@pytest.mark.parametrize(
    ("found", "before", "more", "now", "reason"),
    [
        (standing(behind=False), None, {}, False, None),
        (standing(behind=False), WAITING, {}, False, None),
        (standing(), None, {"seconds": LATER}, False, WAITING),  # it says so first
        (standing(), WAITING, {"seconds": LATER - 1}, False, WAITING),
        (standing(), WAITING, {"seconds": LATER}, False, UPDATING),  # it says so first
        (standing(), WAITING, {"seconds": LATER, "others": 1}, False, WAITING),
        (standing(), WAITING, {"seconds": LATER, "others": 1, "at_once": 2}, False, UPDATING),
        (standing(), WAITING, {"seconds": LATER, "first": False}, False, WAITING),
        (standing(), UPDATING, {}, True, UPDATING),
        (standing(whole=False), UPDATING, {"others": 1}, True, UPDATING),
        (standing(behind=False, moves=True, whole=False), UPDATING, {}, True, UPDATING),
        (standing(behind=False), UPDATING, {}, False, None),
        (standing(behind=False, moves=True), WAITING, {}, False, None),
        (standing(running=False), WAITING, {"others": 1}, True, None),
        (standing(whole=False), WAITING, {"seconds": LATER}, False, HELD),
        (standing(gapless=False), WAITING, {"seconds": LATER}, False, HELD),
        (standing(), WAITING, {"seconds": LATER, "at_once": 0}, False, HELD),
        (standing(gapless=False, whole=False, wish="now"), None, {"others": 9, "at_once": 0}, True, UPDATING),
        (standing(wish="never"), WAITING, {"seconds": LATER}, False, HELD),
        (standing(wish="never"), UPDATING, {}, False, HELD),
    ],
)
def test_turns(
    found: Standing, before: ConditionReason | None, more: dict[str, Any], now: bool, reason: ConditionReason | None
) -> None:
    said = decided(found, before, **more)
    assert (said.now, said.reason) == (now, reason)
    assert bool(said.message) == (reason is not None)


def test_who_waits_hears_for_whom() -> None:
    said = decided(standing(), WAITING, seconds=LATER, others=1)
    assert "until it is its turn; 1 at a time are moved (team/0), in the order of their names" in said.message


def test_the_condition_is_there_as_long_as_it_holds() -> None:
    conditions = with_outdated((), Turn(False, WAITING, "it waits"), 3, "2026-01-01T00:00:00Z")
    assert [(one.type, one.status, one.reason, one.observed_generation) for one in conditions] == [
        ("Outdated", "True", "UpdateWaiting", 3)
    ]
    assert with_outdated(conditions, NO_TURN, 3, "2026-01-01T00:01:00Z") == ()
