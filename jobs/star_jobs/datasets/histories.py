"""Every user's interactions in the order they happened, as flat arrays: ten million of them fit in a few hundred MB."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histories:
    """Interactions sorted by user, then time, then place in the source. User `u` has the positions span(u)."""

    users: tuple[str, ...]
    """User ids by user code, sorted; also users without interactions."""
    catalogue: tuple[str, ...]
    """Item ids by item code, sorted; also items nobody interacted with."""
    starts: NDArray[np.int64]
    """(users + 1,) first position of each user."""
    items: NDArray[np.int32]
    """(interactions,) item codes."""
    timestamps: NDArray[np.int64]
    """(interactions,) Unix seconds."""
    ratings: NDArray[np.float64]
    """(interactions,) NaN where there is none."""
    rows: NDArray[np.uint32]
    """(interactions,) place in the source."""

    @classmethod
    def of(cls, interactions: pl.DataFrame, catalogue: Collection[str], users: Collection[str] = ()) -> Self:
        """Build from a frame of `INTERACTION_SCHEMA`; `users` are there even without interactions."""
        items = tuple(sorted(catalogue))
        people = tuple(sorted({*users, *interactions["user_id"].unique()}))
        frame = (
            interactions.join(_codes("item_id", items), on="item_id", how="inner")
            .join(_codes("user_id", people), on="user_id", how="inner")
            .sort("user_id_code", "timestamp", "row")
        )
        sizes = np.bincount(frame["user_id_code"].to_numpy(), minlength=len(people))
        return cls(
            users=people,
            catalogue=items,
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            items=frame["item_id_code"].to_numpy(),
            timestamps=frame["timestamp"].to_numpy(),
            ratings=frame["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
            rows=frame["row"].to_numpy(),
        )

    def span(self, user: int) -> tuple[int, int]:
        """Return a user's first position and the one after the last."""
        return int(self.starts[user]), int(self.starts[user + 1])

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
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return type(self)(
            users=self.users,
            catalogue=self.catalogue,
            starts=kept_before[self.starts].astype(np.int64),
            items=self.items[keep],
            timestamps=self.timestamps[keep],
            ratings=self.ratings[keep],
            rows=self.rows[keep],
        )


def _codes(name: str, values: tuple[str, ...]) -> pl.DataFrame:
    codes = np.arange(len(values), dtype=np.int32)
    return pl.DataFrame({name: values, f"{name}_code": codes}, schema_overrides={name: pl.String})
