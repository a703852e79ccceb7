"""The agents' prompts ask for what the paper's ask for (appendices E and F.1); the words are ours."""

import pytest

from star_jobs.teacher.templates import render
from star_jobs.trajectory.format import ANALYSTS

ESSENTIALS = {
    "planner": (*ANALYSTS, "order"),
    "user_profile": ("personal traits", "choices imply", "guess"),
    "historical_analysis": ("whole history", "exceptions"),
    "recent_analysis": ("latest part", "new"),
    "interest_divergence": ("association", "occasion", "same taste"),
    "reflection": ("consistency", "rationality", "completeness", "suggestion"),
    "recommend": ("all candidates", "Balance", "stable", "recent", "exactly once", "best first"),
}


@pytest.mark.parametrize("agent", ESSENTIALS)
def test_a_prompt_has_what_the_papers_has(agent: str) -> None:
    text = render(agent, brief=False)
    assert [words for words in ESSENTIALS[agent] if words not in text] == []


def test_look_ups_are_chosen_in_view_of_what_is_known() -> None:
    """In F.3's example an agent reasons before every call."""
    text = render("tools", brief=False, title="ranking")
    assert [words for words in ("for the ranking", "`thinking`", "know so far", "missing") if words not in text] == []


@pytest.mark.parametrize("agent", [agent for agent in ESSENTIALS if agent != "planner"])
def test_there_is_room_to_reason_before_the_answer(agent: str) -> None:
    assert "`thinking`" in render(agent, brief=False)


def test_a_revision_shows_the_last_answer_and_the_reflectors_suggestion() -> None:
    text = render("revision", brief=False, previous=["graphic novels"], suggestion="stay with picture books")
    assert "graphic novels" in text
    assert "stay with picture books" in text
