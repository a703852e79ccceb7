"""Hit rates, best-of-k and bootstrap: against values worked out by hand, brute force and known coverage."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_jobs.evaluate.metrics import (
    CUTOFFS,
    budgets,
    hit_rates,
    hits_of_answers,
    hits_with_ties,
    paired_difference,
    resampled_means,
)

RANKS = st.one_of(st.none(), st.integers(min_value=1, max_value=20))


def test_hit_rates_of_one_answer_a_task() -> None:
    rates = hit_rates(hits_of_answers([[1], [3], [5], [6], [None]]), resamples=200, seed=0)
    assert (rates.hr1, rates.hr3, rates.hr5) == pytest.approx((0.2, 0.4, 0.6))
    assert rates.hr_avg == pytest.approx(0.4)
    assert rates.tasks == 5


@given(st.lists(RANKS, min_size=1, max_size=7), st.data())
@settings(max_examples=60, deadline=None)
def test_best_of_k_equals_the_mean_over_all_subsets(ranks: list[int | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(min_value=1, max_value=len(ranks)))
    for column, cutoff in enumerate(CUTOFFS):
        outcomes = [any(r is not None and r <= cutoff for r in subset) for subset in combinations(ranks, k)]
        assert hits_of_answers([ranks], k)[0, column] == pytest.approx(np.mean(outcomes))


def test_best_of_k_never_falls_as_k_grows() -> None:
    answers: list[list[int | None]] = [[None, 4, 1, 9, 2, None, 3, 1], [None] * 8, [1] * 8]
    means = [hits_of_answers(answers, k).mean() for k in budgets(8)]
    assert means == sorted(means)
    assert budgets(1) == (1,)
    assert budgets(6) == (1, 2, 4, 6)
    assert budgets(16) == (1, 2, 4, 8, 16)


def test_best_of_more_than_was_sampled_is_refused() -> None:
    with pytest.raises(ValueError, match="best of 3 needs at least 3 answers"):
        hits_of_answers([[1, 2]], 3)


def test_ties_are_scored_as_their_expectation() -> None:
    assert hits_with_ties(0, 20) == pytest.approx((0.05, 0.15, 0.25))
    assert hits_with_ties(2, 1) == (0.0, 1.0, 1.0)
    assert hits_with_ties(2, 2) == (0.0, 0.5, 1.0)
    assert hits_with_ties(7, 3) == (0.0, 0.0, 0.0)


def test_intervals_contain_the_mean_and_repeat_with_the_seed() -> None:
    hits = hits_of_answers([[rank] for rank in [1, None, 2, 5, 7, 1, None, 4] * 5])
    first, again, other = (hit_rates(hits, resamples=500, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert first.hr_avg_interval.low < first.hr_avg < first.hr_avg_interval.high


def test_bootstrap_agrees_with_the_normal_approximation() -> None:
    hits = hits_of_answers([[1]] * 300 + [[None]] * 700)
    interval = hit_rates(hits, resamples=4000, seed=1).hr1_interval
    half_width = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert interval.low == pytest.approx(0.3 - half_width, abs=0.004)
    assert interval.high == pytest.approx(0.3 + half_width, abs=0.004)


def test_resampling_in_blocks_gives_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_jobs.evaluate.metrics._RESAMPLE_CELLS", 50)
    assert resampled_means(np.ones((10, 2)), resamples=103, seed=0).shape == (103, 2)


def test_no_tasks_is_an_error() -> None:
    with pytest.raises(ValueError, match="no tasks"):
        hit_rates(np.zeros((0, 3)), resamples=100, seed=0)


def test_paired_difference_sees_what_separate_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 21, size=200)
    better = hits_of_answers([[int(max(1, rank - 1))] for rank in ranks])
    worse = hits_of_answers([[int(rank)] for rank in ranks])
    a, b = (hit_rates(hits, resamples=1000, seed=3) for hits in (better, worse))
    assert a.hr_avg_interval.low < b.hr_avg_interval.high
    difference = paired_difference(better, worse, resamples=1000, seed=3)
    assert difference.interval.low > 0
    assert difference.p_value < 0.01


def test_paired_difference_of_equals_is_nothing() -> None:
    hits = hits_of_answers([[1], [None], [3]])
    difference = paired_difference(hits, hits, resamples=100, seed=0)
    assert difference.mean == 0
    assert difference.p_value == 1
    with pytest.raises(ValueError, match="same tasks"):
        paired_difference(hits, hits[:2], resamples=100, seed=0)
