"""Which of an earlier run's lists of neighbours are kept, so that their words need not be made anew.

In a dense graph hardly a list keeps its order when some interactions are added, and few of the changes say anything. So
a list is kept while it is near to the one that today's graph gives, and it is always the list as it was computed, never
one that was near to one that was near: what is kept cannot drift. A list is kept when all of this holds:

- it was computed with the same settings, and all of its items are still there,
- of the longer one of the two lists no more than the share `tolerance` stands in one of them alone; order is no change,
- its user has no new interactions, its item no more new ones than that share of those it had,
- **nothing that it rests on is held out now**: neither its key nor an item that it names has lost an interaction. What
  is held out is held out of the training-safe interactions, whose graph is what lists are computed from, so that a key's
  own edges, and those of others with what it is told of, are all in today's graph as well.

Pure: graphs and earlier neighbours in, lists out. Memory is that of the earlier lists, 8 bytes a pair, and of both
graphs' edges.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from star_contracts.data import SignalKind
from star_jobs.verbalize.graph import Graph
from star_jobs.verbalize.pairs import Neighbours, Origin
from star_jobs.verbalize.products import Matrix

Counts = NDArray[np.int64]
Codes = NDArray[np.int64]
_GONE = -1


@dataclass(frozen=True)
class Settled:
    """A block of lists, some of them earlier ones."""

    block: Matrix
    since: NDArray[np.uint16]
    """(rows,) of the origin's snapshots."""
    kept: int
    """Lists that are earlier ones, and not today's."""


@dataclass(frozen=True)
class _Earlier:
    """One kind's earlier lists, in today's numbers."""

    lists: Matrix
    """(today's keys, today's items) of weights; the strongest first."""
    since: NDArray[np.uint16]
    """(keys,)."""
    able: NDArray[np.bool_]
    """(keys,) whether a list may be kept at all, whatever today's is."""


class Tolerance:
    """Decides which lists are kept, by kind."""

    def __init__(self, earlier: Neighbours, graph: Graph, share: float) -> None:
        """`earlier` must be `comparable`."""
        origin, edges = earlier.origin, earlier.edges()
        assert origin is not None
        assert edges is not None
        self.snapshots = origin.snapshots
        self._share = share
        of_items = _places(earlier.ids(SignalKind.ITEM_CF), graph.items)
        of_users = _places(earlier.ids(SignalKind.USER_CF), graph.users)
        user, item = edges["user"].to_numpy().astype(np.int64), edges["item"].to_numpy().astype(np.int64)
        lost = _lost(of_users[user], of_items[item], graph)
        self._earlier = {}
        for kind, places, keys, today in (
            (SignalKind.ITEM_CF, of_items, item, np.diff(graph.places.indptr)),
            (SignalKind.USER_CF, of_users, user, np.diff(graph.edges.indptr)),
        ):
            degrees = np.bincount(keys, minlength=len(places))
            losers = np.bincount(keys[lost], minlength=len(places)) > 0
            growth = share * degrees if kind is SignalKind.ITEM_CF else np.zeros(len(places))
            there = np.flatnonzero(places != _GONE)
            able = np.zeros(len(places), np.bool_)
            able[there] = ~losers[there] & (today[places[there]] - degrees[there] <= growth[there])
            told = np.bincount(item[lost], minlength=len(of_items)) > 0
            self._earlier[kind] = _read(earlier, kind, places, of_items, able, told, len(today), len(graph.items))

    def settle(self, kind: SignalKind, start: int, block: Matrix) -> Settled:
        """Return today's block of lists, of keys from `start` on, with the earlier lists in place of those near to them."""
        earlier, rows = self._earlier[kind], slice(start, start + block.shape[0])
        lists = earlier.lists[rows]
        before, now = np.diff(lists.indptr), np.diff(block.indptr)
        longer = np.maximum(before, now)
        both = np.asarray(_ones(lists).multiply(_ones(block)).sum(axis=1)).ravel()
        kept = earlier.able[rows] & (before > 0) & (longer - both <= self._share * longer)
        kept &= ~_equal(lists, block)
        since = np.where(kept, earlier.since[rows], len(self.snapshots)).astype(np.uint16)
        return Settled(_chosen(block, lists, kept), since, int(kept.sum()))


