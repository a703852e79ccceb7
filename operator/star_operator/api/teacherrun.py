"""TeacherRun: MARS, the multi-agent teacher, over the dataset's training tasks (paper 3.2)."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import Agents, Sampling, TrajectoryFilter
from star_operator.api.common import LLM, Compute, Ref, RunSpec
from star_operator.api.meta import CEL, KindInfo, Resource, Status


class TeacherRunSpec(RunSpec):
    """Which tasks, agents and LLM."""

    model_config = CEL(
        (
            "!self.agents.tools || has(self.verbalization)",
            "agents.tools needs verbalization (where the tools look collaborative signals up); "
            "name one or set agents.tools to false",
        ),
    ).config()

    dataset: Ref
    verbalization: Ref | None = None
    llm: LLM
    agents: Agents = Agents()
    passes: int = Field(default=1, ge=1, le=64)
    """Inference passes over each sample; all that hit are kept (paper A.1)."""
    tasks: int | None = Field(default=None, ge=1)
    """Training tasks at most; all by default."""
    filter: TrajectoryFilter = TrajectoryFilter.HIT_AT_1
    sampling: Sampling = Sampling()
    shards: int = Field(default=1, ge=1, le=10000)
    """Worker pods."""
    compute: Compute = Compute()


class TeacherRun(Resource[TeacherRunSpec, Status]):
    """A run of the multi-agent teacher; it produces trajectories."""

    INFO: ClassVar[KindInfo] = KindInfo("TeacherRun", "teacherruns", "tr")
    status: Status = Status()
