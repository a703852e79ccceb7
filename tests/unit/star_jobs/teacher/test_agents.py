"""What agents are asked for and how their answers are read."""

import contextlib
import random
from collections.abc import Callable
from math import factorial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.data import Item, SignalKind
from star_jobs.teacher import agents
from star_jobs.teacher.agents import InvalidOutput
from star_jobs.trajectory.format import ANALYSTS, render_json
from star_jobs.trajectory.tools import ToolCall
from tests.support.fakellm import draw
from tests.support.world import tasks

IDS = ("i5", "i6", "i7", "i8", "i9")
MANY = tuple(f"i{n}" for n in range(20))
OPTIONS = agents.call_options(tasks(1)[0], 6)


@pytest.mark.parametrize("brief", [True, False])
def test_a_plan_is_one_of_all_orders(brief: bool) -> None:
    schema = agents.plan_schema(brief)
    assert len(schema["properties"]["agents"]["enum"]) == 4 + 12 + 24 + 24
    assert ("thinking" in schema["properties"]) is not brief
    assert agents.read_plan({"agents": "recent_analysis > user_profile"}) == ["recent_analysis", "user_profile"]


def test_few_candidates_are_ranked_by_one_choice_of_all_orders() -> None:
    schema = agents.ranking_schema(IDS, brief=True)
    assert len(schema["properties"]["ranking"]["enum"]) == factorial(5)


def test_many_candidates_are_ranked_place_by_place() -> None:
    places = agents.ranking_schema(MANY, brief=True)["properties"]["ranking"]
    assert (places["minItems"], places["maxItems"], places["items"]["enum"]) == (20, 20, list(MANY))


def test_ids_with_the_separator_are_never_joined() -> None:
    assert agents.ranking_schema(("a > b", "c"), brief=True)["properties"]["ranking"]["type"] == "array"


@given(st.integers(), st.booleans(), st.sampled_from([IDS, MANY]))
def test_whatever_a_schema_allows_can_be_read(seed: int, brief: bool, candidates: tuple[str, ...]) -> None:
    rng = random.Random(seed)
    assert set(agents.read_plan(draw(agents.plan_schema(brief), rng))) <= set(ANALYSTS)
    assert agents.read_analysis(draw(agents.analysis_schema(brief), rng))
    calls = agents.read_calls(draw(agents.calls_schema(OPTIONS, 3), rng), OPTIONS, 3)
    assert len(set(calls)) == len(calls) <= 3
    assert set(agents.read_reflection(draw(agents.reflection_schema(ANALYSTS, brief), rng), ANALYSTS)) <= set(ANALYSTS)
    ranked = agents.read_ranking(draw(agents.ranking_schema(candidates, brief), rng), candidates, seed)
    assert sorted(ranked.ranking) == sorted(candidates)


def test_options_are_the_user_the_latest_items_and_the_candidates() -> None:
    assert OPTIONS[0] == ToolCall(SignalKind.USER_CF, "u1")
    assert [call.argument for call in OPTIONS[1:]] == ["i2", "i1", "i0", *IDS]


def test_tastes_are_the_categories_at_hand_the_most_frequent_first() -> None:
    task = tasks(1)[0]
    films = {"i0": ("War", "Drama"), "i1": ("Drama",), "i5": ("<plan>",)}
    items = {name: Item(item_id=name, title=name, categories=kinds) for name, kinds in films.items()}
    assert agents.tastes(task, items) == ["Drama", "< plan>", "War"]
    assert agents.tastes(task, {}) == []


def test_without_categories_brief_conclusions_are_short() -> None:
    asked = agents.analysis_schema(True)["properties"]["conclusions"]
    assert asked == {"type": "string", "minLength": 2, "maxLength": 48}


def test_brief_conclusions_are_one_or_two_tastes_in_order() -> None:
    asked = agents.analysis_schema(True, ["War", "Drama", "Film-Noir"])["properties"]["conclusions"]
    assert len(asked["enum"]) == 3 + 6
    assert agents.read_analysis({"conclusions": "Drama; War"}) == ["Drama", "War"]


def test_a_taste_that_would_be_cut_in_two_is_no_choice() -> None:
    items = {"i0": Item(item_id="i0", title="i0", categories=("Arts; Crafts", "Drama"))}
    assert agents.tastes(tasks(1)[0], items) == ["Drama"]


def test_a_brief_reflection_names_one_analyst_or_none() -> None:
    asked = agents.reflection_schema(("user_profile", "recent_analysis"), True)["properties"]["problematic_agent"]
    assert len(asked["enum"]) == 1 + 2 * len(agents.SUGGESTIONS)
    for choice in asked["enum"]:
        named = agents.read_reflection({"problematic_agent": choice}, ANALYSTS)
        assert (len(named) == 0) == (choice == "none")
    assert agents.read_reflection({"problematic_agent": "user_profile: be more specific"}, ANALYSTS) == {
        "user_profile": "be more specific"
    }


