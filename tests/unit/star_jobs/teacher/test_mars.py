"""One run of MARS: who is asked what, in which order, and what is recorded."""

import json
import re
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from star_contracts.data import AgentStep, RankingTask, TaskType
from star_contracts.limits import TokenPrices
from star_contracts.settings import Agents, Sampling, TrajectoryFilter, Variant
from star_jobs.llm.client import LLMClient
from star_jobs.teacher import agents as agents_of_mars
from star_jobs.teacher.mars import run_mars
from star_jobs.teacher.records import RunRecord
from star_jobs.teacher.team import AGENT_NAMES, Team
from star_jobs.teacher.worklist import WorkItem, run_seed
from star_jobs.trajectory.format import ANALYSTS, serialize
from star_jobs.trajectory.prompt import SummarySource
from star_jobs.trajectory.tools import ToolBox
from tests.support.fakellm import Answer, FakeLLM, Request, fake_llm, schema_of
from tests.support.world import ITEMS, KnownSummaries, signals, summaries, tasks, with_past

TASK = tasks(1, [TaskType.CLASSIC])[0]
TRUTH = "i7"
CATALOGUE = {item.item_id: item for item in ITEMS}
BRIEF = Sampling(max_tokens=96)
FULL = Sampling(max_tokens=2048)
SIGNALS = {(signal.kind, signal.key): signal for signal in signals()}


class Store:
    """The world's signals in memory."""

    def get(self, kind: Any, key: str) -> Any:
        return SIGNALS.get((kind, key))


def kind_of(request: Request) -> str:
    """Which agent's turn a request is: told by the one field that its schema asks for."""
    fields = set(schema_of(request)["properties"]) - {"thinking"}
    (name,) = fields
    return {"agents": "plan", "conclusions": "analyse", "problematic_agent": "reflect", "ranking": "rank"}.get(
        name, name
    )


