"""Weighted neighbours in the user-item graph, in sparse row blocks (paper 3.3).

Item-CF walks item -> user -> item: two items are near when the same users took them. User-CF walks user -> item ->
user: two users are near when they took the same items; what the near ones liked is the signal.

Work grows with the square of the degree of the node in the middle, so that node's interactions are capped to the most
recent ones. A block of rows is multiplied at a time and only the k largest products of each row are kept, so memory
is bounded by the edges and the block, not by the number of pairs. Pure: frames and arrays in, matrices out.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray
from sparse_dot_topn import sp_matmul_topn

from star_contracts.settings import Weighting

BLOCK_ROWS = 131072
"""Rows multiplied and written at a time: few enough for memory, many enough that starting a block costs nothing."""
_BM25_K1, _BM25_B = 1.2, 0.75
"""The usual constants (Robertson and Zaragoza 2009, doi:10.1561/1500000019)."""
_ROUNDING = 1e-9
"""A mean of equal ratings may come out a little above them."""

Matrix = sp.csr_matrix
Mask = NDArray[np.bool_]
Side = Literal["user", "item"]
Blocks = Iterator[tuple[int, Matrix]]
"""(first row, some rows of weights with the strongest first), computed when they are asked for."""


@dataclass(frozen=True)
class Graph:
    """The bipartite graph: one edge a pair of user and item, their newest interaction standing for all."""

    users: pl.Series
    """Ids (str), ascending; a user's number is the place in here."""
    items: pl.Series
    """Ids (str), ascending; an item's number is the place in here."""
    edges: Matrix
    """(users, items) of timestamps (i64); a user's items ascend."""
    liked: Mask
    """For each edge whether its rating is not below that user's mean; True where there is none."""

    @classmethod
    def of(cls, interactions: pl.LazyFrame) -> "Graph":
        """Build from a dataset's interactions (user_id, item_id, timestamp, rating), in any order."""
        # Ids become numbers while they are read, on all cores: as strings they would be most of the memory and time.
        coded = [pl.col(side).cast(pl.Categorical(pl.Categories.random())) for side in ("user_id", "item_id")]
        visits = interactions.select(*coded, "timestamp", pl.col("rating").cast(pl.Float64)).collect(engine="streaming")
        with ThreadPoolExecutor(1) as beside:
            numbering = beside.submit(_numbered, visits["item_id"])
            users, user = _numbered(visits["user_id"])
            rating = visits["rating"].fill_null(np.nan).to_numpy()
            # The newest interaction of a pair is its largest stamp; of two at the same second the liked one counts.
            stamp = visits["timestamp"].to_numpy() * 2
            stamp += _liked(user, rating)
            items, item = numbering.result()
        pairs = user.astype(np.int64)
        pairs <<= 32
        pairs |= item
        order = np.argsort(pairs, kind="stable")  # quick, as a dataset is in order of users
        pairs = pairs[order]
        first = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)])
        newest = np.maximum.reduceat(stamp[order], first) if len(first) else stamp
        degrees = np.bincount(pairs[first] >> 32, minlength=len(users))
        starts = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)
        columns = pairs[first].astype(np.int32)  # the lower half of a pair
        edges = sp.csr_matrix((newest >> 1, columns, starts), (len(users), len(items)))
        return cls(users, items, edges, newest & 1 == 1)

    def matrix(self, mask: Mask | None = None) -> Matrix:
        """Return (users, items) with 1 for each edge, or for each that the mask keeps."""
        kept = np.ones(self.edges.nnz, np.bool_) if mask is None else mask
        indices, starts = self.edges.indices[kept], _kept_starts(self.edges, kept)
        return sp.csr_matrix((np.ones(len(indices), np.float32), indices, starts), self.edges.shape)

    def newest(self, side: Side, max_degree: int) -> Mask:
        """Return which edges are left when each node of a side keeps its `max_degree` most recent ones."""
        nodes = self.edges.indices if side == "item" else _owners(self.edges)
        degrees = np.bincount(nodes)
        kept: Mask = (degrees <= max_degree)[nodes]
        crowded = np.flatnonzero(~kept)
        crowded = crowded[_newest_first(self.edges.data[crowded])]
        one_a_row = crowded, nodes[crowded], np.arange(len(crowded) + 1)
        groups = sp.csr_matrix(one_a_row, (len(crowded), len(degrees))).tocsc()  # sorts by node, in linear time
        rank = np.arange(len(crowded)) - np.repeat(groups.indptr[:-1], np.diff(groups.indptr))
        kept[groups.data[rank < max_degree]] = True
        return kept


@dataclass(frozen=True)
class Capped:
    """A graph, and which edges are left when busy nodes count with their newest ones only."""

    graph: Graph
    by_user: Mask
    by_item: Mask

    @classmethod
    def of(cls, graph: Graph, max_degree: int) -> "Capped":
        """Cap both sides, side by side."""
        with ThreadPoolExecutor(2) as pool:
            by_user, by_item = pool.map(partial(graph.newest, max_degree=max_degree), ("user", "item"))
        return cls(graph, by_user, by_item)