def test_one_look_up_or_none() -> None:
    asked = agents.calls_schema(OPTIONS, 1)["properties"]["calls"]
    assert asked["enum"][-1] == "none"
    assert agents.read_calls({"calls": "none"}, OPTIONS, 1) == []
    assert agents.read_calls({"calls": 'User-CF("u1")'}, OPTIONS, 1) == [OPTIONS[0]]


def test_ids_written_as_numbers_are_ids() -> None:
    assert agents.read_ranking({"ranking": [7, "9"]}, ("9", "7"), 1) == agents.Ranked(("7", "9"), repaired=False)


def test_a_whole_ranking_is_not_repaired() -> None:
    ranked = agents.read_ranking({"ranking": "i9 > i8 > i7 > i6 > i5"}, IDS, 1)
    assert ranked == agents.Ranked(("i9", "i8", "i7", "i6", "i5"), repaired=False)


def test_a_repaired_ranking_keeps_the_models_order_and_says_so() -> None:
    ranked = agents.read_ranking({"ranking": ["i9", "i9", "x", "i5"]}, IDS, 1)
    assert ranked.ranking[:2] == ("i9", "i5")
    assert sorted(ranked.ranking) == sorted(IDS)
    assert ranked.repaired
    assert ranked == agents.read_ranking({"ranking": ["i9", "x", "i5", "i5"]}, tuple(reversed(IDS)), 1)


def test_missing_candidates_do_not_follow_in_the_order_of_the_prompt() -> None:
    tails = {agents.read_ranking({"ranking": ["i0"]}, MANY, seed).ranking[1] for seed in range(50)}
    assert len(tails) > 5


def test_reflection_in_the_papers_form() -> None:
    assert agents.reflection_payload({}) == {"correct": "yes"}
    assert agents.reflection_payload({"user_profile": "more"}) == {
        "correct": "no",
        "problematic_agent": [{"agent_name": "user_profile", "suggestion": "more"}],
    }


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("reader", "answer"),
    [
        (agents.read_plan, {}),
        (agents.read_plan, {"agents": 3}),
        (agents.read_plan, {"agents": "planner"}),
        (agents.read_analysis, {"conclusions": ""}),
        (agents.read_analysis, {"conclusions": []}),
        (agents.read_analysis, {"conclusions": [" "]}),
        (agents.read_analysis, {"conclusions": [1.5]}),
        (agents.read_analysis, {"conclusions": [True]}),
        (lambda answer: agents.read_calls(answer, OPTIONS, 3), {"calls": ["search(7)"]}),
        (lambda answer: agents.read_calls(answer, OPTIONS, 3), {"calls": None}),
        (lambda answer: agents.read_reflection(answer, ANALYSTS), {"problematic_agent": "nobody"}),
        (lambda answer: agents.read_reflection(answer, ANALYSTS), {"problematic_agent": None}),
        (lambda answer: agents.read_reflection(answer, ANALYSTS), {"problematic_agent": [{"agent_name": "planner"}]}),
        (lambda answer: agents.read_reflection(answer, ANALYSTS), {"problematic_agent": ["user_profile"]}),
        (lambda answer: agents.read_ranking(answer, IDS, 1), {"ranking": ["x", "y"]}),
        (lambda answer: agents.read_ranking(answer, IDS, 1), {"ranking": {}}),
        (lambda answer: agents.read_ranking(answer, IDS, 1), {"rank": "i5"}),
    ],
)
def test_an_answer_beside_the_point_is_invalid(reader: Any, answer: dict[str, Any]) -> None:
    with pytest.raises(InvalidOutput):
        reader(answer)


FIELDS = ["agents", "calls", "conclusions", "problematic_agent", "ranking", "thinking", "agent_name", "suggestion"]
SAID = [*ANALYSTS, "none", "i1", "\ud83d", 'Item-CF("i1")', 'Item-CF("a\\"b")', "user_profile: weigh the ratings"]
model_output = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(SAID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(FIELDS), model_output, max_size=4))
def test_whatever_a_model_answers_is_read_or_invalid(answer: dict[str, Any]) -> None:
    options = [ToolCall(SignalKind.ITEM_CF, "i1"), ToolCall(SignalKind.USER_CF, "u1")]
    readers: list[Callable[[], object]] = [
        lambda: agents.read_plan(answer),
        lambda: [call.render() for call in agents.read_calls(answer, options, 2)],
        lambda: agents.read_analysis(answer),
        lambda: agents.reflection_payload(agents.read_reflection(answer, ANALYSTS)),
        lambda: agents.read_ranking(answer, ("i1", "i2", 'odd "3"'), 1).ranking,
        lambda: agents.text_of(answer.get("thinking")),
    ]
    for read in readers:
        with contextlib.suppress(InvalidOutput):
            render_json(read()).encode()