class Script:
    """Answers by turn; a list is used up one by one, its last element for ever."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "plan": "user_profile > recent_analysis",
            "calls": ['User-CF("u1")'],
            "analyse": ["likes drama"],
            "reflect": [[]],
            "rank": "i7 > i5 > i6 > i8 > i9",
        } | answers
        self.turns: list[str] = []

    def __call__(self, request: Request) -> Answer:
        turn = kind_of(request)
        self.turns.append(turn)
        answer = self.answers[turn]
        if isinstance(answer, list) and turn in ("reflect", "rank") and len(answer) > 0:
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Answer):
            return answer
        field = next(name for name in schema_of(request)["properties"] if name != "thinking")
        value = {field: in_form(answer, schema_of(request)["properties"][field])}
        if "thinking" in schema_of(request)["properties"]:
            value = {"thinking": f"about {turn}"} | value
        return Answer(json.dumps(value))


def in_form(answer: Any, schema: dict[str, Any]) -> Any:
    """A list as a brief agent writes it: in one string."""
    if not isinstance(answer, list) or schema["type"] == "array":
        return answer
    told = [": ".join(one.values()) if isinstance(one, dict) else one for one in answer]
    return "; ".join(told) or agents_of_mars.NONE


async def run(
    script: Callable[[Request], Answer],
    *,
    agents: Agents = Agents(lookup_rounds=1),  # noqa: B008 - frozen
    sampling: Sampling = BRIEF,
    kept: TrajectoryFilter = TrajectoryFilter.HIT_AT_1,
    task: RankingTask = TASK,
    pass_index: int = 0,
    summaries: SummarySource | None = None,
) -> tuple[RunRecord, FakeLLM]:
    with fake_llm(script) as llm:
        async with LLMClient(llm.endpoint()) as client:
            await client.wait_ready()
            team = Team(
                clients=dict.fromkeys(AGENT_NAMES, client),
                agents=agents,
                sampling=sampling,
                filter=kept,
                items=CATALOGUE,
                toolbox=ToolBox(Store(), CATALOGUE) if agents.tools else None,
                summaries=summaries,
            )
            item = WorkItem(task, pass_index, run_seed(task.task_id, pass_index))
            return await run_mars(team, item, TRUTH), llm


def steps(record: RunRecord) -> tuple[AgentStep, ...]:
    assert record.trajectory is not None, record.failure
    return record.trajectory.steps


async def test_the_order_of_a_run() -> None:
    script = Script()
    record, _ = await run(script)
    assert script.turns == ["plan", "calls", "analyse", "calls", "analyse", "reflect", "rank"]
    assert [step.agent for step in steps(record)] == [
        "planner",
        "user_profile",
        "recent_analysis",
        "reflection",
        "recommend",
    ]
    trajectory = record.trajectory
    assert trajectory is not None
    assert (trajectory.ranking[0], trajectory.hit_rank, trajectory.kept) == ("i7", 1, True)
    assert trajectory.usage.calls == 7
    assert trajectory.usage.prompt_tokens > 0
    assert (record.outputs, record.invalid, record.repaired, record.ranked) == (7, 0, False, True)


@pytest.mark.parametrize("sampling", [BRIEF, FULL], ids=["brief", "full"])
async def test_a_run_serializes_into_every_variant(sampling: Sampling) -> None:
    problem = [{"agent_name": "recent_analysis", "suggestion": "look at the last week"}]
    record, _ = await run(Script(reflect=[problem]), sampling=sampling)
    assert record.trajectory is not None
    for variant in Variant:
        assert serialize(record.trajectory, variant)


async def test_brief_answers_leave_out_the_reasoning() -> None:
    brief, _ = await run(Script())
    full, _ = await run(Script(), sampling=FULL)
    assert {step.thinking for step in steps(brief)} == {""}
    assert [step.thinking for step in steps(full)] == ["about plan"] + ["about analyse"] * 2 + [
        "about reflect",
        "about rank",
    ]


async def test_tool_answers_reach_the_analyst_and_the_record() -> None:
    record, llm = await run(Script())
    (exchange,) = steps(record)[1].tools
    assert (exchange.tool, exchange.argument) == ("User-CF", "u1")
    assert exchange.response.startswith("Similar users like: Drama")
    analysis = next(request for request in llm.requests if kind_of(request) == "analyse")
    assert f"User-CF u1: {exchange.response}" in analysis["messages"][1]["content"]


async def test_only_look_ups_with_an_answer_are_offered() -> None:
    _, llm = await run(Script(), task=TASK.model_copy(update={"user_id": "stranger"}))
    calls = next(schema_of(request)["properties"]["calls"] for request in llm.requests if kind_of(request) == "calls")
    assert [call for call in calls["enum"] if "User-CF" in call] == []
    assert {'Item-CF("i2")', "none"} < set(calls["enum"])


async def test_without_any_signal_nobody_is_asked_for_look_ups() -> None:
    task = TASK.model_copy(update={"user_id": "stranger", "history": (), "candidates": ("x1", "i7")})
    script = Script(rank="i7 > x1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "get", lambda self, kind, key: None)
        record, _ = await run(script, task=task)
    assert "calls" not in script.turns
    assert steps(record)[1].tools == ()


async def test_all_prompts_of_a_run_begin_alike() -> None:
    """The server reads user, history and candidates once: what differs comes last."""
    _, llm = await run(Script())
    prompts = [request["messages"] for request in llm.requests]
    assert len({messages[0]["content"] for messages in prompts}) == 1
    shared = prompts[0][1]["content"].split("\n\nTask:")[0]
    assert "Candidates:" in shared
    assert all(messages[1]["content"].startswith(shared) for messages in prompts)


async def test_brief_analysts_choose_their_words_and_full_ones_write() -> None:
    for sampling, words in ((BRIEF, {"type": "string", "enum": ["Drama"]}), (FULL, None)):
        _, llm = await run(Script(), sampling=sampling)
        asked = next(schema_of(r)["properties"] for r in llm.requests if kind_of(r) == "analyse")
        if words:
            assert asked["conclusions"] == words
        else:
            assert asked["conclusions"]["items"] == {"type": "string"}


async def test_brief_agents_are_never_asked_for_an_array() -> None:
    """Very small models lose themselves in the white space between an array's elements."""
    _, llm = await run(Script(reflect=[PROBLEM]))
    shapes = [schema_of(request)["properties"] for request in llm.requests]
    assert len(shapes) == 8
    assert all(part["type"] == "string" for properties in shapes for part in properties.values())


