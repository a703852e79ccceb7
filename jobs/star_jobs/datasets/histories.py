"""Every user's interactions in the order they happened, as flat arrays: 20 bytes each, whatever was written in them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from star_jobs.datasets.ids import Ids


@dataclass(frozen=True)
class Histories:
    """Interactions sorted by user, then time, then place in the source. User `u` has the positions span(u)."""

    users: Ids
    """User ids by user code, sorted; also users without interactions."""
    catalogue: Ids
    """Item ids by item code, sorted; also items nobody interacted with."""
    starts: NDArray[np.int64]
    """(users + 1,) first position of each user."""
    items: NDArray[np.int32]
    """(interactions,) item codes."""
    timestamps: NDArray[np.int64]
    """(interactions,) Unix seconds."""
    ratings: NDArray[np.float32]
    """(interactions,) NaN where there is none."""
    rows: NDArray[np.uint32]
    """(interactions,) place in the source: its line number less one."""

    def span(self, user: int) -> tuple[int, int]:
        """Return a user's first position and the one after the last."""
        return int(self.starts[user]), int(self.starts[user + 1])

    def owners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (positions,) the user codes of positions."""
        return self.starts.searchsorted(positions, side="right") - 1

    def first(self, user: int, item: int) -> int:
        """Return the position of a user's first interaction with an item; the span's end when there is none."""
        start, end = self.span(user)
        found = np.flatnonzero(self.items[start:end] == item)
        return start + int(found[0]) if len(found) else end

    def popularity(self) -> NDArray[np.int64]:
        """Return (items,) the number of interactions of each item."""
        return np.bincount(self.items, minlength=len(self.catalogue)).astype(np.int64)

    def activity(self) -> NDArray[np.int64]:
        """Return (users,) the number of interactions of each user."""
        return np.diff(self.starts)

    def without(self, users: Collection[int], items: Collection[int]) -> Self:
        """Return the histories without some users' interactions and without some items; codes stay the same."""
        keep = ~np.isin(self.items, list(items))
        for user in users:
            keep[slice(*self.span(user))] = False
        return self._kept(keep)

    def first_in_time(self, count: int) -> Self:
        """Return the histories as they were when there were `count` interactions, 1 at least; codes stay the same.

        Interactions at the same second as the last of these are part of it.
        """
        if count >= len(self.timestamps):
            return self
        return self._kept(self.timestamps <= np.partition(self.timestamps, count - 1)[count - 1])

    def _kept(self, keep: NDArray[np.bool_]) -> Self:
        kept_before = np.zeros(len(keep) + 1, np.int64)
        np.cumsum(keep, out=kept_before[1:])
        return type(self)(
            users=self.users,
            catalogue=self.catalogue,
            starts=kept_before[self.starts],
            items=self.items[keep],
            timestamps=self.timestamps[keep],
            ratings=self.ratings[keep],
            rows=self.rows[keep],
        )