def weighted(rows: Matrix, weighting: Weighting) -> Matrix:
    """Return W such that W @ W.T are the similarities of the rows of a 0/1 matrix.

    Count: shared columns. Cosine: shared columns over the root of both degrees' product. BM25: shared columns weighted
    by rarity (idf) and by both rows' lengths, so that popular rows are not near to everything.
    """
    if weighting is Weighting.COUNT:
        return rows
    degrees = np.diff(rows.indptr)
    if weighting is Weighting.COSINE:
        return _with_weights(rows, np.repeat(1 / np.sqrt(np.maximum(degrees, 1)), degrees))
    frequencies = np.bincount(rows.indices, minlength=rows.shape[1])
    count = max(int((degrees > 0).sum()), 1)  # rows emptied by the cap are not part of the corpus
    rarity = np.log1p((count - frequencies + 0.5) / (frequencies + 0.5))
    length = (1 - _BM25_B) + _BM25_B * degrees * count / max(rows.nnz, 1)
    saturation = (_BM25_K1 + 1) / (_BM25_K1 * length + 1)
    return _with_weights(rows, np.repeat(saturation, degrees) * rarity[rows.indices])


def similar(rows: Matrix, k: int) -> Blocks:
    """Return (first row, block) where a block's rows hold the k nearest other rows, largest weight first."""
    count = rows.shape[0]
    not_itself = sp.identity(count, np.float32, "csr")
    columns = _Columns.of(sp.vstack([rows.T.tocsr(), not_itself], "csr"))
    starts = range(0, count, BLOCK_ROWS)
    return ((start, columns.best(_barring(rows[start : start + BLOCK_ROWS], start, count), k)) for start in starts)


def liked_by_similar(near: Blocks, liked: Matrix, taken: Matrix, k: int) -> Blocks:
    """Return (first user, block): the k items that users' similar users liked most, those the user took left out.

    An item's weight is the sum of the similarities of the users who liked it. `near` is `similar` of users; `liked`
    and `taken` are (users, items) of 0 and 1.
    """
    columns = _Columns.of(sp.vstack([liked, taken], "csr"))
    return ((start, columns.best(_barring(block, start, taken.shape[0]), k)) for start, block in near)


@dataclass(frozen=True)
class _Columns:
    """The right side of a product, its columns in order of use: the kernel's sums that are hit most lie together."""

    matrix: Matrix
    before: NDArray[np.int32]
    """The number that each column had."""

    @classmethod
    def of(cls, right: Matrix) -> "_Columns":
        """Put the most used columns first."""
        uses = np.minimum(np.bincount(right.indices, minlength=right.shape[1]), np.iinfo(np.int16).max)
        before = np.argsort(-uses.astype(np.int16), kind="stable").astype(np.int32)  # of 16 bits: in linear time
        now = np.empty_like(before)
        now[before] = np.arange(len(before), dtype=np.int32)
        return cls(sp.csr_matrix((right.data, now[right.indices], right.indptr), right.shape), before)

    def best(self, left: Matrix, k: int) -> Matrix:
        """Return the k largest positive products of each row, largest first, in the columns' own numbers."""
        threads = len(os.sched_getaffinity(0))
        best: Matrix = sp_matmul_topn(left, self.matrix, k, threshold=0, sort=True, n_threads=threads)
        return sp.csr_matrix((best.data, self.before[best.indices], best.indptr), best.shape)


def _barring(block: Matrix, start: int, count: int) -> Matrix:
    """Return the block with `count` more columns: multiplied by (B above C), row i gets nothing that C[start + i] has.

    The kernel leaves such products out while it looks for the k best, so that neither more than k need to be kept nor
    all products be written down.
    """
    rows = block.shape[0]
    never = np.full(rows, -np.inf, np.float32), np.arange(start, start + rows, dtype=np.int32), np.arange(rows + 1)
    return sp.csr_matrix(sp.hstack([block, sp.csr_matrix(never, shape=(rows, count))], "csr"))


def _numbered(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """Return the distinct ids (str) of a categorical column in order, and each id's place among them."""
    distinct = ids.unique()
    names, codes = distinct.cast(pl.String), distinct.to_physical().to_numpy()
    order = names.arg_sort()
    places = np.empty(int(codes.max(initial=0)) + 1, np.int32)
    places[codes[order.to_numpy()]] = np.arange(len(names), dtype=np.int32)
    return names.gather(order), places[ids.to_physical().to_numpy()]


def _liked(user: NDArray[np.int32], rating: NDArray[np.float64]) -> Mask:
    rated = ~np.isnan(rating)
    counts = np.bincount(user, rated)
    mean = np.bincount(user, np.where(rated, rating, 0)) / np.maximum(counts, 1)
    below: Mask = rating < mean[user] - _ROUNDING  # never true of nan
    return ~below


def _newest_first(stamps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the order of stamps, equal ones as they stand: digit by digit, in half the time of comparing them."""
    age = stamps.max(initial=0) - stamps
    return np.lexsort(age.astype("<i8").view("<u2").reshape(-1, 4).T)


def _owners(rows: Matrix) -> NDArray[np.int32]:
    """Return the row of each entry."""
    return np.repeat(np.arange(rows.shape[0], dtype=np.int32), np.diff(rows.indptr))


def _kept_starts(rows: Matrix, kept: Mask) -> NDArray[np.int32]:
    """Return the row starts (`indptr`) of a matrix of which only some entries are kept."""
    return np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)[rows.indptr]


def _with_weights(rows: Matrix, weights: NDArray[np.float64]) -> Matrix:
    return sp.csr_matrix((weights.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape)
