"""What the gateway knows besides the model: item titles, known users' histories, and the look-up store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from star_contracts.artifact import ArtifactRef
from star_contracts.data import Interaction
from star_contracts.serving import GatewayConfig
from star_jobs.datasets.snapshot import Dataset
from star_jobs.lookup import SignalStore
from star_jobs.storage import ObjectStore, fetch
from star_jobs.trajectory.tools import ToolBox

NEEDED_FILES = ("items.jsonl", "interactions.parquet", "tables/user.jsonl")
"""Of the dataset: tasks and reviews are not needed to serve."""

HISTORY_LENGTH = 50
"""Most recent interactions taken of a known user's history: the default of a dataset's tasks."""


class KnownUsers:
    """What the dataset tells of its users: profiles, and interactions as columns in Arrow memory with an index."""

    def __init__(self, interactions: pl.DataFrame, profiles: Mapping[str, dict[str, str]]) -> None:
        self._profiles = profiles
        self._rows = interactions.sort("user_id", "timestamp", maintain_order=True)
        lengths = self._rows.group_by("user_id", maintain_order=True).len()
        starts = lengths["len"].cum_sum() - lengths["len"]
        self._slices = dict(
            zip(lengths["user_id"].to_list(), zip(starts.to_list(), lengths["len"].to_list(), strict=True), strict=True)
        )

    def profile(self, user_id: str) -> dict[str, str]:
        """Return what the user table tells; empty for an unknown user."""
        return self._profiles.get(user_id, {})

    def history(self, user_id: str) -> tuple[Interaction, ...]:
        """Return the last HISTORY_LENGTH interactions, oldest first; empty for an unknown user."""
        start, length = self._slices.get(user_id, (0, 0))
        kept = min(length, HISTORY_LENGTH)
        rows = self._rows.slice(start + length - kept, kept).iter_rows(named=True)
        return tuple(
            Interaction(item_id=row["item_id"], timestamp=row["timestamp"], rating=row["rating"]) for row in rows
        )


@dataclass(frozen=True)
class Catalogue:
    """One consistent state of the data: replaced as a whole when the configuration names other artifacts."""

    dataset: Dataset
    users: KnownUsers
    toolbox: ToolBox | None
    """None when the deployment has no look-up store: the student has to go on without tools."""


def same_data(one: GatewayConfig, other: GatewayConfig) -> bool:
    """Tell whether two configurations name the same data, so that a catalogue need not be loaded again."""
    return (one.store, one.dataset, one.signals) == (other.store, other.dataset, other.signals)


def load_catalogue(config: GatewayConfig, folder: Path) -> Catalogue:
    """Fetch and open the data by digest. Blocking. Raises JobFailure: the store's or the artifact's."""
    store = ObjectStore(config.store)
    dataset = Dataset(_fetched(store, config.dataset, folder, NEEDED_FILES))
    toolbox = None
    if config.signals is not None:
        signals = SignalStore.open(_fetched(store, config.signals, folder))
        toolbox = ToolBox(signals, dataset.items)
    users = KnownUsers(dataset.interactions(), dataset.profiles())
    return Catalogue(dataset=dataset, users=users, toolbox=toolbox)


def _fetched(store: ObjectStore, ref: ArtifactRef, folder: Path, only: tuple[str, ...] | None = None) -> Path:
    return fetch(store, ref, folder / ref.digest.removeprefix("sha256:")[:16], only)
