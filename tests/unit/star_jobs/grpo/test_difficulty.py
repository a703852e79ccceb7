"""Difficulty classes and the RL set (paper A.1)."""

from collections import Counter

import pytest

from star_contracts.settings import DifficultyMix, DifficultySampling
from star_jobs.grpo.difficulty import Difficulty, Instance, classify, metrics, quotas, select

EIGHT = {
    0: Difficulty.UNSOLVED,
    1: Difficulty.HARD,
    2: Difficulty.HARD,
    3: Difficulty.MEDIUM,
    4: Difficulty.MEDIUM,
    5: Difficulty.MEDIUM,
    6: Difficulty.EASY,
    7: Difficulty.EASY,
    8: Difficulty.ALWAYS,
}


@pytest.mark.parametrize(("solved", "expected"), EIGHT.items())
def test_the_papers_classes(solved: int, expected: Difficulty) -> None:
    assert classify(solved, 8) is expected


@pytest.mark.parametrize(
    ("solved", "samples", "expected"),
    [
        (1, 4, Difficulty.HARD),
        (2, 4, Difficulty.MEDIUM),
        (3, 4, Difficulty.EASY),
        (1, 2, Difficulty.MEDIUM),
        (1, 1, Difficulty.ALWAYS),
        (10, 16, Difficulty.MEDIUM),
        (11, 16, Difficulty.EASY),
    ],
)
def test_other_numbers_of_samples(solved: int, samples: int, expected: Difficulty) -> None:
    assert classify(solved, samples) is expected


def instances(counts: dict[int, int]) -> list[Instance]:
    made = [
        Instance(task_id=f"{solved}-{n}", samples=8, solved=solved, difficulty=classify(solved, 8))
        for solved, count in counts.items()
        for n in range(count)
    ]
    return sorted(made, key=lambda i: (i.task_id.split("-")[1], i.task_id))


def kept(found: list[Instance]) -> Counter[Difficulty]:
    return Counter(i.difficulty for i in found if i.kept)


def test_the_mix_is_3_4_3() -> None:
    found = select(instances({7: 100, 4: 100, 1: 100, 0: 50, 8: 50}), DifficultySampling(instances=50))
    assert kept(found) == {Difficulty.EASY: 15, Difficulty.MEDIUM: 20, Difficulty.HARD: 15}
    assert len(found) == 400


def test_a_plentiful_class_does_not_crowd_out_a_scarce_one() -> None:
    found = select(instances({7: 900, 4: 10, 1: 5}), DifficultySampling(instances=500))
    assert kept(found) == {Difficulty.EASY: 150, Difficulty.MEDIUM: 10, Difficulty.HARD: 5}


def test_a_small_model_fills_up_with_what_it_never_solves_first() -> None:
    sampling = DifficultySampling(instances=10, keep_unsolved=True)
    found = select(instances({7: 4, 4: 1, 0: 3, 8: 9}), sampling)
    assert kept(found) == {Difficulty.EASY: 4, Difficulty.MEDIUM: 1, Difficulty.UNSOLVED: 3, Difficulty.ALWAYS: 2}


def test_order_is_kept_and_nothing_unsolved_is_taken_by_default() -> None:
    given = instances({0: 3, 8: 3})
    found = select(given, DifficultySampling())
    assert [i.task_id for i in found] == [i.task_id for i in given]
    assert not any(i.kept for i in found)


@pytest.mark.parametrize("total", [1, 7, 10, 486, 500])
def test_quotas_add_up(total: int) -> None:
    assert sum(quotas(DifficultyMix(), total).values()) == total


def test_a_class_can_be_left_out() -> None:
    assert quotas(DifficultyMix(easy=0, medium=1, hard=1), 10)[Difficulty.EASY] == 0


def test_metrics() -> None:
    found = metrics(select(instances({4: 2, 0: 2}), DifficultySampling(instances=2)))
    assert found["kept"] == 1
    assert found["medium"] == 2
    assert found["unsolved"] == 2
    assert found["hitAt1"] == 0.25
