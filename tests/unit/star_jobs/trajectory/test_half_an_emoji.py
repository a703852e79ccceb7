"""A student's answer may spell in JSON what no file can hold: it is a poor answer, not the end of a run."""

import pytest

from star_contracts.settings import Rewards, Variant
from star_jobs.evaluate.agents import last_list
from star_jobs.trajectory.format import FormatError, parse, recommended
from star_jobs.trajectory.reward import reward

HALF = '<recommend><JSON>["i1\\ud83d","i2"]</JSON></recommend>'
DEEP = "<recommend><JSON>" + "[" * 100_000 + "</JSON></recommend>"


@pytest.mark.bad_input
@pytest.mark.parametrize("text", [HALF, DEEP], ids=["half an emoji", "deep"])
def test_an_answer_that_cannot_be_written_is_malformed(text: str) -> None:
    assert recommended(text) == ()
    with pytest.raises(FormatError):
        parse(text, Variant.FULL)
    assert reward(text, "i2", Rewards()).outcome == 0


@pytest.mark.bad_input
def test_a_single_agents_list_can_be_written() -> None:
    assert last_list('I rank ["i1\\ud83d", "i2"]') == ("i1?", "i2")
