"""Baselines: figures worked out by hand, no leakage, ties as expectations."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from star_contracts.data import Interaction, RankingTask, TaskType
from star_contracts.settings import Baseline
from star_jobs.evaluate.baselines import baseline_hits, training_matrix, unit_columns


def task(task_id: str, user: str, candidates: tuple[str, ...], history: tuple[str, ...] = ()) -> RankingTask:
    events = tuple(Interaction(item_id=item, timestamp=index) for index, item in enumerate(history))
    return RankingTask(
        task_id=task_id, type=TaskType.CLASSIC, user_id=user, candidates=candidates, seed=0, history=events
    )


def interactions(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "item_id": [item for _, item in pairs],
            "timestamp": list(range(len(pairs))),
            "rating": [4.0] * len(pairs),
        }
    )


PAIRS = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "b"), ("u3", "a"), ("u3", "c"), ("u4", "d")]


def test_random_is_the_analytic_expectation() -> None:
    tasks = [task("t", "u9", tuple(f"i{n}" for n in range(20)))]
    hits = baseline_hits(Baseline.RANDOM, tasks, {"t": "i7"}, training_matrix(interactions(PAIRS), tasks, {"t": "i7"}))
    assert hits[0] == pytest.approx((0.05, 0.15, 0.25))


def test_identity_returns_the_order_given() -> None:
    tasks = [task("t", "u9", ("c", "a", "d", "b"))]
    truth = {"t": "a"}
    hits = baseline_hits(Baseline.IDENTITY, tasks, truth, training_matrix(interactions(PAIRS), tasks, truth))
    assert tuple(hits[0]) == (0.0, 1.0, 1.0)


def test_popularity_counts_users_and_shares_ties() -> None:
    tasks = [task("t", "u9", ("d", "c", "a", "b")), task("unseen", "u9", ("d", "x", "y", "a"))]
    truth = {"t": "c", "unseen": "y"}
    hits = baseline_hits(Baseline.POPULARITY, tasks, truth, training_matrix(interactions(PAIRS), tasks, truth))
    # a: 3 users, b: 2, c and d: 1 each, so c lands on place 3 or 4.
    assert hits[0] == pytest.approx((0.0, 0.5, 1.0))
    # a and d are known, x and y are not: y lands on place 3 or 4.
    assert hits[1] == pytest.approx((0.0, 0.5, 1.0))


def test_item_cf_ranks_by_cosine_with_the_history() -> None:
    tasks = [task("t", "u9", ("c", "d", "a"), history=("b", "b"))]
    truth = {"t": "a"}
    training = training_matrix(interactions(PAIRS), tasks, truth)
    unit = unit_columns(training.matrix)
    cosine = float((unit[:, [training.columns["a"]]].T @ unit[:, [training.columns["b"]]]).toarray()[0, 0])
    assert cosine == pytest.approx(2 / np.sqrt(3 * 2))
    assert tuple(baseline_hits(Baseline.ITEM_CF, tasks, truth, training)[0]) == (1.0, 1.0, 1.0)


def test_item_cf_without_a_history_knows_nothing() -> None:
    tasks = [task("t", "u9", ("c", "d", "a"))]
    truth = {"t": "a"}
    hits = baseline_hits(Baseline.ITEM_CF, tasks, truth, training_matrix(interactions(PAIRS), tasks, truth))
    assert hits[0] == pytest.approx((1 / 3, 1.0, 1.0))


def test_the_ground_truth_is_taken_out_of_training_and_counted() -> None:
    tasks = [task("t", "u1", ("a", "d"), history=("b",))]
    truth = {"t": "a"}
    training = training_matrix(interactions(PAIRS), tasks, truth)
    assert training.dropped == 1
    popularity = np.asarray(training.matrix.sum(axis=0)).ravel()
    assert popularity[training.columns["a"]] == 2


def test_repeated_interactions_count_once() -> None:
    training = training_matrix(interactions([("u", "a")] * 3 + [("u", "b")]), [], {})
    assert training.matrix.shape == (1, 2)
    assert training.matrix.sum() == 2
    assert training.dropped == 0


def test_a_column_without_interactions_stays_zero() -> None:
    matrix = sparse.csc_array(np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert unit_columns(matrix).toarray() == pytest.approx(np.array([[2**-0.5, 0.0], [2**-0.5, 0.0]]))
