"""Equations 2 and 3 of the paper, case by case."""

import pytest

from star_contracts.settings import Rewards, Variant
from star_jobs.trajectory.format import serialize
from star_jobs.trajectory.reward import hit_rank, is_permutation, outcome_reward, reward
from tests.unit.star_jobs.trajectory.samples import RUN

DEFAULTS = Rewards()
TEXT = "".join(segment.text for segment in serialize(RUN))


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (2, 2 / 3), (3, 2 / 3), (4, 1 / 3), (5, 1 / 3), (6, 0.0)])
def test_outcome_by_rank(rank: int, expected: float) -> None:
    ranking = [str(n) for n in range(1, 21)]
    assert outcome_reward(ranking, str(rank), DEFAULTS) == expected


def test_a_truth_that_is_not_listed_earns_nothing() -> None:
    assert outcome_reward(["1", "2"], "3", DEFAULTS) == 0.0
    assert hit_rank(["1", "2"], "3") is None


def test_repeated_and_unknown_ids_keep_their_places() -> None:
    assert hit_rank(["9", "9", "3"], "3") == 3


@pytest.mark.parametrize(("truth", "total"), [("7", 2.0), ("3", 1 + 2 / 3), ("21", 1 + 1 / 3), ("99", 1.0)])
def test_a_well_formed_answer(truth: str, total: float) -> None:
    assert reward(TEXT, truth, DEFAULTS).total == pytest.approx(total)


def test_a_hit_in_poor_form_still_counts_as_a_hit() -> None:
    judged = reward(TEXT.replace("<plan>", ""), "7", DEFAULTS)
    assert (judged.format, judged.outcome) == (-1.0, 1.0)


def test_garbage_earns_the_penalty() -> None:
    assert reward("I like films", "7", DEFAULTS).total == -1.0


def test_weights_are_settings() -> None:
    rewards = Rewards(format_valid=0.1, format_invalid=-2, top1=5)
    assert reward(TEXT, "7", rewards).total == pytest.approx(5.1)
    assert reward("", "7", rewards).total == -2


def test_the_form_asked_for_is_the_variants() -> None:
    without_plan = TEXT.split("\n", 1)[1]
    assert reward(without_plan, "7", DEFAULTS).format == -1.0
    assert reward(without_plan, "7", DEFAULTS, Variant.WITHOUT_PLANNER).format == 1.0


def test_permutations() -> None:
    assert is_permutation(("b", "a"), ("a", "b"))
    assert not is_permutation(("a", "a"), ("a", "b"))
    assert not is_permutation(("a",), ("a", "b"))
    assert not is_permutation(("a", "b", "c"), ("a", "b"))
