"""Weighted neighbours in the user-item graph, in sparse row blocks (paper 3.3).

Item-CF walks item -> user -> item: two items are near when the same users took them. User-CF walks user -> item ->
user: two users are near when they took the same items; what the near ones liked is the signal.

Work grows with the square of the degree of the node in the middle, so that node's interactions are capped to the most
recent ones. A block of rows is multiplied at a time and only the k largest products of each row are kept, so memory
is bounded by the edges and the block, not by the number of pairs. Pure: frames and arrays in, matrices out.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from star_contracts.settings import Weighting
from star_jobs.verbalize.products import Matrix, best_products

BLOCK_ROWS = 131072
"""Rows multiplied and written at a time: few enough for memory, many enough that starting a block costs nothing."""
_BM25_K1, _BM25_B = 1.2, 0.75
"""The usual constants (Robertson and Zaragoza 2009, doi:10.1561/1500000019)."""
_ROUNDING = 1e-6
"""A mean of equal ratings may come out a little above them."""

Mask = NDArray[np.bool_]
Factors = NDArray[np.float64]
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
    """(users, items) of timestamps (i64); a user's edges are in order of time."""
    places: Matrix
    """(items, users), the edges once more by their items: where in `edges` each one stands (i32), ascending."""
    liked: Mask
    """For each edge whether its rating is not below that user's mean; True where there is none."""

    @classmethod
    def of(cls, interactions: pl.LazyFrame) -> "Graph":
        """Build from interactions (user_id, item_id, timestamp, rating) in a dataset's order: by user, then by time.

        Raises ValueError when they are in another order.
        """
        runs = interactions.select(pl.col("user_id").rle().alias("run")).collect(engine="streaming")["run"].struct
        users, starts = runs.field("value"), _ends(runs.field("len").to_numpy())
        # Ids become numbers while they are read, on all cores: as strings they would be most of the memory and time.
        item_id = pl.col("item_id").cast(pl.Categorical(pl.Categories.random()))
        rating = pl.col("rating").cast(pl.Float32).fill_null(np.nan)
        visits = interactions.select(item_id, "timestamp", rating).collect(engine="streaming")
        stamps = visits["timestamp"].to_numpy()
        if not (users > users.shift(1)).all() or _follow(stamps[1:] < stamps[:-1], starts).any():
            raise ValueError("the interactions are not in order of user_id and timestamp: sort them by these columns")
        with ThreadPoolExecutor(1) as beside:
            numbering = beside.submit(_numbered, visits["item_id"])
            liked = _liked(visits["rating"].to_numpy(), starts)
            items, item = numbering.result()
        edges = sp.csr_matrix((stamps, item, starts), (len(users), len(items)))
        places = _places(edges)
        newest = _newest_of_pairs(places)
        if not newest.all():
            edges, places = _kept(edges, newest), _kept(places, newest[places.data])
            places.data = (np.cumsum(newest, dtype=np.int32) - 1)[places.data]
        return cls(users, items, edges, places, liked[newest])

    def matrix(self, mask: Mask | None = None) -> Matrix:
        """Return (users, items) with 1 for each edge, or for each that the mask keeps."""
        return _ones(self.edges, mask)

    def transposed(self, mask: Mask | None = None) -> Matrix:
        """Return the same as (items, users)."""
        return _ones(self.places, None if mask is None else mask[self.places.data])

    def newest_of_users(self, max_degree: int) -> Mask:
        """Return which edges are left when each user keeps the `max_degree` most recent ones."""
        return _last_of_rows(self.edges.indptr, max_degree)

    def newest_of_items(self, max_degree: int) -> Mask:
        """Return the same when each item does; of two at the same second the later edge counts as the newer."""
        degrees = np.diff(self.places.indptr)
        crowded = np.repeat(degrees > max_degree, degrees)
        places, degrees = self.places.data[crowded], degrees[degrees > max_degree]
        in_time = _stable_order(self.edges.data[places])
        item = np.repeat(np.arange(len(degrees), dtype=np.int32), degrees)
        one_a_row = places[in_time], item[in_time], np.arange(len(places) + 1, dtype=np.int32)
        by_item = sp.csr_matrix(one_a_row, (len(places), len(degrees))).tocsc()  # in linear time; keeps their order
        newest = np.ones(self.edges.nnz, np.bool_)
        newest[by_item.data] = _last_of_rows(by_item.indptr, max_degree)
        return newest


def weighted(rows: Matrix, columns: Matrix, weighting: Weighting) -> tuple[Matrix, Matrix]:
    """Return W and W.T such that W @ W.T are the similarities of the rows of a 0/1 matrix, `columns` its transpose.

    Count: shared columns. Cosine: shared columns over the root of both degrees' product. BM25: shared columns weighted
    by rarity (idf) and by both rows' lengths, so that popular rows are not near to everything.
    """
    degrees, frequencies = np.diff(rows.indptr), np.diff(columns.indptr)
    if weighting is Weighting.COUNT:
        return rows, columns
    if weighting is Weighting.COSINE:
        of_row = 1 / np.sqrt(np.maximum(degrees, 1))
        return _scaled(rows, of_row, None), _scaled(columns, None, of_row)
    count = max(int((degrees > 0).sum()), 1)  # rows emptied by the cap are not part of the corpus
    length = (1 - _BM25_B) + _BM25_B * degrees * count / max(rows.nnz, 1)
    of_row = (_BM25_K1 + 1) / (_BM25_K1 * length + 1)
    of_column = np.log1p((count - frequencies + 0.5) / (frequencies + 0.5))
    return _scaled(rows, of_row, of_column), _scaled(columns, of_column, of_row)


