"""Hit rates, best-of-k and their uncertainty, as pure functions of ranks (paper 4.1, B.1 and C).

A *rank* is the 1-based position of the ground truth in an answer, `None` when the answer misses it. A *hit table* has
one row a task and one column a cutoff (HR@1, HR@3, HR@5), each value in [0, 1]: a fraction where a task has several
answers or where a ranker leaves candidates tied. `HR_avg` is the mean of the three columns (paper 4.1).
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from star_contracts.base import Model

CUTOFFS = (1, 3, 5)

Rank = int | None
Hits = NDArray[np.float64]
"""Shape (tasks, 3)."""

_RESAMPLE_CELLS = 4_000_000
"""Counts held at once while resampling: bounds memory to about 32 MB whatever the number of tasks."""


class Interval(Model):
    """A two-sided confidence interval."""

    low: float
    high: float


class HitRates(Model):
    """HR@1, HR@3, HR@5 and their mean over a set of tasks, each with a percentile bootstrap interval."""

    tasks: int
    hr1: float
    hr3: float
    hr5: float
    hr_avg: float
    hr1_interval: Interval
    hr3_interval: Interval
    hr5_interval: Interval
    hr_avg_interval: Interval


class Difference(Model):
    """Paired difference of two rankers' HR_avg on the same tasks."""

    mean: float
    interval: Interval
    p_value: float
    """Two-sided bootstrap p-value of "no difference"; never below 2 / (resamples + 1)."""


def hits_of_answers(ranks: Sequence[Sequence[Rank]], k: int = 1) -> Hits:
    """Return the hit table of the best of `k` answers, estimated from all the answers of each task.

    With n answers of which c hit at a cutoff, the chance that k answers drawn without replacement contain a hit is
    1 - C(n - c, k) / C(n, k) (the unbiased pass@k estimator of Chen et al. 2021, arXiv:2107.03374); k = 1 is the mean.
    "Best" knows the ground truth, as in paper C: it measures what a perfect selector could reach.

    Raises ValueError when a task has fewer than `k` answers.
    """
    return np.array([[_pass_at_k(answers, cutoff, k) for cutoff in CUTOFFS] for answers in ranks]).reshape(-1, 3)


def _pass_at_k(answers: Sequence[Rank], cutoff: int, k: int) -> float:
    if not 1 <= k <= len(answers):
        raise ValueError(f"best of {k} needs at least {k} answers a task, and a task has {len(answers)}")
    hits = sum(1 for rank in answers if rank is not None and rank <= cutoff)
    return 1.0 - comb(len(answers) - hits, k) / comb(len(answers), k)


def hits_with_ties(better: int, tied: int) -> tuple[float, float, float]:
    """Return one row of a hit table for a ranker that orders ties at random.

    `better` candidates score above the ground truth and `tied` ones (itself included) score the same: it lands on each
    of the positions `better + 1 .. better + tied` equally often.
    """
    at1, at3, at5 = (min(max((cutoff - better) / tied, 0.0), 1.0) for cutoff in CUTOFFS)
    return at1, at3, at5


def budgets(best_of: int) -> tuple[int, ...]:
    """Return the sample budgets reported for best-of-k: 1, 2, 4, ... and `best_of` itself (paper Tables 6-8)."""
    powers = [2**i for i in range(best_of.bit_length()) if 2**i < best_of]
    return (*powers, best_of)


def hit_rates(hits: Hits, *, resamples: int, seed: int) -> HitRates:
    """Summarize a hit table. Intervals are 95% percentile bootstrap over tasks; equal seeds give equal figures."""
    table = _with_average(hits)
    low, high = _percentiles(resampled_means(table, resamples=resamples, seed=seed))
    mean = table.mean(axis=0)
    intervals = [Interval(low=float(a), high=float(b)) for a, b in zip(low, high, strict=True)]
    return HitRates(
        tasks=len(table),
        hr1=float(mean[0]),
        hr3=float(mean[1]),
        hr5=float(mean[2]),
        hr_avg=float(mean[3]),
        hr1_interval=intervals[0],
        hr3_interval=intervals[1],
        hr5_interval=intervals[2],
        hr_avg_interval=intervals[3],
    )


def paired_difference(hits: Hits, baseline: Hits, *, resamples: int, seed: int) -> Difference:
    """Compare HR_avg with a baseline's on the same tasks, row by row.

    Resampling tasks in pairs removes the tasks' own difficulty from the comparison, so it tells apart rankers whose
    separate intervals overlap. Raises ValueError when the tables differ in shape.
    """
    if hits.shape != baseline.shape:
        raise ValueError(f"paired tables must have the same tasks: {hits.shape} against {baseline.shape}")
    difference = hits.mean(axis=1, keepdims=True) - baseline.mean(axis=1, keepdims=True)
    means = resampled_means(difference, resamples=resamples, seed=seed)
    low, high = _percentiles(means)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Difference(
        mean=float(difference.mean()),
        interval=Interval(low=float(low[0]), high=float(high[0])),
        p_value=min(1.0, 2 * (tail + 1) / (resamples + 1)),
    )


def resampled_means(table: Hits, *, resamples: int, seed: int) -> Hits:
    """Return the column means of `resamples` bootstrap samples of the rows; shape (resamples, columns).

    Drawing how often each row is taken (a multinomial) instead of which rows makes each sample one matrix product.
    Raises ValueError for an empty table.
    """
    tasks = len(table)
    if tasks == 0:
        raise ValueError("cannot estimate a rate over no tasks")
    rng = np.random.default_rng(seed)
    block = max(1, _RESAMPLE_CELLS // tasks)
    weights = np.full(tasks, 1.0 / tasks)
    blocks = [
        rng.multinomial(tasks, weights, size=min(block, resamples - done)) @ table / tasks
        for done in range(0, resamples, block)
    ]
    return np.concatenate(blocks)


def _with_average(hits: Hits) -> Hits:
    return np.column_stack([hits, hits.mean(axis=1)])


def _percentiles(means: Hits) -> tuple[Hits, Hits]:
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high
