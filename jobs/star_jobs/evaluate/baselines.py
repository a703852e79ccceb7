"""Recommenders without an LLM, measured on the very same tasks.

They only see training interactions, and of those never a test user's interaction with the task's ground truth. Ties
are scored as their expectation under a random order: breaking them by position would let the order of the candidates
leak into a figure that claims to be about popularity or similarity.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from star_contracts.data import RankingTask
from star_contracts.settings import Baseline
from star_jobs.evaluate import collaborative
from star_jobs.evaluate.metrics import CUTOFFS, Hits, hits_with_ties

_SCORE_DECIMALS = 12
"""Sums of floats in another order differ in the last digits; closer than this counts as tied."""

Scorer = Callable[[RankingTask], NDArray[np.float64]]
"""A task -> one score a candidate, higher is better."""


@dataclass(frozen=True)
class TrainingMatrix:
    """Binary user-item interactions, with the ground truth of the measured tasks taken out."""

    matrix: sparse.csc_array
    """Shape (users, items), 1 where the user interacted with the item."""
    rows: Mapping[str, int]
    """User id -> row."""
    columns: Mapping[str, int]
    """Item id -> column."""
    dropped: int
    """Interactions taken out because they were a task's answer; 0 for a dataset that keeps its leakage rules."""

    def known(self, items: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return (places in `items`, columns) of those that anyone interacted with."""
        places = [place for place, item in enumerate(items) if item in self.columns]
        return places, [self.columns[items[place]] for place in places]


@dataclass(frozen=True)
class BaselineRun:
    """What a baseline did, and how long it took."""

    hits: Hits
    fit_seconds: float
    """Learning from the training interactions, once."""
    answer_seconds: float
    """Mean time to score one task's candidates."""


def training_matrix(
    interactions: pl.DataFrame, tasks: Sequence[RankingTask], truth: Mapping[str, str]
) -> TrainingMatrix:
    """Build the matrix from columns `user_id`, `item_id` (other columns are ignored; repeats count once)."""
    answers = pl.DataFrame(
        {"user_id": [task.user_id for task in tasks], "item_id": [truth[task.task_id] for task in tasks]},
        schema={"user_id": pl.String, "item_id": pl.String},
    ).unique()
    pairs = interactions.select(pl.col("user_id").cast(pl.String), pl.col("item_id").cast(pl.String)).unique()
    safe = pairs.join(answers, on=["user_id", "item_id"], how="anti").sort("user_id", "item_id")
    rows = {user: index for index, user in enumerate(safe["user_id"].unique().sort())}
    columns = {item: index for index, item in enumerate(safe["item_id"].unique().sort())}
    places = (safe["user_id"].rank("dense").to_numpy() - 1, safe["item_id"].rank("dense").to_numpy() - 1)
    matrix = sparse.coo_array((np.ones(len(safe), dtype=np.float64), places), shape=(len(rows), len(columns))).tocsc()
    return TrainingMatrix(matrix=matrix, rows=rows, columns=columns, dropped=len(pairs) - len(safe))


def run_baseline(
    baseline: Baseline,
    tasks: Sequence[RankingTask],
    truth: Mapping[str, str],
    training: TrainingMatrix,
    *,
    seed: int = 0,
    still: Callable[[], None] = lambda: None,
) -> BaselineRun:
    """Fit a baseline and let it rank every task; hits have one row a task in the order given.

    `seed` starts those that learn from random numbers. `still` is called now and then while they learn, and raises
    what ends the work early.
    """
    still()
    started = time.perf_counter()
    scorer = _fit(baseline, training, seed, still)
    fitted = time.perf_counter()
    scored = [scorer(task) for task in tasks]
    answered = time.perf_counter()
    rows = [_hits(task, truth[task.task_id], scores) for task, scores in zip(tasks, scored, strict=True)]
    hits = np.array(rows, dtype=np.float64).reshape(-1, len(CUTOFFS))
    return BaselineRun(hits, fitted - started, (answered - fitted) / max(len(tasks), 1))


def unit_columns(matrix: sparse.csc_array) -> sparse.csc_array:
    """Scale every column to length 1, so that a product of two columns is their cosine."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.csc_array(matrix @ sparse.diags_array(scale))


def _fit(baseline: Baseline, training: TrainingMatrix, seed: int, still: Callable[[], None]) -> Scorer:
    match baseline:
        case Baseline.RANDOM:
            return lambda task: np.zeros(len(task.candidates))
        case Baseline.IDENTITY:
            return lambda task: -np.arange(len(task.candidates), dtype=np.float64)
        case Baseline.POPULARITY:
            popularity = np.asarray(training.matrix.sum(axis=0), dtype=np.float64).ravel()
            return _by_history(training, lambda _, candidates: popularity[candidates], needs_history=False)
        case Baseline.ITEM_CF:
            return _by_history(training, _item_cf(training))
        case Baseline.ITEM_KNN_COSINE:
            return _by_history(training, collaborative.cosine_neighbours(sparse.csr_array(training.matrix)))
        case Baseline.ITEM_KNN_BM25:
            return _by_history(training, collaborative.bm25_neighbours(sparse.csr_array(training.matrix)))
        case Baseline.ALS:
            return _by_history(training, collaborative.als(sparse.csr_array(training.matrix), seed=seed))
        case Baseline.LIGHTGCN:
            return _lightgcn(training, seed, still)


def _by_history(training: TrainingMatrix, score: collaborative.Score, *, needs_history: bool = True) -> Scorer:
    """Score the known candidates by the history's items (each once); what nobody took scores 0."""

    def scores(task: RankingTask) -> NDArray[np.float64]:
        result = np.zeros(len(task.candidates))
        places, candidates = training.known(task.candidates)
        history = sorted(set(training.known([event.item_id for event in task.history])[1]))
        if places and (history or not needs_history):
            result[places] = score(history, candidates)
        return result

    return scores


def _item_cf(training: TrainingMatrix) -> collaborative.Score:
    """Sum the cosines of a candidate with all the history's items, however weak."""
    unit = unit_columns(training.matrix)

    def score(history: Sequence[int], candidates: Sequence[int]) -> NDArray[np.float64]:
        profile = np.asarray(unit[:, list(history)].sum(axis=1)).ravel()
        return np.asarray(unit[:, list(candidates)].T @ profile)

    return score


def _lightgcn(training: TrainingMatrix, seed: int, still: Callable[[], None]) -> Scorer:
    from star_jobs.evaluate.lightgcn import learn  # here: only the trainer image has torch

    learned = learn(sparse.csr_array(training.matrix), seed=seed, still=still)

    def scores(task: RankingTask) -> NDArray[np.float64]:
        result = np.zeros(len(task.candidates))
        places, candidates = training.known(task.candidates)
        if places and task.user_id in training.rows:
            result[places] = learned.items[candidates] @ learned.users[training.rows[task.user_id]]
        return result

    return scores


def _hits(task: RankingTask, truth: str, scores: NDArray[np.float64]) -> tuple[float, float, float]:
    rounded = np.round(scores, _SCORE_DECIMALS)
    own = rounded[task.candidates.index(truth)]
    return hits_with_ties(int((rounded > own).sum()), int((rounded == own).sum()))