async def test_brief_prompts_are_short() -> None:
    _, llm = await run(Script())
    assert max(len(message["content"]) for request in llm.requests for message in request["messages"]) < 700


async def test_without_planner_all_analysts_run_in_fixed_order() -> None:
    record, _ = await run(Script(), agents=Agents(planner=False))
    assert [step.agent for step in steps(record)][:4] == list(ANALYSTS)
    assert record.trajectory is not None
    assert serialize(record.trajectory, Variant.WITHOUT_PLANNER)


async def test_without_reflector_nobody_reviews() -> None:
    script = Script()
    record, _ = await run(script, agents=Agents(reflector=False))
    assert "reflect" not in script.turns
    assert record.trajectory is not None
    assert serialize(record.trajectory, Variant.WITHOUT_REFLECTOR)


async def test_without_tools_nobody_looks_up() -> None:
    script = Script()
    record, _ = await run(script, agents=Agents(tools=False))
    assert "calls" not in script.turns
    assert all(step.tools == () for step in steps(record))


PROBLEM = [{"agent_name": "user_profile", "suggestion": "name the genre"}]


async def test_the_reflector_sends_an_analyst_back_with_its_suggestion() -> None:
    script = Script(reflect=[PROBLEM])
    record, llm = await run(script)
    assert script.turns[-3:] == ["reflect", "analyse", "rank"]
    revised = steps(record)[4]
    assert (revised.agent, revised.revision, revised.tools) == ("user_profile", 1, ())
    prompt = llm.requests[-2]["messages"][1]["content"]
    assert "name the genre" in prompt
    assert "likes drama" in prompt


async def test_revisions_are_bounded() -> None:
    script = Script(reflect=[PROBLEM])
    await run(script, agents=Agents(max_revisions=3))
    assert script.turns.count("reflect") == 3
    script = Script(reflect=[PROBLEM])
    record, _ = await run(script, agents=Agents(max_revisions=0))
    assert script.turns[-2:] == ["reflect", "rank"]
    assert json.loads(steps(record)[3].output)["correct"] == "no"


async def test_revisions_end_when_the_reflector_is_content() -> None:
    script = Script(reflect=[PROBLEM, []])
    record, _ = await run(script, agents=Agents(max_revisions=5))
    assert script.turns.count("reflect") == 2
    assert [step.output for step in steps(record) if step.agent == "reflection"][1] == '{"correct":"yes"}'


async def test_each_run_shows_the_candidates_in_an_order_of_its_own() -> None:
    orders = set()
    for index in range(4):
        _, llm = await run(Script(), pass_index=index)
        shown = llm.requests[0]["messages"][1]["content"].split("Candidates:\n")[1]
        orders.add(tuple(re.findall(r"^(i\d+) ", shown, re.MULTILINE)))
    assert len(orders) > 1
    assert all(sorted(order) == sorted(TASK.candidates) for order in orders)


async def test_seeds_differ_by_turn_and_not_by_run() -> None:
    _, one = await run(Script())
    _, two = await run(Script())
    seeds = [request["seed"] for request in one.requests]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [request["seed"] for request in two.requests]


