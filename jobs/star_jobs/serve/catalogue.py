"""What the gateway knows besides the model: item titles, known users' histories, and the look-up store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from star_contracts.artifact import ArtifactRef
from star_contracts.data import Interaction
from star_contracts.serving import GatewayConfig
from star_jobs.datasets.snapshot import STATS, Dataset
from star_jobs.lookup import SignalStore
from star_jobs.storage import ObjectStore, fetch
from star_jobs.trajectory.prompt import SummarySource
from star_jobs.trajectory.tools import ToolBox

NEEDED_FILES = ("items.jsonl", "interactions.parquet", "tables/user.jsonl", STATS)
"""Of the dataset: tasks and reviews are not needed to serve."""


class KnownUsers:
    """What the dataset tells of its users: profiles, and interactions as columns in Arrow memory with an index."""

    def __init__(self, interactions: pl.DataFrame, profiles: Mapping[str, dict[str, str]], history_length: int) -> None:
        self._profiles = profiles
        self._history_length = history_length
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
        """Return as many interactions as a task's history has, the latest, oldest first; empty for an unknown user."""
        start, length = self._slices.get(user_id, (0, 0))
        kept = min(length, self._history_length)
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
    summaries: SummarySource | None
    """The look-up store, where there is one: of the beginnings of long histories."""


def same_data(one: GatewayConfig, other: GatewayConfig) -> bool:
    """Tell whether two configurations name the same data, so that a catalogue need not be loaded again."""
    return (one.store, one.dataset, one.signals) == (other.store, other.dataset, other.signals)


def load_catalogue(config: GatewayConfig, folder: Path) -> Catalogue:
    """Fetch and open the data by digest. Blocking. Raises JobFailure: the store's or the artifact's."""
    store = ObjectStore(config.store)
    dataset = Dataset(_fetched(store, config.dataset, folder, NEEDED_FILES))
    signals = SignalStore.open(_fetched(store, config.signals, folder)) if config.signals is not None else None
    toolbox = ToolBox(signals, dataset.items) if signals is not None else None
    users = KnownUsers(dataset.interactions(), dataset.profiles(), dataset.history_length)
    return Catalogue(dataset=dataset, users=users, toolbox=toolbox, summaries=signals)


def _fetched(store: ObjectStore, ref: ArtifactRef, folder: Path, only: tuple[str, ...] | None = None) -> Path:
    return fetch(store, ref, folder / ref.digest.removeprefix("sha256:")[:16], only)