def similar(left: Matrix, right: Matrix, k: int) -> Blocks:
    """Return (first row, block) of `weighted` matrices: a block's rows hold the k nearest other rows, best first."""
    count = left.shape[0]
    itself = sp.identity(count, np.float32, "csr")  # no row is near to itself
    blocks = (slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS))
    return ((rows.start, best_products(left[rows], right, itself[rows], k)) for rows in blocks)


def liked_by_similar(near: Blocks, liked: Matrix, taken: Matrix, k: int) -> Blocks:
    """Return (first user, block): the k items that users' similar users liked most, those the user took left out.

    An item's weight is the sum of the similarities of the users who liked it. `near` is `similar` of users; `liked`
    and `taken` are (users, items) of 0 and 1.
    """
    return ((start, best_products(block, liked, taken[start : start + block.shape[0]], k)) for start, block in near)


def _numbered(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """Return the distinct ids (str) of a categorical column in order, and each id's place among them."""
    distinct = ids.unique()
    names, codes = distinct.cast(pl.String), distinct.to_physical().to_numpy()
    order = names.arg_sort()
    places = np.empty(int(codes.max(initial=0)) + 1, np.int32)
    places[codes[order.to_numpy()]] = np.arange(len(names), dtype=np.int32)
    return names.gather(order), places[ids.to_physical().to_numpy()]


def _liked(rating: NDArray[np.float32], starts: NDArray[np.int32]) -> Mask:
    """Return which ratings are not below the mean of their run; an absent one (nan) never is."""
    if not len(rating):
        return np.empty(0, np.bool_)
    rated = ~np.isnan(rating)
    known = rating if rated.all() else np.where(rated, rating, np.float32(0))
    total = np.add.reduceat(known, starts[:-1], dtype=np.float64)
    mean = total / np.maximum(np.add.reduceat(rated, starts[:-1], dtype=np.int32), 1)
    below: Mask = rating < np.repeat((mean - _ROUNDING * np.abs(mean)).astype(np.float32), np.diff(starts))
    return ~below


def _places(edges: Matrix) -> Matrix:
    """Return the transpose of a matrix with the places of its entries for their values."""
    return sp.csr_matrix((np.arange(edges.nnz, dtype=np.int32), edges.indices, edges.indptr), edges.shape).tocsc().T


def _newest_of_pairs(places: Matrix) -> Mask:
    """Return which interactions are the last ones of their user and item."""
    newest = np.ones(places.nnz, np.bool_)
    newest[places.data[:-1][_follow(places.indices[1:] == places.indices[:-1], places.indptr)]] = False
    return newest


def _follow(holds: Mask, starts: NDArray[np.int32]) -> Mask:
    """Take what holds of entries and their next ones, and leave out those whose next one is in another row."""
    holds[starts[1:-1] - 1] = False  # no row is empty
    return holds


def _stable_order(stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ascending order of stamps, equal ones as they stand."""
    bits = len(stamps).bit_length()
    offsets, places = stamps - stamps.min(initial=np.iinfo(np.int64).max), np.arange(len(stamps))
    if int(offsets.max(initial=0)).bit_length() + bits > 63:
        return stamps.argsort(kind="stable")
    # Distinct, so that values can be sorted: a third of the time of sorting places.
    keys: NDArray[np.int64] = offsets << bits | places
    keys.sort()
    return keys & ((1 << bits) - 1)


def _ends(lengths: NDArray[Any]) -> NDArray[np.int32]:
    """Return where each of some runs ends, 0 before them (`indptr`)."""
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])


def _kept(rows: Matrix, kept: Mask) -> Matrix:
    """Return a matrix without empty rows with the entries of it that are kept."""
    starts = _ends(np.add.reduceat(kept, rows.indptr[:-1], dtype=np.int32))
    return sp.csr_matrix((rows.data[kept], rows.indices[kept], starts), rows.shape)


def _ones(rows: Matrix, kept: Mask | None) -> Matrix:
    """Return the same, or all entries, with 1 for each value."""
    indices, starts = rows.indices, rows.indptr
    if kept is not None:
        indices, starts = indices[kept], _ends(np.add.reduceat(kept, starts[:-1], dtype=np.int32))
    return sp.csr_matrix((np.ones(len(indices), np.float32), indices, starts), rows.shape)


def _last_of_rows(starts: NDArray[np.int32], count: int) -> Mask:
    """Return which entries are among the last `count` (1 at least) of their row."""
    crowded = np.diff(starts) > count
    step = np.zeros(starts[-1] + 1, np.int8)
    step[starts[:-1][crowded]] = 1
    step[starts[1:][crowded] - count] = -1
    last: Mask = np.cumsum(step[:-1], dtype=np.int8) == 0
    return last


def _scaled(rows: Matrix, of_row: Factors | None, of_column: Factors | None) -> Matrix:
    """Return a 0/1 matrix with the product of its row's and its column's number for each entry."""
    weights = rows.data if of_column is None else of_column.astype(np.float32)[rows.indices]
    if of_row is not None:
        weights = weights * np.repeat(of_row.astype(np.float32), np.diff(rows.indptr))
    return sp.csr_matrix((weights, rows.indices, rows.indptr), rows.shape)
