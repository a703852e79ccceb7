"""What a dataset tells of each of its users at this moment: for those who are served, not for its tasks."""

from collections.abc import Mapping

import polars as pl

from star_contracts.data import Interaction
from star_jobs.datasets.snapshot import Dataset


class KnownUsers:
    """Profiles, and training-safe interactions as columns in Arrow memory with an index."""

    def __init__(self, interactions: pl.DataFrame, profiles: Mapping[str, dict[str, str]], history_length: int) -> None:
        self._profiles = profiles
        self._history_length = history_length
        self._rows = interactions.sort("user_id", "timestamp", maintain_order=True)
        lengths = self._rows.group_by("user_id", maintain_order=True).len()
        starts = lengths["len"].cum_sum() - lengths["len"]
        self._slices = dict(
            zip(lengths["user_id"].to_list(), zip(starts.to_list(), lengths["len"].to_list(), strict=True), strict=True)
        )

    @classmethod
    def of(cls, dataset: Dataset) -> "KnownUsers":
        """Read a dataset's users."""
        return cls(dataset.interactions(), dataset.profiles(), dataset.history_length)

    def profile(self, user_id: str) -> dict[str, str]:
        """Return what the user table tells; empty for an unknown user."""
        return self._profiles.get(user_id, {})

    def lengths(self) -> dict[str, int]:
        """Return user id -> interactions in the user's history."""
        return {user: min(length, self._history_length) for user, (_, length) in self._slices.items()}

    def history(self, user_id: str) -> tuple[Interaction, ...]:
        """Return as many interactions as a task's history has, the latest, oldest first; empty for an unknown user."""
        start, length = self._slices.get(user_id, (0, 0))
        kept = min(length, self._history_length)
        rows = self._rows.slice(start + length - kept, kept).iter_rows(named=True)
        return tuple(
            Interaction(item_id=row["item_id"], timestamp=row["timestamp"], rating=row["rating"]) for row in rows
        )
