"""What all runs of a teacher share: the models behind the agents, the tools, and a tally of how well they answer."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from star_contracts.data import Item
from star_contracts.errors import Reason
from star_contracts.job import GenerateTrajectories, LLMEndpoint
from star_contracts.settings import Agents, Sampling, TrajectoryFilter
from star_jobs.errors import TerminalFailure
from star_jobs.llm.budget import TokenBudget
from star_jobs.llm.client import LLMClient
from star_jobs.teacher.earlier import EarlierRuns
from star_jobs.trajectory.format import ANALYSTS, PLANNER, RECOMMEND, REFLECTION
from star_jobs.trajectory.prompt import SummarySource
from star_jobs.trajectory.tools import ToolBox

AGENT_NAMES = (PLANNER, *ANALYSTS, REFLECTION, RECOMMEND)
BRIEF_TOKENS = 256
"""With at most this many tokens an answer, agents state results without reasoning."""

_JUDGED_FROM = 40
"""Answers before a model is judged by the share that is not usable."""


@dataclass
class Tally:
    """How many of the model's answers say what was asked for, over all runs of this process."""

    outputs: int = 0
    invalid: int = 0

    def count(self, *, valid: bool, model: str) -> None:
        """Count an answer; raises TerminalFailure(LLMOutputInvalid) when most are not usable."""
        self.outputs += 1
        self.invalid += not valid
        if self.outputs >= _JUDGED_FROM:
            check_outputs(self.outputs, self.invalid, model)


def check_outputs(outputs: int, invalid: int, model: str) -> None:
    """Raise TerminalFailure(LLMOutputInvalid) when more than half of the answers were not usable."""
    if invalid * 2 > outputs:
        raise TerminalFailure(
            Reason.LLM_OUTPUT_INVALID,
            f"model {model!r} returned {invalid} of {outputs} answers that are not the JSON asked for; check that the "
            "llm endpoint supports response_format json_schema, raise sampling.maxTokens if answers are cut off, or "
            "choose a more capable model",
        )


@dataclass
class Team:
    """The agents of one process."""

    clients: Mapping[str, LLMClient]
    """By agent name."""
    agents: Agents
    sampling: Sampling
    filter: TrajectoryFilter
    items: Mapping[str, Item]
    toolbox: ToolBox | None
    """None when the agents have no tools."""
    summaries: SummarySource | None = None
    """Of the beginnings of long histories."""
    earlier: EarlierRuns = field(default_factory=EarlierRuns)
    """What an earlier run was answered."""
    own_planner: bool = False
    """True when the planner is a model of its own: a student trained on plans (the paper's MARS-Planner)."""
    tally: Tally = field(default_factory=Tally)

    @property
    def gpus(self) -> int | None:
        """GPUs of one engine of each model that takes part; None where one's are not known."""
        by_endpoint = {client.endpoint.base_url: client.endpoint.gpus for client in self.clients.values()}
        known = [gpus for gpus in by_endpoint.values() if gpus is not None]
        return sum(known) if len(known) == len(by_endpoint) else None

    @property
    def brief(self) -> bool:
        """True when answers have no room for reasoning."""
        return self.sampling.max_tokens <= BRIEF_TOKENS


async def open_clients(
    stage: GenerateTrajectories, stack: AsyncExitStack, pods: int, budget: TokenBudget
) -> dict[str, LLMClient]:
    """Open a client for each agent, one an endpoint; none is asked for before its first answer is needed.

    `pods` share the endpoints' rate limits; the clients share this pod's budget.

    Raises TerminalFailure(InvalidJobSpec) for an agent that MARS does not have.
    """
    unknown = sorted(set(stage.agent_llms) - set(AGENT_NAMES))
    if unknown:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC,
            f"agentLlms names {', '.join(unknown)}, which MARS does not have; its agents are {', '.join(AGENT_NAMES)}",
        )
    endpoints = {agent: stage.agent_llms.get(agent, stage.llm) for agent in AGENT_NAMES}
    opened: dict[str, LLMClient] = {}
    for endpoint in _distinct([stage.llm, *endpoints.values()]):
        client = await stack.enter_async_context(LLMClient(endpoint, pods=pods, budget=budget))
        opened[endpoint.model_dump_json()] = client
    return {agent: opened[endpoint.model_dump_json()] for agent, endpoint in endpoints.items()}


def _distinct(endpoints: Sequence[LLMEndpoint]) -> list[LLMEndpoint]:
    return list({endpoint.model_dump_json(): endpoint for endpoint in endpoints}.values())
