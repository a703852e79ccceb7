"""Signals in words: categories with a summary and at most five representative ids (paper 3.3, F.2)."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from star_contracts.data import Item, Signal, SignalKind
from star_contracts.settings import Sampling
from star_jobs.verbalize.prompting import Prompter, UnusableAnswer
from star_jobs.verbalize.worklist import Entry
from tests.support import world

ITEMS = {item.item_id: item for item in world.ITEMS}
ENTRY = Entry(SignalKind.ITEM_CF, "i0", tuple(f"i{n}" for n in range(1, 10)))
PROMPTER = Prompter(ITEMS, Sampling(max_tokens=1024), "model")
_FIELDS = ["thinking", "categories", "name", "summary", "items"]


def test_a_category_names_at_most_five_of_the_neighbours() -> None:
    items: dict[str, Any] = PROMPTER.schema(ENTRY)["properties"]["categories"]["items"]["properties"]["items"]
    assert items["maxItems"] == 5
    assert items["items"]["enum"] == list(range(1, 10))
    greedy = {"name": "Drama", "summary": "quiet films", "items": [1, 2, 3, 4, 5, 6, 7, 40]}
    [category] = PROMPTER.read(ENTRY, json.dumps({"thinking": "", "categories": [greedy]}))
    assert category.representative_items == ("i1", "i2", "i3", "i4", "i5"), "whatever a model without schemas writes"


def test_the_question_shows_target_and_neighbours_and_asks_for_reasons_first() -> None:
    [message] = PROMPTER.messages(ENTRY)
    assert "Film 0" in message["content"]
    assert all(f"Film {n}" in message["content"] for n in range(1, 10))
    assert next(iter(PROMPTER.schema(ENTRY)["properties"])) == "thinking"


def test_a_users_question_asks_which_preference_each_group_suggests() -> None:
    [message] = PROMPTER.messages(Entry(SignalKind.USER_CF, "u1", ("i1", "i2")))
    assert "which preference of the user it suggests" in message["content"]


@pytest.mark.case("odd-ids")
@pytest.mark.parametrize("odd", ['reader "1"', "sku<5>", "shop\\6", "x" * 230])
def test_an_odd_id_is_asked_about_like_any_other(odd: str) -> None:
    prompter = Prompter({**ITEMS, odd: Item(item_id=odd, title="Odd")}, Sampling(max_tokens=1024), "model")
    for entry in (Entry(SignalKind.ITEM_CF, odd, ("i1", odd)), Entry(SignalKind.USER_CF, odd, (odd, "i1"))):
        [message] = prompter.messages(entry)
        assert "Odd" in message["content"]
        answer = {"thinking": "", "categories": [{"name": "Drama", "summary": "films", "items": [1, 2]}]}
        [category] = prompter.read(entry, json.dumps(answer))
        assert category.representative_items == entry.neighbours


model_output = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.fuzz
@example("[" * 100_000)
@example('{"thinking": "", "categories": [{"name": "\\ud83d\\ud83d", "summary": "\\ud83dxx", "items": [1]}]}')
@given(model_output.map(json.dumps) | st.text(max_size=30))
def test_whatever_a_model_answers_is_a_signal_or_unusable(text: str) -> None:
    for prompter in (PROMPTER, Prompter(ITEMS, Sampling(max_tokens=64), "model")):
        try:
            categories = prompter.read(ENTRY, text)
        except UnusableAnswer:
            continue
        Signal(kind=ENTRY.kind, key=ENTRY.key, categories=categories).model_dump_json()
