"""All that a Verbalization makes, as part files under its work prefix."""

from typing import Protocol

from star_contracts.data import Signal, Summary
from star_contracts.job import CollectSignals, VerbalizeSignals
from star_contracts.settings import SignalScope
from star_jobs.datasets.snapshot import INTERACTIONS, ITEMS, STATS, USER_TABLE, Dataset
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.pasts import Pasts, pasts
from star_jobs.verbalize.worklist import Chunk, chunks


class Part(Protocol):
    """Some entries that are kept in one file."""

    @property
    def name(self) -> str:
        """The file's name in the work area."""
        ...

    @property
    def record(self) -> type[Signal] | type[Summary]:
        """What its lines are."""
        ...

    def __len__(self) -> int:
        """Return the number of entries."""
        ...

    def identities(self) -> list[tuple[str, str]]:
        """Return the entries' (kind, key), in order."""
        ...


def needed_files(stage: VerbalizeSignals | CollectSignals) -> list[str]:
    """Return what `parts` reads of the dataset."""
    of_users = [INTERACTIONS, USER_TABLE, STATS] if stage.summaries and stage.scope is SignalScope.ALL else []
    return [ITEMS, "tasks/*", *of_users]


def parts(stage: VerbalizeSignals | CollectSignals, dataset: Dataset, neighbours: Neighbours) -> list[Chunk | Pasts]:
    """Return all parts of a Verbalization: summaries first, as their calls follow upon each other and take longest."""
    past = pasts(dataset, stage.scope, stage.limit) if stage.summaries else []
    return [*past, *chunks(dataset, neighbours, stage.scope, stage.limit)]
