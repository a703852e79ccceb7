"""Tool calls: the one syntax, and what is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.data import SignalKind
from star_jobs.trajectory.text import clean, shorten
from star_jobs.trajectory.tools import (
    MALFORMED,
    NO_SIGNAL,
    ToolBox,
    ToolCall,
    ToolCallError,
    open_call,
    parse_tool_call,
)
from tests.unit.star_jobs.trajectory.samples import ITEMS, Store

keys = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters='"\\<>'), min_size=1, max_size=40
)


@pytest.fixture
def toolbox() -> ToolBox:
    return ToolBox(Store(), ITEMS)


@given(st.sampled_from(SignalKind), keys)
def test_a_call_is_read_back(tool: SignalKind, key: str) -> None:
    call = ToolCall(tool, key)
    assert parse_tool_call(call.render()) == call
    assert parse_tool_call(f" {call.render()}\n") == call


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text",
    [
        "",
        "Item-CF",
        "Item-CF(7)",
        "Item-CF('7')",
        'Item-CF("")',
        'Item-CF("7", "8")',
        'item-cf("7")',
        'Item-CF("7") User-CF("u")',
        'Search("7")',
        '{"name": "ItemCF", "arguments": {"item_id": "7"}}',
        f'Item-CF("{"7" * 201}")',
    ],
)
def test_anything_else_is_malformed(text: str, toolbox: ToolBox) -> None:
    with pytest.raises(ToolCallError, match="expected Item-CF"):
        parse_tool_call(text)
    assert toolbox.respond(text) == f" <tool_response>{MALFORMED}</tool_response>\n"


def test_a_key_that_cannot_be_written() -> None:
    with pytest.raises(ToolCallError, match="cannot be written"):
        ToolCall(SignalKind.ITEM_CF, 'a"b').render()


def test_answers_from_the_store(toolbox: ToolBox) -> None:
    answer = toolbox.answer(ToolCall(SignalKind.ITEM_CF, "7"))
    assert "War epics" in answer
    assert toolbox.respond('Item-CF("7")') == f" <tool_response>{answer}</tool_response>\n"


def test_a_key_without_a_signal_is_answered_clearly(toolbox: ToolBox) -> None:
    assert toolbox.answer(ToolCall(SignalKind.USER_CF, "nobody")) == NO_SIGNAL


@given(st.integers(8, 60))
def test_answers_are_bounded(limit: int) -> None:
    assert len(ToolBox(Store(), ITEMS).answer(ToolCall(SignalKind.ITEM_CF, "7"), limit)) <= limit


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ('<plan></plan><tool_call>Item-CF("7")', 'Item-CF("7")'),
        ('<tool_call>Item-CF("7")</tool_call>', 'Item-CF("7")'),
        ('<tool_call>Item-CF("7")</tool_call><tool_response>x</tool_response>', None),
        ("nothing", None),
        ("<tool_call>a</tool_call><tool_response>x</tool_response><tool_call>b", "b"),
    ],
)
def test_the_open_call_at_the_end(text: str, body: str | None) -> None:
    assert open_call(text) == body


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(), st.integers(0, 30))
def test_shortened_text_fits(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit


@pytest.mark.case("odd-ids")
def test_a_key_that_cannot_be_written_says_so() -> None:
    for key in ('reader "1"', "sku<5>", "shop\\6", "x" * 230):
        call = ToolCall(SignalKind.ITEM_CF, key)
        assert not call.can_be_written
        with pytest.raises(ToolCallError):
            call.render()
    assert ToolCall(SignalKind.ITEM_CF, "día 🙂 'x'").can_be_written


@pytest.mark.fuzz
@given(st.text(st.characters()))
def test_whatever_a_student_asks_is_answered(body: str) -> None:
    response = ToolBox(Store(), ITEMS).respond(body)
    assert response.encode()
    assert clean(clean(body)) == clean(body)
    assert clean(body).encode() is not None
