"""Which of an earlier run's lists of neighbours are kept, so that their words need not be made anew.

In a dense graph hardly a list keeps its order when some interactions are added, and few of the changes say anything. So
a list is kept while it is near to the one that today's graph gives. What is compared and kept is the list as it was
computed once, never one that was near to one that was near: what is kept cannot drift. A list is kept when all of this
holds:

- it was computed with the same settings, and all of its items are still there,
- of the longer one of the two lists, no more than the share `tolerance` is missing in the other; order is no change,
- its user has no new interactions, its item no more new ones than that share of those it had,
- **nothing that it rests on is held out now**: neither its key nor an item that it names has lost an interaction.
  Lists are computed from the training-safe interactions, which lose what is held out. So all of a key's own edges, and
  all of other users' with the items that it is told of, are in today's graph as well.

Pure: graphs and earlier neighbours in, lists out. In memory are the earlier lists and both graphs' edges.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from star_contracts.data import SignalKind
from star_contracts.settings import NeighbourSettings
from star_jobs.verbalize.graph import Graph
from star_jobs.verbalize.pairs import Neighbours, Pairs
from star_jobs.verbalize.products import Matrix

Numbers = NDArray[np.int64]
Which = NDArray[np.bool_]
_GONE = -1


@dataclass(frozen=True)
class Settled:
    """A block of lists, some of them earlier ones."""

    block: Matrix
    since: NDArray[np.uint16] | None = None
    """(rows,) of the origin's snapshots; None where all are today's."""
    kept: int = 0
    """Lists that are earlier ones, and not today's."""


def comparable(earlier: Neighbours, settings: NeighbourSettings) -> bool:
    """Say whether lists of earlier neighbours may be kept: of the same settings, and with the edges they rest on."""
    before = earlier.origin
    if before is None or earlier.edges() is None or not settings.tolerance:
        return False
    return before.settings.model_copy(update={"tolerance": settings.tolerance}) == settings


class Tolerance:
    """Decides which lists are kept."""

    def __init__(self, earlier: Neighbours, graph: Graph, share: float) -> None:
        """`earlier` must be `comparable`; `share` is the tolerance."""
        origin = earlier.origin
        assert origin is not None
        self.snapshots = origin.snapshots
        """Digests of the datasets in which kept lists were computed; today's comes after them."""
        self._share = share
        change = _Change.between(earlier, graph)
        self._earlier = {
            SignalKind.ITEM_CF: change.earlier(earlier.pairs(SignalKind.ITEM_CF), change.items, change.grown(share)),
            SignalKind.USER_CF: change.earlier(earlier.pairs(SignalKind.USER_CF), change.users, change.went_on()),
        }

    def settle(self, kind: SignalKind, start: int, block: Matrix) -> Settled:
        """Return today's lists of the keys from `start` on, with the earlier ones in place of those near to them."""
        lists, since = self._earlier[kind].rows(slice(start, start + block.shape[0]))
        before, now = np.diff(lists.indptr), np.diff(block.indptr)
        longer = np.maximum(before, now)
        shared = np.asarray(_ones(lists).multiply(_ones(block)).sum(axis=1)).ravel()
        kept = (before > 0) & (longer - shared <= self._share * longer) & ~_equal(lists, block)
        numbers = np.where(kept, since, len(self.snapshots)).astype(np.uint16)
        return Settled(_chosen(block, lists, kept), numbers, int(kept.sum()))


@dataclass(frozen=True)
class _Earlier:
    """The earlier lists of one kind that may be kept, in today's numbers."""

    lists: Matrix
    """(keys, items) of weights, the strongest first."""
    since: NDArray[np.uint16]
    """(keys,)."""

    def rows(self, rows: slice) -> tuple[Matrix, NDArray[np.uint16]]:
        return self.lists[rows], self.since[rows]


@dataclass(frozen=True)
class _Side:
    """The earlier users, or items: all arrays are by their earlier numbers."""

    today: Numbers
    """Their numbers today; _GONE for those that are gone."""
    count: int
    """How many there are today."""
    before: Numbers
    """Their edges."""
    now: Numbers
    """Their edges today; 0 for those that are gone."""
    lost: Which
    """Whether an edge is not there any more."""


