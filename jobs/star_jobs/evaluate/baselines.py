"""Recommenders without an LLM, measured on the very same tasks: random, identity, popularity and ItemCF.

They only see training interactions, and of those never a test user's interaction with the task's ground truth. Ties
are scored as their expectation under a random order: breaking them by position would let the order of the candidates
leak into a figure that claims to be about popularity or similarity.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from star_contracts.data import RankingTask
from star_contracts.settings import Baseline
from star_jobs.evaluate.metrics import CUTOFFS, Hits, hits_with_ties

_SCORE_DECIMALS = 12
"""Sums of floats in another order differ in the last digits; closer than this counts as tied."""


@dataclass(frozen=True)
class TrainingMatrix:
    """Binary user-item interactions, with the ground truth of the measured tasks taken out."""

    matrix: sparse.csc_array
    """Shape (users, items), 1 where the user interacted with the item."""
    columns: Mapping[str, int]
    """Item id -> column."""
    dropped: int
    """Interactions taken out because they were a task's answer; 0 for a dataset that keeps its leakage rules."""


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
    items = safe["item_id"].unique().sort()
    columns = {item: index for index, item in enumerate(items)}
    users = safe["user_id"].rank("dense").to_numpy() - 1
    cells = safe["item_id"].rank("dense").to_numpy() - 1
    matrix = sparse.coo_array(
        (np.ones(len(safe), dtype=np.float64), (users, cells)), shape=(safe["user_id"].n_unique(), len(columns))
    ).tocsc()
    return TrainingMatrix(matrix=matrix, columns=columns, dropped=len(pairs) - len(safe))


def baseline_hits(
    baseline: Baseline, tasks: Sequence[RankingTask], truth: Mapping[str, str], training: TrainingMatrix
) -> Hits:
    """Return a baseline's hit table, one row a task in the order given."""
    match baseline:
        case Baseline.RANDOM:
            rows: Iterable[tuple[float, float, float]] = (hits_with_ties(0, len(task.candidates)) for task in tasks)
        case Baseline.IDENTITY:
            rows = (_identity(task, truth[task.task_id]) for task in tasks)
        case Baseline.POPULARITY:
            popularity = np.asarray(training.matrix.sum(axis=0), dtype=np.float64).ravel()
            rows = (_scored(task, truth[task.task_id], _popularity(task, training, popularity)) for task in tasks)
        case Baseline.ITEM_CF:
            unit = unit_columns(training.matrix)
            rows = (_scored(task, truth[task.task_id], _item_cf(task, training, unit)) for task in tasks)
    return np.array(list(rows), dtype=np.float64).reshape(-1, len(CUTOFFS))


def unit_columns(matrix: sparse.csc_array) -> sparse.csc_array:
    """Scale every column to length 1, so that a product of two columns is their cosine."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.csc_array(matrix @ sparse.diags_array(scale))


def _identity(task: RankingTask, truth: str) -> tuple[float, float, float]:
    return hits_with_ties(task.candidates.index(truth), 1)


def _popularity(task: RankingTask, training: TrainingMatrix, popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(
        [popularity[training.columns[item]] if item in training.columns else 0.0 for item in task.candidates]
    )


def _item_cf(task: RankingTask, training: TrainingMatrix, unit: sparse.csc_array) -> NDArray[np.float64]:
    """Score each candidate by the sum of its cosines with the history's items (each item once)."""
    history = sorted({training.columns[event.item_id] for event in task.history if event.item_id in training.columns})
    known = [index for index, item in enumerate(task.candidates) if item in training.columns]
    scores = np.zeros(len(task.candidates))
    if history and known:
        profile = np.asarray(unit[:, history].sum(axis=1)).ravel()
        candidates = unit[:, [training.columns[task.candidates[index]] for index in known]]
        scores[known] = candidates.T @ profile
    return scores


def _scored(task: RankingTask, truth: str, scores: NDArray[np.float64]) -> tuple[float, float, float]:
    rounded = np.round(scores, _SCORE_DECIMALS)
    own = rounded[task.candidates.index(truth)]
    return hits_with_ties(int((rounded > own).sum()), int((rounded == own).sum()))
