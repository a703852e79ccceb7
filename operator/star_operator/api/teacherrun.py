"""TeacherRun: MARS, the multi-agent teacher, over the dataset's training tasks (paper 3.2)."""

from typing import ClassVar

from pydantic import Field

from star_contracts.settings import Agents, Sampling, TaskSplit, TrajectoryFilter
from star_operator.api.common import LLM, PODS_BY_SHARDS, Compute, DatasetRef, RunSpec, TeacherRunRef, VerbalizationRef
from star_operator.api.meta import CEL, KindInfo, Resource, Status

AGENTS = (
    "planner",
    "user_profile",
    "historical_analysis",
    "recent_analysis",
    "interest_divergence",
    "reflection",
    "recommend",
)
"""The agents of MARS (paper 3.2, F.1)."""


class TeacherRunSpec(RunSpec):
    """Which tasks, agents and LLM."""

    model_config = CEL(
        (
            "!self.agents.tools || has(self.verbalization)",
            "agents.tools needs verbalization (where the tools look collaborative signals up); "
            "name one or set agents.tools to false",
        ),
        (
            "self.passes == 1 || self.sampling.temperature > 0.0",
            "passes above 1 need sampling.temperature above 0: without it every pass gives the same answer",
        ),
        (
            f"self.agentLlms.all(agent, agent in {list(AGENTS)})",
            f"agentLlms names an agent that MARS does not have; its agents are {', '.join(AGENTS)}",
        ),
        (
            "self.split != 'Test' || self.filter == 'None'",
            "split Test measures the teacher, so its misses count too: set filter to None",
        ),
        PODS_BY_SHARDS,
    ).config()

    dataset: DatasetRef
    """The RecDataset whose tasks are worked on."""
    verbalization: VerbalizationRef | None = None
    """The Verbalization that collaborative signals (where the agents have tools) and summaries are looked up in."""
    llm: LLM
    """The model behind all agents but those in agentLlms."""
    agent_llms: dict[str, LLM] = Field(default={}, max_length=len(AGENTS))
    """Models of single agents, by agent: planner, user_profile, historical_analysis, recent_analysis,
    interest_divergence, reflection, recommend. A planner of its own is asked as a student of variant PlannerOnly, which
    makes the hybrid that the paper calls MARS-Planner (4.1)."""
    agents: Agents = Agents()
    """Which of MARS's parts take part."""
    passes: int = Field(default=1, ge=1, le=64)
    """Inference passes over each sample; all that hit are kept (paper A.1)."""
    split: TaskSplit = TaskSplit.TRAIN
    """Test measures the teacher itself (hit rates in status and stats.json); no SFTJob takes its trajectories."""
    tasks: int | None = Field(default=None, ge=1, le=100_000_000)
    """Tasks at most; all by default. Test tasks are drawn as an Evaluation draws them, equally many of each type: 50 of
    five types are those of its settings.samples 10 and default seed."""
    token_budget: int | None = Field(default=None, ge=1, le=1_000_000_000_000_000)
    """Tokens of prompts and answers that the whole run may spend, over all models and attempts. When they are used up
    the run fails with reason TokenBudgetSpent; a run of the same name with a larger one reuses what is finished."""
    previous: TeacherRunRef | None = None
    """An earlier TeacherRun to go on from: what would be asked in the same way (task, item texts, signals, model,
    sampling, prompts) is taken over from its trajectories, and only the rest is asked for."""
    filter: TrajectoryFilter = TrajectoryFilter.HIT_AT_1
    """Which trajectories are kept for training."""
    sampling: Sampling = Sampling()
    """How the model is sampled."""
    shards: int = Field(default=1, ge=1, le=10000)
    """Worker pods."""
    compute: Compute = Compute()
    """Where the workers run; the LLM server has a compute of its own."""


class TeacherRun(Resource[TeacherRunSpec, Status]):
    """A run of the multi-agent teacher; it produces trajectories."""

    INFO: ClassVar[KindInfo] = KindInfo("TeacherRun", "teacherruns", "tr")
    status: Status = Status()
