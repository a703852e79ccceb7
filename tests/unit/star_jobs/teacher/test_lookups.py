"""Rounds of look-ups: who may look things up, how often, what each round is shown, and what is recorded."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from star_contracts.data import AgentStep, Signal, SignalKind, ToolExchange
from star_contracts.settings import MAX_TOOL_CALLS, Agents, Sampling, Variant
from star_jobs.teacher import collect
from star_jobs.teacher.mars import CALLS
from star_jobs.teacher.report import render
from star_jobs.teacher.statistics import StatisticsBuilder
from star_jobs.trajectory.format import ANALYSTS, serialize
from tests.support.fakellm import Answer, FakeLLM, Request, schema_of
from tests.unit.star_jobs.teacher.test_mars import BRIEF, FULL, PROBLEM, SIGNALS, TASK, Script, kind_of, run, steps

DEMO = Path(__file__).parents[4] / "manifests" / "samples" / "demo" / "02-teacherrun.yaml"
EVERYTHING = 9
"""The user, three items of the history, five candidates: all that can be looked up for the task."""


def offered(request: Request) -> list[str]:
    """The look-ups that a request lets an agent choose from."""
    asked = schema_of(request)["properties"]["calls"]
    options: list[str] = asked["enum"] if "enum" in asked else asked["items"]["enum"]
    return [option for option in options if option != "none"]


class Curious(Script):
    """Looks up the first of what is offered, as many a round as `take` says, then nothing."""

    def __init__(self, take: tuple[int, ...], **answers: Any) -> None:
        super().__init__(plan="user_profile", **answers)
        self.take = list(take)

    def __call__(self, request: Request) -> Answer:
        if kind_of(request) == "calls":
            self.answers["calls"] = offered(request)[: self.take.pop(0) if self.take else 0]
        return super().__call__(request)


def keys(step: AgentStep) -> list[str]:
    return [exchange.argument for exchange in step.tools]


def prompts(llm: FakeLLM, turn: str) -> list[str]:
    return [request["messages"][1]["content"] for request in llm.requests if kind_of(request) == turn]


def shown(exchange: ToolExchange) -> str:
    return f"{exchange.tool.value} {exchange.argument}: {exchange.response}"


async def test_an_analyst_looks_up_in_rounds_and_the_record_keeps_them_in_order() -> None:
    script = Curious((1, 2))
    record, _ = await run(script, agents=Agents(), sampling=FULL)
    assert script.turns == ["plan", "calls", "calls", "analyse", "reflect", "calls", "rank"]
    analysis = steps(record)[1]
    assert keys(analysis) == ["u1", "i2", "i1"]
    assert [exchange.thinking for exchange in analysis.tools] == ["about calls", "about calls", ""]
    assert analysis.thinking == "about analyse"


@pytest.mark.parametrize("sampling", [BRIEF, FULL], ids=["brief", "full"])
async def test_each_round_is_shown_what_was_found_and_not_offered_it_again(sampling: Sampling) -> None:
    record, llm = await run(Curious((1, 1)), agents=Agents(), sampling=sampling)
    first, second = steps(record)[1].tools
    rounds = [request for request in llm.requests if kind_of(request) == "calls"][:2]
    assert [len(offered(request)) for request in rounds] == [EVERYTHING, EVERYTHING - 1]
    assert shown(first) not in prompts(llm, "calls")[0]
    assert shown(first) in prompts(llm, "calls")[1]
    assert shown(second) in prompts(llm, "analyse")[0]


@pytest.mark.parametrize("rounds", [1, 3])
async def test_rounds_are_bounded(rounds: int) -> None:
    script = Curious((1,) * EVERYTHING)
    record, _ = await run(script, agents=Agents(lookup_rounds=rounds), sampling=FULL)
    analysis, recommendation = steps(record)[1], steps(record)[-1]
    assert (len(analysis.tools), len(recommendation.tools)) == (rounds, rounds)
    assert script.turns.count("calls") == 2 * rounds


async def test_the_ranking_agent_looks_up_what_its_prompt_does_not_show_yet() -> None:
    record, llm = await run(Curious((2, 0, 1)), agents=Agents(), sampling=FULL)
    recommendation = steps(record)[-1]
    assert keys(recommendation) == ["i1"], "u1 and i2 are among the signals it is shown"
    assert "for the ranking" in prompts(llm, "calls")[-1]
    (prompt,) = prompts(llm, "rank")
    assert all(shown(exchange) in prompt for step in steps(record) for exchange in step.tools)


async def test_nobody_is_asked_when_everything_is_looked_up() -> None:
    script = Curious((3, 3, 3))
    record, _ = await run(script, agents=Agents(lookup_rounds=5), sampling=FULL)
    assert len(steps(record)[1].tools) == EVERYTHING
    assert script.turns == ["plan", "calls", "calls", "calls", "analyse", "reflect", "rank"]


@pytest.mark.bad_input
async def test_a_repeated_look_up_is_not_made() -> None:
    """Providers that only see the schema in words let a model ask for the same thing again."""
    script = Script(plan="user_profile", calls=['User-CF("u1")', 'User-CF("u1")'])
    record, _ = await run(script, agents=Agents(lookup_rounds=5), sampling=FULL)
    assert [keys(step) for step in steps(record)] == [[], ["u1"], [], []]
    assert script.turns.count("calls") == 2 + 1, "asking for what is known ends the rounds, and so for the ranking"


@pytest.mark.bad_input
async def test_an_unreadable_choice_ends_the_rounds() -> None:
    script = Script(plan="user_profile", calls=Answer("hm"))
    record, _ = await run(script, agents=Agents(), sampling=FULL)
    assert script.turns.count("calls") == 2 * 2, "each asked twice, in one round"
    assert steps(record)[-1].tools == ()


async def test_a_revision_looks_up_anew_in_the_light_of_the_suggestion() -> None:
    script = Curious((1, 1, 1, 2), reflect=[PROBLEM])
    record, llm = await run(script, agents=Agents(), sampling=FULL)
    first, revised = (step for step in steps(record) if step.agent == "user_profile")
    assert (keys(first), keys(revised)) == (["u1", "i2"], ["u1", "i2", "i1"])
    assert [PROBLEM[0]["suggestion"] in prompt for prompt in prompts(llm, "calls")] == [False, False, True, True, False]


@pytest.mark.parametrize("variant", list(Variant))
async def test_a_run_with_rounds_everywhere_serializes_into_every_variant(variant: Variant) -> None:
    record, _ = await run(Curious((1, 2, 1, 2, 1, 1), reflect=[PROBLEM]), agents=Agents(), sampling=FULL)
    assert record.trajectory is not None
    assert [len(step.tools) for step in steps(record)] == [0, 3, 0, 3, 2]
    text = "".join(segment.text for segment in serialize(record.trajectory, variant))
    calls = {Variant.WITHOUT_TOOLS: 0, Variant.PLANNER_ONLY: 0, Variant.WITHOUT_REFLECTOR: 5}
    assert text.count("<tool_call>") == calls.get(variant, 8)


async def test_brief_agents_look_nothing_up_for_a_revision_or_the_ranking() -> None:
    script = Curious((1,) * EVERYTHING, reflect=[PROBLEM])
    record, _ = await run(script, agents=Agents())
    assert script.turns == ["plan", "calls", "calls", "analyse", "reflect", "analyse", "rank"]
    assert [len(step.tools) for step in steps(record)] == [0, 2, 0, 0, 0]


async def test_the_demo_asks_no_more_than_it_has_to() -> None:
    """Its processor serves a handful of calls a second: an analyst looks up once, and the ranking agent not at all."""
    spec = yaml.safe_load(DEMO.read_text())["spec"]
    script = Curious((1,) * EVERYTHING)
    settings = Agents.model_validate(spec["agents"]), Sampling.model_validate(spec["sampling"])
    await run(script, agents=settings[0], sampling=settings[1])
    assert script.turns == ["plan", "calls", "analyse", "reflect", "rank"]


def test_a_student_may_look_up_as_often_as_it_is_shown() -> None:
    """Or it would be cut off, in evaluation and serving, in the middle of what it was trained to do."""
    assert (len(ANALYSTS) + 1) * Agents().lookup_rounds * CALLS <= MAX_TOOL_CALLS


async def test_the_look_ups_of_all_rounds_are_counted() -> None:
    record, _ = await run(Curious((1, 2, 1, 2, 1, 1), reflect=[PROBLEM]), agents=Agents(), sampling=FULL)
    builder = StatisticsBuilder()
    builder.add(record)
    counted = builder.build()
    assert (counted.tool_calls, counted.ranking_tool_calls) == ({"Item-CF": 6, "User-CF": 2}, 2)
    assert counted.analysts["user_profile"].looked_up == 6
    page = render(counted)
    assert "| user_profile | 1 | 1 | 6 |" in page
    assert "Look-ups: Item-CF 6, User-CF 2; 2 were the ranking agent's, 0 had no signal." in page


@pytest.mark.case("odd-ids")
@pytest.mark.parametrize("sampling", [BRIEF, FULL], ids=["brief", "full"])
@pytest.mark.parametrize(
    "odd", ['reader "1"', "sku<5>", "shop\\6", "x" * 230], ids=["quotes", "brackets", "slash", "long"]
)
async def test_an_id_that_no_call_can_hold_is_left_out_counted_and_told(sampling: Sampling, odd: str) -> None:
    known = Signal(kind=SignalKind.ITEM_CF, key=odd, categories=(), neighbours=("i1",))
    user = Signal(kind=SignalKind.USER_CF, key=odd, categories=(), neighbours=("i1",))
    task = TASK.model_copy(update={"user_id": odd, "candidates": (odd, *TASK.candidates[1:])})
    with mock.patch.dict(SIGNALS, {(known.kind, odd): known, (user.kind, odd): user}):
        record, llm = await run(Curious((1, 1, 1)), agents=Agents(), sampling=sampling, task=task)
    asked = [offered(request) for request in llm.requests if kind_of(request) == "calls"]
    assert asked
    assert not any(odd in option for options in asked for option in options)
    assert record.left_out == 2
    builder = StatisticsBuilder()
    builder.add(record)
    counted = builder.build()
    assert counted.metrics()["lookUpsLeftOut"] == 2
    assert [warning.reason for warning in collect.warnings_of(counted)] == ["LookUpsLeftOut"]


async def test_every_turn_has_a_seed_of_its_own() -> None:
    _, llm = await run(Curious((1,) * EVERYTHING, reflect=[PROBLEM]), agents=Agents(), sampling=FULL)
    seeds = [request["seed"] for request in llm.requests]
    assert len(set(seeds)) == len(seeds), json.dumps(seeds)
