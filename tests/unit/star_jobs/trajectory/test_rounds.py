"""Several rounds of look-ups in one section, also in `<recommend>`, as in the paper's example (F.3)."""

import pytest

from star_contracts.data import AgentStep, SignalKind, ToolExchange, Trajectory
from star_contracts.settings import Rewards, Sampling, Variant
from star_jobs.llm.client import LLMClient
from star_jobs.trajectory.format import parse, render, serialize
from star_jobs.trajectory.prompt import shown
from star_jobs.trajectory.reward import reward
from star_jobs.trajectory.student import answer
from star_jobs.trajectory.tools import ToolBox, ToolCall
from tests.support.fakellm import fake_llm
from tests.unit.star_jobs.trajectory.samples import CANDIDATES, ITEMS, RUN, TASK, Store

TOOLBOX = ToolBox(Store(), ITEMS)


def looked_up(tool: SignalKind, argument: str, thinking: str = "") -> ToolExchange:
    response = TOOLBOX.answer(ToolCall(tool, argument))
    return ToolExchange(tool=tool, argument=argument, response=response, thinking=thinking)


def with_rounds(step: AgentStep) -> AgentStep:
    """The step after a round of one look-up and a round of two."""
    tools = (
        looked_up(SignalKind.USER_CF, "u9", "what do people like them watch?"),
        looked_up(SignalKind.ITEM_CF, "7", "and who likes these?"),
        looked_up(SignalKind.ITEM_CF, "3"),
    )
    return step.model_copy(update={"tools": tools, "thinking": "war films it is"})


def run(*agents: str) -> Trajectory:
    steps = tuple(with_rounds(step) if step.agent in agents else step for step in RUN.steps)
    return RUN.model_copy(update={"steps": steps})


BOTH = run("user_profile", "recommend")
ROUNDS = f"""\
<Thinking>what do people like them watch?</Thinking>\
<tool_call>User-CF("u9")</tool_call> <tool_response>no signal</tool_response>
<Thinking>and who likes these?</Thinking>\
<tool_call>Item-CF("7")</tool_call> <tool_response>{TOOLBOX.answer(ToolCall(SignalKind.ITEM_CF, "7"))}</tool_response>
<tool_call>Item-CF("3")</tool_call> <tool_response>no signal</tool_response>
<Thinking>war films it is</Thinking>"""


def text_of(trajectory: Trajectory, variant: Variant = Variant.FULL) -> str:
    return "".join(segment.text for segment in serialize(trajectory, variant))


@pytest.mark.parametrize(
    ("agent", "payload"), [("user_profile", '["likes war films"]'), ("recommend", '["7","3","12","30","21"]')]
)
def test_a_section_holds_its_rounds_in_order(agent: str, payload: str) -> None:
    text = text_of(run(agent))
    assert text[text.index(f"<{agent}>") :].startswith(f"<{agent}>{ROUNDS}<JSON>{payload}</JSON></{agent}>")


def test_a_student_learns_the_reasoning_and_calls_of_every_round_and_no_answer() -> None:
    segments = serialize(BOTH)
    assert [segment.text.count("tool_response") for segment in segments if not segment.trainable] == [2] * 6
    learnt = "".join(segment.text for segment in segments if segment.trainable)
    assert "tool_response" not in learnt
    assert learnt.count("and who likes these?") == 2


@pytest.mark.parametrize("variant", list(Variant))
def test_rounds_are_read_back(variant: Variant) -> None:
    assert render(parse(text_of(BOTH, variant), variant).sections) == serialize(BOTH, variant)


def test_without_tools_the_reasoning_that_led_to_look_ups_goes_with_them() -> None:
    text = text_of(BOTH, Variant.WITHOUT_TOOLS)
    assert "tool_" not in text
    assert "who likes these" not in text
    assert text.count("<Thinking>war films it is</Thinking>") == 2


def test_look_ups_in_the_recommendation_are_good_form_and_hide_no_hit() -> None:
    judged = reward(text_of(BOTH), CANDIDATES[0], Rewards())
    assert (judged.format, judged.outcome) == (1.0, 1.0)
    assert len(parse(text_of(BOTH)).calls) == 6


async def test_an_answer_with_rounds_equals_what_is_trained_on() -> None:
    """The student that writes what it was trained to is interrupted at each call, in `<recommend>` too."""
    turns = iter(
        segment.text.removesuffix("</tool_call>").removesuffix("</recommend>")
        for segment in serialize(BOTH)
        if segment.trainable
    )
    with fake_llm(lambda request: next(turns)) as llm:
        async with LLMClient(llm.endpoint()) as client:
            result = await answer(client, shown(TASK, None), ITEMS, TOOLBOX, Sampling(max_tokens=400))
    assert result.text == text_of(BOTH)
    assert (result.ranking, result.valid, result.format_error) == (CANDIDATES, True, None)
    assert len(result.tool_calls) == 6
