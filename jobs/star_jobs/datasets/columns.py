"""Interactions while a source is read: five columns of numbers, 24 bytes an interaction, sorted once all are there."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from star_jobs.datasets.faults import Fault, Tally
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids, Numbering
from star_jobs.datasets.limits import EARLIEST, HIGHEST_RATING, LATEST, Doubt

ScalarT = TypeVar("ScalarT", bound=np.generic)

_YEAR_SECONDS = 31_556_952
"""Mean of the Gregorian calendar."""


@dataclass
class Columns:
    """Interactions in the order they come, appended in parts."""

    _rows: list[NDArray[np.uint32]] = field(default_factory=list)
    _users: list[NDArray[np.int32]] = field(default_factory=list)
    _items: list[NDArray[np.int32]] = field(default_factory=list)
    _times: list[NDArray[np.int64]] = field(default_factory=list)
    _ratings: list[NDArray[np.float32]] = field(default_factory=list)

    def append(
        self,
        rows: NDArray[np.integer],
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        times: NDArray[np.int64],
        ratings: NDArray[np.floating],
    ) -> None:
        """Add interactions: (n,) source rows, user numbers, item codes, Unix seconds and ratings (NaN for none)."""
        self._rows.append(rows.astype(np.uint32))
        self._users.append(users)
        self._items.append(items)
        self._times.append(times)
        self._ratings.append(ratings.astype(np.float32))

    def histories(self, users: Numbering, catalogue: Ids, tally: Tally) -> Histories:
        """Sort the interactions, leave out repeated ones, and empty these columns.

        Those, and times and ratings that are not plausible, are counted in `tally`.

        A column at a time is brought into order, so that at no moment more than one is there twice.
        """
        people, codes = users.sorted()
        owners, times, rows = (
            codes[_take(self._users, np.int32)],
            _take(self._times, np.int64),
            _take(self._rows, np.uint32),
        )
        order = np.lexsort((rows, times, owners))
        owners, times, rows = owners[order], times[order], rows[order]
        items = _take(self._items, np.int32)[order]
        ratings = _take(self._ratings, np.float32)[order]
        repeated = _repeated(owners, times, items)
        if len(repeated):
            line = int(rows[repeated].min()) + 1
            tally.bad(
                f"line {line}: a review of the same user, item and second came before",
                Fault.DUPLICATE_REVIEW,
                len(repeated),
            )
            owners, times, rows, items, ratings = (
                np.delete(column, repeated) for column in (owners, times, rows, items, ratings)
            )
        _weigh(times, ratings, rows, tally)
        sizes = np.bincount(owners, minlength=len(people))
        return Histories(
            users=people,
            catalogue=catalogue,
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            items=items,
            timestamps=times,
            ratings=ratings,
            rows=rows,
        )


def _weigh(times: NDArray[np.int64], ratings: NDArray[np.float32], rows: NDArray[np.uint32], tally: Tally) -> None:
    """Note in the tally which times and ratings are not plausible; all arrays are (interactions,)."""
    odd = np.flatnonzero((times < EARLIEST) | (times >= LATEST))
    if len(odd):
        first = odd[rows[odd].argmin()]
        year = 1970 + int(times[first]) // _YEAR_SECONDS
        tally.doubt(f"line {rows[first] + 1}: a time in the year {year}", Doubt.IMPLAUSIBLE_TIME, len(odd))
    odd = np.flatnonzero(np.abs(ratings) > HIGHEST_RATING)
    if len(odd):
        first = odd[rows[odd].argmin()]
        sentence = f"line {rows[first] + 1}: a rating of {ratings[first]:g}"
        tally.doubt(sentence, Doubt.IMPLAUSIBLE_RATING, len(odd))


def _take(parts: list[NDArray[ScalarT]], dtype: type[ScalarT]) -> NDArray[ScalarT]:
    """Join the parts of a column and let go of them."""
    column = np.concatenate(parts) if parts else np.empty(0, dtype)
    parts.clear()
    return column


def _repeated(owners: NDArray[np.int32], times: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return positions whose user, time and item an earlier position has; the arrays are sorted by user and time."""
    together = (owners[1:] == owners[:-1]) & (times[1:] == times[:-1])
    among = (
        np.flatnonzero(np.append(together, False) | np.insert(together, 0, False))
        if len(owners)
        else np.empty(0, np.int64)
    )
    by_item = among[np.lexsort((items[among], times[among], owners[among]))]
    before, after = by_item[:-1], by_item[1:]
    same = (owners[before] == owners[after]) & (times[before] == times[after]) & (items[before] == items[after])
    return np.sort(after[same])
