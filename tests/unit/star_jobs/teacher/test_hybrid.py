"""MARS-Planner, the paper's hybrid: a planner trained on plans, and the teacher's model for all else."""

import json

import pytest

from star_contracts.job import LLMEndpoint
from star_contracts.settings import Agents, TrajectoryFilter
from star_jobs.llm.client import LLMClient
from star_jobs.teacher.mars import run_mars
from star_jobs.teacher.team import AGENT_NAMES, Team
from star_jobs.teacher.worklist import WorkItem
from tests.support.fakellm import FakeLLM, fake_llm
from tests.unit.star_jobs.teacher.test_mars import BRIEF, CATALOGUE, TASK, TRUTH, Script, steps


async def test_a_planner_of_its_own_is_asked_as_it_was_trained() -> None:
    with (
        fake_llm(lambda request: '<plan><JSON>["recent_analysis"]</JSON></plan>') as planner,
        fake_llm(Script()) as llm,
    ):
        async with LLMClient(on_gpus(llm, 16)) as client, LLMClient(on_gpus(planner, 1)) as own:
            team = hybrid(client, own)
            record = await run_mars(team, WorkItem(TASK, 0, 1), TRUTH)
    assert [step.agent for step in steps(record)] == ["planner", "recent_analysis", "reflection", "recommend"]
    assert "schema" not in json.dumps(planner.requests[0])
    assert record.gpus == 17, "the paper's 16 and one more"


@pytest.mark.parametrize("gpus", [(16, None), (None, 1), (None, None)])
async def test_what_a_run_occupies_is_not_known_where_a_model_is_elsewhere(gpus: tuple[int | None, ...]) -> None:
    with fake_llm(Script()) as llm, fake_llm(Script()) as planner:
        async with LLMClient(on_gpus(llm, gpus[0])) as client, LLMClient(on_gpus(planner, gpus[1])) as own:
            assert hybrid(client, own).gpus is None


def on_gpus(server: FakeLLM, gpus: int | None) -> LLMEndpoint:
    return server.endpoint().model_copy(update={"gpus": gpus})


def hybrid(client: LLMClient, own: LLMClient) -> Team:
    """The paper's MARS-Planner."""
    return Team(
        clients=dict.fromkeys(AGENT_NAMES, client) | {"planner": own},
        agents=Agents(),
        sampling=BRIEF,
        filter=TrajectoryFilter.HIT_AT_1,
        items=CATALOGUE,
        toolbox=None,
        own_planner=True,
    )
