"""Single-agent prompts: what they show, how their answers are read, and that the stage runs with them."""

import json

import pytest

from star_contracts.data import Interaction, TaskType
from star_contracts.settings import SingleAgent
from star_jobs.evaluate.agents import LATEST, last_list, rank_messages, remember_messages
from star_jobs.trajectory.prompt import ShownTask
from tests.support import world
from tests.support.fakellm import Request, fake_llm
from tests.unit.star_jobs.evaluate.conftest import SETTINGS, Stage

ITEMS = {item.item_id: item for item in world.ITEMS}
TASK = ShownTask(
    task_id="t",
    type=TaskType.CLASSIC,
    user_id="u1",
    candidates=("i7", "i8", "i9"),
    seed=0,
    history=tuple(Interaction(item_id=f"i{n}", timestamp=n) for n in range(6)),
    summary="Many quiet films.",
)
THINKING = {SingleAgent.CHAIN_OF_THOUGHT, SingleAgent.CHAIN_OF_THOUGHT_MEMORY}
REMEMBERING = {SingleAgent.MEMORY, SingleAgent.CHAIN_OF_THOUGHT_MEMORY}


@pytest.mark.parametrize("agent", SingleAgent)
def test_every_prompt_shows_the_candidates_and_asks_for_a_list(agent: SingleAgent) -> None:
    system, user = rank_messages(TASK, ITEMS, agent, "likes quiet films")
    assert "JSON list of the 3 candidate ids" in system["content"]
    assert ("step by step" in system["content"]) == (agent in THINKING)
    assert ("likes quiet films" in user["content"]) == (agent in REMEMBERING)
    assert "i7 Film 7 [Drama]\ni8 Film 8 [Drama]\ni9 Film 9 [Drama]" in user["content"]
    assert "tool" not in system["content"]


def test_a_memory_stands_for_all_but_the_latest_interactions() -> None:
    shown = rank_messages(TASK, ITEMS, SingleAgent.MEMORY, "notes")[1]["content"]
    assert [f"i{n} Film" in shown for n in range(6)] == [False] * (6 - LATEST) + [True] * LATEST
    remembered = remember_messages(TASK, ITEMS)[1]["content"]
    assert all(f"i{n} Film" in remembered for n in range(6))
    assert ("Many quiet films." in remembered, "Many quiet films." in shown) == (True, False)
    assert "i7" not in remembered, "notes are made without knowing what will be asked"


@pytest.mark.parametrize(
    ("text", "ranking"),
    [
        ('["i1", "i2"]', ("i1", "i2")),
        ('first ["i9"], no: ```json\n["i1",\n "i2"]\n```', ("i1", "i2")),
        ("[739484, 1187586]", ("739484", "1187586")),
        ("see [1] and [i1, i2]", ("1",)),
        ("[[], [{}]]", ()),
        ("nothing", ()),
    ],
)
def test_the_last_list_is_the_ranking(text: str, ranking: tuple[str, ...]) -> None:
    assert last_list(text) == ranking


def _agent(request: Request) -> str:
    """Note one thing where notes are asked for, else rank the third candidate first."""
    system, user = (message["content"] for message in request["messages"])
    if "notes about users" in system:
        return "Likes drama."
    candidates = [line.split()[0] for line in user.split("Candidates:\n")[1].splitlines()]
    return "I think so.\n" + json.dumps([candidates[2], *candidates[:2], *candidates[3:]])


@pytest.mark.parametrize("agent", SingleAgent)
def test_the_stage_measures_a_single_agent(stage: Stage, agent: SingleAgent) -> None:
    settings = SETTINGS.model_copy(update={"tools": False, "single_agent": agent})
    with fake_llm(_agent) as server:
        code, result = stage.run(server.endpoint(), settings)
    assert (code, result.error) == (0, None)
    assert result.metrics["hr1"] == result.metrics["valid"] == result.metrics["wellFormed"] == 1
    assert len(server.requests) == 20 * (2 if agent in REMEMBERING else 1)
    assert f"single-agent prompt {agent.value}" in stage.page(result)


@pytest.mark.bad_input
def test_an_agent_that_writes_no_list_has_missed(stage: Stage) -> None:
    settings = SETTINGS.model_copy(update={"tools": False, "single_agent": SingleAgent.BASE})
    with fake_llm(lambda request: "the third one, surely") as server:
        code, result = stage.run(server.endpoint(), settings)
    assert code == 0
    assert result.metrics["hr5"] == result.metrics["valid"] == result.metrics["wellFormed"] == 0