async def test_every_agent_may_have_a_model_of_its_own() -> None:
    with ExitStack() as servers:
        llms = {name: servers.enter_context(fake_llm(Script())) for name in AGENT_NAMES}
        async with AsyncExitStack() as stack:
            clients = {
                name: await stack.enter_async_context(LLMClient(llm.endpoint(prices=TokenPrices(prompt_per_million=n))))
                for n, (name, llm) in enumerate(llms.items())
            }
            for client in clients.values():
                await client.wait_ready()
            team = Team(
                clients=clients,
                agents=Agents(),
                sampling=BRIEF,
                filter=TrajectoryFilter.HIT_AT_1,
                items=CATALOGUE,
                toolbox=None,
            )
            record = await run_mars(team, WorkItem(TASK, 0, 1), TRUTH)
            spent = sum(client.cost for client in clients.values())
    assert {name: [kind_of(r) for r in llm.requests] for name, llm in llms.items()} == {
        "planner": ["plan"],
        "user_profile": ["analyse"],
        "recent_analysis": ["analyse"],
        "historical_analysis": [],
        "interest_divergence": [],
        "reflection": ["reflect"],
        "recommend": ["rank"],
    }
    assert record.cost == pytest.approx(spent)
    assert record.cost > 0


async def test_every_agent_reads_the_summary_and_only_what_came_after_it() -> None:
    long = with_past(TASK, 14)
    record, llm = await run(Script(), task=long, summaries=KnownSummaries(*summaries(long)))
    assert record.trajectory is not None
    for request in llm.requests:
        context = request["messages"][1]["content"].split("Candidates:")[0]
        assert "Long-term summary: The first 12 films of u1.\nHistory, newest last:\ni0 Film 0" in context
        assert context.count("Film") == 2, "the last two interactions"


async def test_a_miss_is_recorded_and_not_kept() -> None:
    record, _ = await run(Script(rank="i5 > i6 > i7 > i8 > i9"))
    assert record.trajectory is not None
    assert (record.trajectory.hit_rank, record.trajectory.kept) == (3, False)
    everything, _ = await run(Script(rank="i5 > i6 > i7 > i8 > i9"), kept=TrajectoryFilter.NONE)
    assert everything.trajectory is not None
    assert everything.trajectory.kept


@pytest.mark.bad_input
async def test_a_poor_answer_is_asked_for_again_and_counted() -> None:
    script = Script(rank=[Answer("{oops"), "i7 > i5 > i6 > i8 > i9"])
    record, _ = await run(script)
    assert script.turns[-2:] == ["rank", "rank"]
    assert (record.invalid, record.ranked) == (1, True)


@pytest.mark.bad_input
async def test_agents_that_only_return_garbage_are_done_without() -> None:
    script = Script(plan=Answer("hm"), calls=Answer("hm"), analyse=Answer("hm"), reflect=Answer("hm"))
    record, _ = await run(script)
    assert [step.agent for step in steps(record)][1:5] == list(ANALYSTS)
    assert record.trajectory is not None
    assert record.trajectory.hit_rank == 1
    assert record.invalid == 2 * (1 + 4 + 4 + 1)


@pytest.mark.bad_input
async def test_a_ranking_that_cannot_be_read_is_a_miss_and_never_kept() -> None:
    for kept in TrajectoryFilter:
        record, _ = await run(Script(rank=Answer("film 7")), kept=kept)
        assert record.trajectory is not None
        assert (record.ranked, record.trajectory.ranking, record.trajectory.kept) == (False, (), False)


@pytest.mark.bad_input
async def test_a_task_too_long_for_the_model_fails_alone() -> None:
    record, _ = await run(Script(plan=Answer("maximum context length is 10 tokens", status=400)))
    assert record.trajectory is None
    assert "maximum context length" in record.failure


async def test_a_json_answer_in_a_code_fence_is_read() -> None:
    fenced = Answer('```json\n{"ranking": "i7 > i5 > i6 > i8 > i9"}\n```')
    record, _ = await run(Script(rank=fenced))
    assert record.invalid == 0
