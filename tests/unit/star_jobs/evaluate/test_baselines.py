"""Baselines: figures worked out by hand, no leakage, ties as expectations."""

import sys
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from star_contracts.data import Interaction, RankingTask, TaskType
from star_contracts.settings import Baseline
from star_jobs.evaluate import collaborative
from star_jobs.evaluate.baselines import TrainingMatrix, run_baseline, training_matrix, unit_columns
from star_jobs.evaluate.metrics import Hits


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


def baseline_hits(
    baseline: Baseline, tasks: list[RankingTask], truth: dict[str, str], training: TrainingMatrix
) -> Hits:
    return run_baseline(baseline, tasks, truth, training).hits


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


CLUBS = [(f"u{n}", f"{'ab'[n % 2]}{(n + step) % 6}") for n in range(24) for step in range(4)]
"""Half of the users take items a0..a5, the other half b0..b5, and nobody takes of both."""
LEARNERS = (Baseline.ITEM_KNN_COSINE, Baseline.ITEM_KNN_BM25, Baseline.ALS)


@pytest.mark.parametrize("baseline", LEARNERS)
def test_what_is_learned_finds_the_club_of_the_history(baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "FACTORS", 2)  # 64 would remember twelve items one by one
    tasks = [
        task("a", "new", ("b1", "b2", "a3", "b4"), history=("a0", "a1")),
        task("b", "new", ("a1", "a2", "a4", "b3"), history=("b0", "b5")),
    ]
    truth = {"a": "a3", "b": "b3"}
    hits = baseline_hits(baseline, tasks, truth, training_matrix(interactions(CLUBS), tasks, truth))
    assert hits.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("baseline", LEARNERS)
def test_learners_know_nothing_of_an_empty_history_or_unknown_items(baseline: Baseline) -> None:
    tasks = [task("t", "new", ("b1", "a3")), task("x", "new", ("x1", "x2"), history=("a0",))]
    truth = {"t": "a3", "x": "x2"}
    hits = baseline_hits(baseline, tasks, truth, training_matrix(interactions(CLUBS), tasks, truth))
    assert hits[0] == pytest.approx((0.5, 1, 1))
    assert hits[1] == pytest.approx((0.5, 1, 1))


def test_item_knn_scores_with_the_neighbours_each_item_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "NEIGHBOURS", 2)
    # With every item its own nearest, two neighbours are the item itself and one other.
    pairs = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "b"), ("u3", "a"), ("u3", "c")]
    training = training_matrix(interactions(pairs), [], {})
    matrix = sparse.csr_array(training.matrix)
    a, b, c = (training.columns[item] for item in "abc")
    scores = collaborative.cosine_neighbours(matrix)([a], [b, c])
    assert scores == pytest.approx([2 / np.sqrt(3 * 2), 0])
    # c keeps a, although a keeps b only: the history's items are the ones that name.
    assert collaborative.cosine_neighbours(matrix)([c], [a]) == pytest.approx([1 / np.sqrt(3)])


def test_als_repeats_with_its_seed() -> None:
    matrix = sparse.csr_array(training_matrix(interactions(CLUBS), [], {}).matrix)
    first, again, other = (collaborative.als(matrix, seed=seed)([0, 1], [2, 3, 8]) for seed in (1, 1, 2))
    assert first == pytest.approx(again, abs=1e-5)
    assert first != pytest.approx(other, abs=1e-7)


def test_lightgcn_scores_by_the_users_own_node(monkeypatch: pytest.MonkeyPatch) -> None:
    class Learned:
        users = np.eye(4, dtype=np.float32)
        items = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [2, 3, 0, 0], [3, 2, 0, 0]], dtype=np.float32)

    module = ModuleType("star_jobs.evaluate.lightgcn")
    monkeypatch.setattr(module, "learn", lambda *_, **__: Learned(), raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tasks = [task("t", "u1", ("a", "d", "c")), task("n", "nobody", ("a", "d"))]
    truth = {"t": "d", "n": "d"}
    hits = baseline_hits(Baseline.LIGHTGCN, tasks, truth, training_matrix(interactions(PAIRS), tasks, truth))
    assert hits[0] == pytest.approx((1, 1, 1)), "u1 is row 0: a 0, c 2, d 3"
    assert hits[1] == pytest.approx((0.5, 1, 1)), "a user without a node knows nothing"


def test_learning_ends_when_the_pod_is_told_to_stop() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_baseline(Baseline.ALS, [], {}, training_matrix(interactions(CLUBS), [], {}), still=stop)


def test_times_are_measured() -> None:
    tasks = [task("t", "u9", ("c", "a"))]
    done = run_baseline(Baseline.ITEM_CF, tasks, {"t": "a"}, training_matrix(interactions(PAIRS), tasks, {"t": "a"}))
    assert done.fit_seconds > 0
    assert done.answer_seconds > 0
