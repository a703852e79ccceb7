"""Verbalization: collaborative signals, computed and put into words (paper 3.3)."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import NeighbourSettings, Sampling, SignalScope
from star_operator.api.common import LLM, Compute, Ref, RunSpec
from star_operator.api.meta import KindInfo, Resource, Status


class VerbalizationSpec(RunSpec):
    """Which neighbours, put into words by which LLM."""

    dataset: Ref
    neighbours: NeighbourSettings = NeighbourSettings()
    llm: LLM
    sampling: Sampling = Sampling(max_tokens=1024)
    scope: SignalScope = SignalScope.ALL
    limit: int | None = Field(default=None, ge=1)
    """Users and items each at most; for trying things out."""
    shards: int = Field(default=1, ge=1, le=10000)
    """Pods that share the work."""
    compute: Compute = Compute()


class Verbalization(Resource[VerbalizationSpec, Status]):
    """Look-up store of verbalized Item-CF and User-CF signals."""

    INFO: ClassVar[KindInfo] = KindInfo("Verbalization", "verbalizations", "vb")
    status: Status = Status()