def comparable(earlier: Neighbours, origin: Origin) -> bool:
    """Say whether lists of earlier neighbours may be kept: of the same settings, and with the edges they rest on."""
    before = earlier.origin
    if before is None or earlier.edges() is None:
        return False
    return before.settings.model_copy(update={"tolerance": origin.settings.tolerance}) == origin.settings


def _places(before: pl.Series, today: pl.Series) -> Codes:
    """Return (before,) where each earlier id stands today, _GONE where it does not."""
    numbers = np.arange(len(today), dtype=np.int64)
    return before.replace_strict(today, numbers, default=_GONE, return_dtype=pl.Int64).to_numpy()


def _lost(user: Codes, item: Codes, graph: Graph) -> NDArray[np.bool_]:
    """Return (edges,) which earlier edges are not in today's graph; they are given in today's numbers."""
    width = graph.edges.shape[1]
    today = np.repeat(np.arange(graph.edges.shape[0], dtype=np.int64), np.diff(graph.edges.indptr)) * width
    there: NDArray[np.bool_] = np.isin(user * width + item, today + graph.edges.indices)
    return ~there | (user == _GONE) | (item == _GONE)


def _read(
    earlier: Neighbours,
    kind: SignalKind,
    places: Codes,
    of_items: Codes,
    able: NDArray[np.bool_],
    told: NDArray[np.bool_],
    keys_today: int,
    items_today: int,
) -> _Earlier:
    """Return a kind's earlier lists. `places`, `able` are by earlier key; `of_items`, `told` (lost one) by earlier item."""
    keys, pairs = earlier.pairs(kind)
    key, count = keys["key"].to_numpy().astype(np.int64), keys["count"].to_numpy().astype(np.int64)
    near = pairs["neighbour"].to_numpy().astype(np.int64)
    bad = told[near] | (of_items[near] == _GONE)
    owner = np.repeat(np.arange(len(key)), count)
    usable = able[key] & (np.bincount(owner[bad], minlength=len(key)) == 0)
    kept = np.flatnonzero(usable)
    to = places[key[kept]]
    order = np.argsort(to, kind="stable")
    kept, to = kept[order], to[order]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
    picked = _ranges(starts[kept], count[kept])
    lengths = np.zeros(keys_today, np.int64)
    lengths[to] = count[kept]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    weights = pairs["weight"].to_numpy()[picked]
    lists = sp.csr_matrix((weights, of_items[near[picked]], ends), (keys_today, items_today))
    since, may = np.zeros(keys_today, np.uint16), np.zeros(keys_today, np.bool_)
    since[to], may[to] = keys["since"].to_numpy()[kept], True
    return _Earlier(lists, since, may)


def _ranges(starts: Codes, counts: Counts) -> Codes:
    """Return the places start, start + 1, ... of each of some runs, one run after another."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)[:-1]]) if len(counts) else counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def _ones(lists: Matrix) -> Matrix:
    """Return where entries are, in order of columns: what sparse products want. Lists are in that of their strength."""
    ones = sp.csr_matrix((np.ones(len(lists.indices), np.int32), lists.indices.copy(), lists.indptr), lists.shape)
    ones.sort_indices()
    return ones


def _equal(one: Matrix, other: Matrix) -> NDArray[np.bool_]:
    """Return (rows,) which rows name the same columns in the same order."""
    lengths = np.diff(one.indptr)
    same: NDArray[np.bool_] = lengths == np.diff(other.indptr)
    rows = np.flatnonzero(same)
    ours, theirs = (_ranges(m.indptr[:-1][rows].astype(np.int64), lengths[rows].astype(np.int64)) for m in (one, other))
    differs = one.indices[ours] != other.indices[theirs]
    same[np.repeat(rows, lengths[rows])[differs]] = False
    return same


def _chosen(today: Matrix, earlier: Matrix, kept: NDArray[np.bool_]) -> Matrix:
    """Return today's rows, and the earlier ones where they are kept, entries in their order."""
    lengths = np.where(kept, np.diff(earlier.indptr), np.diff(today.indptr)).astype(np.int64)
    offset = len(today.indices)
    starts = np.where(kept, earlier.indptr[:-1].astype(np.int64) + offset, today.indptr[:-1])
    picked = _ranges(starts, lengths)
    columns = np.concatenate([today.indices, earlier.indices]).astype(np.int32)[picked]
    weights = np.concatenate([today.data, earlier.data]).astype(np.float32)[picked]
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return sp.csr_matrix((weights, columns, ends), today.shape)
