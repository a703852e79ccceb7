"""One answer of the student against a scripted server: stop at a call, look it up, go on."""

import json
from collections.abc import Sequence

import pytest

from star_contracts.data import SignalKind, ToolExchange
from star_contracts.settings import Sampling
from star_jobs.llm.client import LLMClient
from star_jobs.trajectory.format import serialize
from star_jobs.trajectory.prompt import shown
from star_jobs.trajectory.student import StudentAnswer, answer
from star_jobs.trajectory.tools import CALLS_USED_UP, MALFORMED, ToolBox, ToolCall
from tests.support.fakellm import Answer, Request, fake_llm
from tests.unit.star_jobs.trajectory.samples import CANDIDATES, ITEMS, RUN, TASK, Store

PLAN = '<plan><JSON>["user_profile"]</JSON></plan>\n<user_profile>'
REST = '<JSON>["a"]</JSON></user_profile>\n<reflection><JSON>{"correct":"yes"}</JSON></reflection>\n'
CALL = '<tool_call>Item-CF("7")'
SAMPLING = Sampling(max_tokens=200)


def ranking(ids: Sequence[str] = CANDIDATES) -> str:
    return f"<recommend><JSON>{json.dumps(list(ids))}</JSON>"


async def ask(
    turns: Sequence[str | Answer], *, tools: bool = True, max_tool_calls: int = 8, sampling: Sampling = SAMPLING
) -> tuple[StudentAnswer, list[Request]]:
    script = iter(turns)
    with fake_llm(lambda request: next(script)) as llm:
        async with LLMClient(llm.endpoint()) as client:
            toolbox = ToolBox(Store(), ITEMS) if tools else None
            return await answer(client, shown(TASK, None), ITEMS, toolbox, sampling, max_tool_calls), llm.requests


async def test_a_call_is_answered_inside_the_same_generation() -> None:
    result, requests = await ask([PLAN + CALL, REST + ranking()])
    response = ToolBox(Store(), ITEMS).respond('Item-CF("7")')
    so_far = f"{PLAN}{CALL}</tool_call>{response}"
    assert requests[0]["stop"] == ["</tool_call>", "</recommend>"]
    assert "continue_final_message" not in requests[0]
    assert requests[1]["messages"][-1] == {"role": "assistant", "content": so_far}
    assert requests[1]["continue_final_message"] is True
    assert result.text == f"{so_far}{REST}{ranking()}</recommend>"
    assert (result.ranking, result.valid, result.format_error) == (CANDIDATES, True, None)
    assert [(e.tool, e.argument) for e in result.tool_calls] == [(SignalKind.ITEM_CF, "7")]
    assert result.usage.calls == 2


async def test_an_answer_equals_what_is_trained_on() -> None:
    """A student that repeats its training text byte for byte is fed the very tool answer it was trained with."""
    response = ToolBox(Store(), ITEMS).answer(ToolCall(SignalKind.ITEM_CF, "7"))
    looked_up = ToolExchange(tool=SignalKind.ITEM_CF, argument="7", response=response)
    steps = (RUN.steps[0], RUN.steps[1].model_copy(update={"tools": (looked_up,)}), *RUN.steps[2:])
    trained = serialize(RUN.model_copy(update={"steps": steps}))
    turns = [
        segment.text.removesuffix("</tool_call>").removesuffix("</recommend>")
        for segment in trained
        if segment.trainable
    ]
    result, _ = await ask(turns)
    assert result.text == "".join(segment.text for segment in trained)


async def test_calls_are_answered_inside_the_recommendation_too() -> None:
    """Here two stop strings are at work: the generation ends at the call, and at last at the section that holds it."""
    opened = f"{PLAN}{REST}<recommend>{CALL}"
    result, _ = await ask([opened, ranking().removeprefix("<recommend>")])
    response = ToolBox(Store(), ITEMS).respond('Item-CF("7")')
    assert result.text == f"{opened}</tool_call>{response}{ranking().removeprefix('<recommend>')}</recommend>"
    assert (result.ranking, result.valid, result.format_error) == (CANDIDATES, True, None)
    assert len(result.tool_calls) == 1


async def test_tokens_of_all_turns_count_against_the_budget() -> None:
    _, requests = await ask([PLAN + CALL, REST + ranking()], sampling=Sampling(max_tokens=50))
    spent = len((PLAN + CALL).split())
    assert [request["max_tokens"] for request in requests] == [50, 50 - spent]


async def test_a_cut_answer_is_left_as_it_is() -> None:
    result, requests = await ask([Answer(PLAN + CALL, finish_reason="length")])
    assert len(requests) == 1
    assert (result.text, result.ranking, result.valid) == (PLAN + CALL, (), False)
    assert result.format_error is not None


async def test_a_malformed_call_is_told_so() -> None:
    result, _ = await ask([f"{PLAN}<tool_call>ItemCF(7)", REST + ranking()])
    assert f"<tool_response>{MALFORMED}</tool_response>" in result.text
    assert result.tool_calls == ()
    assert result.valid
    assert "expected Item-CF" in (result.format_error or "")


async def test_calls_run_out() -> None:
    result, requests = await ask([PLAN + CALL, CALL, CALL, REST + ranking()], max_tool_calls=2)
    assert len(requests) == 4
    assert len(result.tool_calls) == 2
    assert result.text.count(CALLS_USED_UP) == 1


async def test_without_a_toolbox_nothing_stops_at_a_call() -> None:
    result, requests = await ask([PLAN + REST + ranking()], tools=False)
    assert requests[0]["stop"] == ["</recommend>"]
    assert "Item-CF" not in requests[0]["messages"][0]["content"]
    assert result.format_error is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "ids", [("7", "7", "3", "12", "30"), ("7", "3"), ("7", "3", "12", "30", "99"), (*CANDIDATES, "99")]
)
async def test_an_invalid_ranking_is_reported_and_not_repaired(ids: tuple[str, ...]) -> None:
    result, _ = await ask([PLAN + REST + ranking(ids)])
    assert result.ranking == ids
    assert not result.valid


@pytest.mark.bad_input
async def test_garbage_has_no_ranking() -> None:
    result, _ = await ask(["I would watch film 7."])
    assert (result.ranking, result.valid) == ((), False)
    assert result.format_error == (
        "at character 0: expected a section such as <plan> or <recommend>, found 'I would watch film 7.'"
    )
