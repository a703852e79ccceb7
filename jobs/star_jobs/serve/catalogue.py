"""What the gateway knows besides the model: item titles, known users' histories, and the look-up store."""

from dataclasses import dataclass
from pathlib import Path

from star_contracts.artifact import ArtifactRef
from star_contracts.serving import GatewayConfig
from star_jobs.datasets.snapshot import STATS, Dataset
from star_jobs.datasets.users import KnownUsers
from star_jobs.lookup import SignalStore
from star_jobs.storage import ObjectStore, fetch
from star_jobs.trajectory.prompt import SummarySource
from star_jobs.trajectory.tools import ToolBox

NEEDED_FILES = ("items.jsonl", "interactions.parquet", "tables/user.jsonl", STATS)
"""Of the dataset: tasks and reviews are not needed to serve."""


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
    return Catalogue(dataset=dataset, users=KnownUsers.of(dataset), toolbox=toolbox, summaries=signals)


def _fetched(store: ObjectStore, ref: ArtifactRef, folder: Path, only: tuple[str, ...] | None = None) -> Path:
    return fetch(store, ref, folder / ref.digest.removeprefix("sha256:")[:16], only)
