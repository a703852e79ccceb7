"""Weighted neighbours in the user-item graph, in sparse row blocks (paper 3.3).

Item-CF walks item -> user -> item: two items are near when the same users took them. User-CF walks user -> item ->
user: two users are near when they took the same items; what the near ones liked is the signal.

Work grows with the square of the degree of the node in the middle, so that node's interactions are capped to the most
recent ones. A block of rows is multiplied at a time and only the k largest products of each row are kept, so memory
is bounded by the block, not by the number of pairs. Pure: frames and arrays in, matrices out.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray
from sparse_dot_topn import sp_matmul_topn

from star_contracts.settings import Weighting

BLOCK_ROWS = 8192
_BM25_K1, _BM25_B = 1.2, 0.75
"""The usual constants (Robertson and Zaragoza 2009, doi:10.1561/1500000019)."""

Matrix = sp.csr_matrix


@dataclass(frozen=True)
class Graph:
    """The bipartite graph: one row an edge (user, item), the newest interaction of a pair standing for all."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    edges: pl.DataFrame
    """user (u32), item (u32), timestamp (i64), liked (bool); unique by user and item."""

    @classmethod
    def of(cls, interactions: pl.DataFrame) -> "Graph":
        """Build from a dataset's interactions (user_id, item_id, timestamp, rating).

        An item counts as liked when it has no rating or one not below that user's mean.
        """
        users = tuple(interactions["user_id"].unique().sort())
        items = tuple(interactions["item_id"].unique().sort())
        edges = (
            interactions.with_columns(
                liked=(pl.col("rating") >= pl.col("rating").mean().over("user_id")).fill_null(True)
            )
            .sort("timestamp", maintain_order=True)
            .unique(["user_id", "item_id"], keep="last", maintain_order=True)
            .select(
                user=pl.col("user_id").replace_strict(users, range(len(users)), return_dtype=pl.UInt32),
                item=pl.col("item_id").replace_strict(items, range(len(items)), return_dtype=pl.UInt32),
                timestamp="timestamp",
                liked="liked",
            )
        )
        return cls(users, items, edges)

    def matrix(self, edges: pl.DataFrame) -> Matrix:
        """Return (users, items) with 1 for each of the edges."""
        places = (edges["user"].to_numpy(), edges["item"].to_numpy())
        shape = (len(self.users), len(self.items))
        return sp.csr_matrix((np.ones(len(edges), dtype=np.float32), places), shape=shape)

    def capped(self, by: str, max_degree: int) -> pl.DataFrame:
        """Return the edges with each `by` node ("user" or "item") keeping its `max_degree` most recent ones."""
        newest_first = self.edges.sort(["timestamp", "user", "item"], descending=[True, False, False])
        return newest_first.filter(pl.int_range(pl.len()).over(by) < max_degree)


def weighted(rows: Matrix, weighting: Weighting) -> tuple[Matrix, Matrix]:
    """Return (left, right) such that left @ right.T are the similarities of the rows of a 0/1 matrix.

    Count: shared columns. Cosine: shared columns over the root of both degrees' product. BM25: shared columns weighted
    by rarity (idf) and by both rows' lengths, so that popular rows are not near to everything.
    """
    if weighting is Weighting.COUNT:
        return rows, rows
    degrees = np.asarray(rows.sum(axis=1)).ravel()
    if weighting is Weighting.COSINE:
        scaled = _scale_rows(rows, 1 / np.sqrt(np.maximum(degrees, 1)))
        return scaled, scaled
    frequencies = np.asarray(rows.sum(axis=0)).ravel()
    count = max(int((degrees > 0).sum()), 1)  # rows emptied by the cap are not part of the corpus
    rarity = np.log1p((count - frequencies + 0.5) / (frequencies + 0.5))
    length = (1 - _BM25_B) + _BM25_B * degrees * count / max(degrees.sum(), 1)
    saturated = _scale_rows(rows, (_BM25_K1 + 1) / (_BM25_K1 * length + 1))
    both = sp.csr_matrix(saturated.multiply(rarity[np.newaxis, :]), dtype=np.float32)
    return both, both


def similar(left: Matrix, right: Matrix, k: int) -> Iterator[tuple[int, Matrix]]:
    """Yield (first row, block) where a block's rows hold the k nearest other rows, largest weight first."""
    transposed = right.T.tocsr()
    for start in range(0, left.shape[0], BLOCK_ROWS):
        # One more than asked for, as a row is usually its own nearest.
        block = sp_matmul_topn(left[start : start + BLOCK_ROWS], transposed, k + 1, sort=True, n_threads=_threads())
        yield start, _without_self(block, start, k)


def liked_by_similar(near: Matrix, start: int, liked: Matrix, taken: Matrix, k: int) -> Matrix:
    """Return (block, items): the k items that a block's similar users liked most, those the user took left out.

    An item's weight is the sum of the similarities of the users who liked it. `near` is a block of `similar`.
    """
    scores = sp.csr_matrix(near @ liked)
    own = taken[start : start + near.shape[0]]
    fresh = sp.csr_matrix(scores - scores.multiply(own))
    fresh.eliminate_zeros()
    identity = sp.identity(fresh.shape[1], dtype=np.float32, format="csr")
    best: Matrix = sp_matmul_topn(fresh.astype(np.float32), identity, k, sort=True, n_threads=_threads())
    return best


def _without_self(block: Matrix, start: int, k: int) -> Matrix:
    """Drop each row's entry for itself and keep the first k of the rest."""
    owners = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    other = (block.indices != owners + start) & (block.data > 0)
    before = np.concatenate([[0], np.cumsum(other)])
    rank = before[:-1] - before[block.indptr[owners]]
    keep = other & (rank < k)
    indptr = np.concatenate([[0], np.cumsum(keep)])[block.indptr]
    return sp.csr_matrix((block.data[keep], block.indices[keep], indptr), shape=block.shape)


def _scale_rows(rows: Matrix, factors: NDArray[np.float64]) -> Matrix:
    return sp.csr_matrix(sp.diags(factors) @ rows, dtype=np.float32)


def _threads() -> int:
    return len(os.sched_getaffinity(0))
