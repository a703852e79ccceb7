"""Verbalization: collaborative signals (paper 3.3) and long histories (3.2, E), put into words."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import NeighbourSettings, Sampling, SignalScope
from star_operator.api.common import LLM, PODS_BY_SHARDS, Compute, DatasetRef, RunSpec, VerbalizationRef
from star_operator.api.meta import CEL, KindInfo, Resource, Status


class VerbalizationSpec(RunSpec):
    """What is put into words, by which LLM."""

    model_config = CEL(PODS_BY_SHARDS).config()

    dataset: DatasetRef
    """The RecDataset whose interactions and tasks are used."""
    neighbours: NeighbourSettings = NeighbourSettings()
    """Which neighbours count, and how."""
    llm: LLM
    """The model that puts them into words."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How that model is sampled."""
    scope: SignalScope = SignalScope.ALL
    """For whom signals are put into words."""
    summaries: bool = True
    """Summarize the histories of the dataset's tasks that are longer than a prompt shows, for teacher and student."""
    limit: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Users and items each at most; for trying things out."""
    previous: VerbalizationRef | None = None
    """An earlier Verbalization to refresh: entries whose neighbours or history, item texts, model, prompt and sampling
    are unchanged are taken over from its store, and only the others are asked for. Within `neighbours.tolerance` its
    lists of neighbours are kept."""
    shards: int = Field(default=1, ge=1, le=10000)
    """Pods that share the work."""
    compute: Compute = Compute()
    """Where the workers run; the LLM server has a compute of its own."""


class Verbalization(Resource[VerbalizationSpec, Status]):
    """Look-up store of verbalized Item-CF and User-CF signals, and of summaries of long histories."""

    INFO: ClassVar[KindInfo] = KindInfo("Verbalization", "verbalizations", "vb")
    status: Status = Status()
