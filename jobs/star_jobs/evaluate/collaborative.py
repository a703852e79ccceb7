"""ItemKNN and ALS, as `implicit` computes them (https://benfred.github.io/implicit/), scored on a task's candidates.

ItemKNN: every item keeps its NEIGHBOURS nearest items by cosine, or by BM25-weighted product; a candidate's score is
the sum of the weights with which the history's items name it as a neighbour. ALS: implicit-feedback matrix
factorization (Hu, Koren and Volinsky 2008, doi:10.1109/ICDM.2008.22); the user's factors are solved for the history
that the task shows, so that ALS knows what the other rankers know. An item nobody took scores 0 in both.
"""

import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

NEIGHBOURS = 100
"""Per item: implicit's own default is 20, too few to name a rare candidate; with all of them popularity decides."""
FACTORS = 64
CONFIDENCE = 10.0
"""Alpha of Hu et al.: how much more an interaction counts than the absence of one."""
REGULARIZATION = 0.01
ITERATIONS = 15

Scores = NDArray[np.float64]
Score = Callable[[Sequence[int], Sequence[int]], Scores]
"""(columns of the history, columns of the candidates) -> one score a candidate."""


def cosine_neighbours(matrix: sparse.csr_array) -> Score:
    """Fit ItemKNN with cosine on a 0/1 matrix of shape (users, items)."""
    return _neighbours(CosineRecommender(K=NEIGHBOURS, num_threads=_threads()), matrix)


def bm25_neighbours(matrix: sparse.csr_array) -> Score:
    """Fit ItemKNN with BM25 weights (K1 1.2, B 0.75) on a 0/1 matrix of shape (users, items)."""
    return _neighbours(BM25Recommender(K=NEIGHBOURS, num_threads=_threads()), matrix)


def als(matrix: sparse.csr_array, *, seed: int) -> Score:
    """Fit ALS on a 0/1 matrix of shape (users, items)."""
    known = _fit_for_implicit(matrix)
    # implicit runs its own threads, and BLAS threads inside them only get in the way.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=FACTORS,
            regularization=REGULARIZATION,
            alpha=CONFIDENCE,
            iterations=ITERATIONS,
            num_threads=_threads(),
            random_state=seed,
        )
        model.fit(known, show_progress=False)

    def score(history: Sequence[int], candidates: Sequence[int]) -> Scores:
        taken = (np.ones(len(history), dtype=np.float32), ([0] * len(history), list(history)))
        user = model.recalculate_user(0, sparse.csr_matrix(taken, shape=(1, known.shape[1])))
        return np.asarray(model.item_factors[list(candidates)] @ user, dtype=np.float64)

    return score


def _neighbours(model: CosineRecommender | BM25Recommender, matrix: sparse.csr_array) -> Score:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # of a conversion inside implicit
        model.fit(_fit_for_implicit(matrix), show_progress=False)
    near = sparse.csr_array(model.similarity)

    def score(history: Sequence[int], candidates: Sequence[int]) -> Scores:
        named = near[list(history)][:, list(candidates)]
        return np.asarray(named.sum(axis=0), dtype=np.float64).ravel()

    return score


def _fit_for_implicit(matrix: sparse.csr_array) -> sparse.csr_matrix:
    """Return a copy with the types that implicit's compiled code takes: float32 values, 32-bit indices."""
    copy = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    copy.indices, copy.indptr = copy.indices.astype(np.int32), copy.indptr.astype(np.int32)
    return copy


def _threads() -> int:
    return len(os.sched_getaffinity(0))