@dataclass(frozen=True)
class _Change:
    """What became of an earlier graph."""

    users: _Side
    items: _Side

    @classmethod
    def between(cls, earlier: Neighbours, graph: Graph) -> "_Change":
        edges = earlier.edges()
        assert edges is not None
        user, item = (edges[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        of_users = _numbers_today(earlier.ids(SignalKind.USER_CF), graph.users)
        of_items = _numbers_today(earlier.ids(SignalKind.ITEM_CF), graph.items)
        lost = _lost(of_users[user], of_items[item], graph.edges)
        return cls(_side(of_users, user, lost, graph.edges), _side(of_items, item, lost, graph.places))

    def grown(self, share: float) -> Which:
        """Return (items,) which have more new edges than a share of those they had."""
        return self.items.now - self.items.before > share * self.items.before

    def went_on(self) -> Which:
        """Return (users,) which have new edges."""
        return self.users.now > self.users.before

    def earlier(self, pairs: Pairs, side: _Side, changed: Which) -> _Earlier:
        """Return the lists that may be kept of a kind; `changed` says which of its keys ask for a new one."""
        bad = self.items.lost[pairs.neighbour] | (self.items.today[pairs.neighbour] == _GONE)
        owner = np.repeat(np.arange(len(pairs.key)), pairs.count)
        spoiled = np.bincount(owner[bad], minlength=len(pairs.key)) > 0
        unfit = changed | side.lost | (side.today == _GONE)
        may = np.flatnonzero(~spoiled & ~unfit[pairs.key])
        may = may[np.argsort(side.today[pairs.key[may]], kind="stable")]
        to, counts = side.today[pairs.key[may]], pairs.count[may]
        lengths, since = np.zeros(side.count, np.int64), np.zeros(side.count, np.uint16)
        lengths[to], since[to] = counts, pairs.since[may]
        picked = _runs((np.cumsum(pairs.count) - pairs.count)[may], counts)
        shape = (side.count, self.items.count)
        columns = self.items.today[pairs.neighbour[picked]]
        return _Earlier(_lists(pairs.weight[picked], columns, lengths, shape), since)


def _side(today: Numbers, ends: Numbers, lost: Which, graph: Matrix) -> _Side:
    """`ends` (edges,) are the edges' ends on this side, `graph` is today's by them."""
    there = today != _GONE
    now = np.zeros(len(today), np.int64)
    now[there] = np.diff(graph.indptr)[today[there]]
    losers: Which = np.bincount(ends[lost], minlength=len(today)) > 0
    return _Side(today, graph.shape[0], np.bincount(ends, minlength=len(today)), now, losers)


def _numbers_today(before: pl.Series, today: pl.Series) -> Numbers:
    numbers = np.arange(len(today), dtype=np.int64)
    return before.replace_strict(today, numbers, default=_GONE, return_dtype=pl.Int64).to_numpy()


def _lost(user: Numbers, item: Numbers, edges: Matrix) -> Which:
    """Return (edges,) which earlier edges, in today's numbers, are not there today."""
    rows = np.repeat(np.arange(edges.shape[0], dtype=np.int64), np.diff(edges.indptr))
    there = np.isin(user * edges.shape[1] + item, rows * edges.shape[1] + edges.indices)
    lost: Which = ~there | (user == _GONE) | (item == _GONE)
    return lost


def _runs(starts: Numbers, counts: Numbers) -> Numbers:
    """Return start, start + 1, ... of each of some runs, one run after another."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))


def _lists(weights: NDArray[np.float32], columns: Numbers, lengths: Numbers, shape: tuple[int, int]) -> Matrix:
    """Return lists as a matrix whose entries stay in their order."""
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return sp.csr_matrix((weights, columns.astype(np.int32), ends), shape)


def _ones(lists: Matrix) -> Matrix:
    """Return where entries are, by columns as sparse products want them."""
    ones = sp.csr_matrix((np.ones(len(lists.indices), np.int32), lists.indices.copy(), lists.indptr), lists.shape)
    ones.sort_indices()
    return ones


def _equal(one: Matrix, other: Matrix) -> Which:
    """Return (rows,) which rows name the same columns in the same order."""
    lengths = np.diff(one.indptr).astype(np.int64)
    same: Which = lengths == np.diff(other.indptr)
    rows = np.flatnonzero(same)
    left, right = (m.indices[_runs(m.indptr[rows].astype(np.int64), lengths[rows])] for m in (one, other))
    same[np.repeat(rows, lengths[rows])[left != right]] = False
    return same


def _chosen(today: Matrix, earlier: Matrix, kept: Which) -> Matrix:
    """Return today's rows, and the earlier ones where they are kept."""
    lengths = np.where(kept, np.diff(earlier.indptr), np.diff(today.indptr)).astype(np.int64)
    starts = np.where(kept, earlier.indptr[:-1].astype(np.int64) + len(today.indices), today.indptr[:-1])
    picked = _runs(starts, lengths)
    weights = np.concatenate([today.data, earlier.data]).astype(np.float32)[picked]
    return _lists(weights, np.concatenate([today.indices, earlier.indices])[picked], lengths, today.shape)
