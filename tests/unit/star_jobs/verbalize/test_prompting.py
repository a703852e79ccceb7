"""Signals in words: categories with a summary and at most five representative ids (paper 3.3, F.2)."""

import json
from typing import Any

from star_contracts.data import SignalKind
from star_contracts.settings import Sampling
from star_jobs.verbalize.prompting import Prompter
from star_jobs.verbalize.worklist import Entry
from tests.support import world

ITEMS = {item.item_id: item for item in world.ITEMS}
ENTRY = Entry(SignalKind.ITEM_CF, "i0", tuple(f"i{n}" for n in range(1, 10)))
PROMPTER = Prompter(ITEMS, Sampling(max_tokens=1024), "model")


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
