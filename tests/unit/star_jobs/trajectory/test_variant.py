"""Students of the ablations: the same prompt but for tools, each judged by the phases it was trained to write."""

import pytest

from star_contracts.settings import Rewards, Variant
from star_jobs.trajectory.format import serialize
from star_jobs.trajectory.phases import student_variant
from star_jobs.trajectory.reward import format_reward
from tests.unit.star_jobs.trajectory.samples import RUN

RANKING = (Variant.FULL, Variant.WITHOUT_TOOLS, Variant.WITHOUT_PLANNER, Variant.WITHOUT_REFLECTOR)


@pytest.mark.parametrize("variant", Variant)
def test_a_student_is_what_it_was_trained_as_while_it_has_its_tools(variant: Variant) -> None:
    assert student_variant(variant, tools=True) is variant


@pytest.mark.parametrize("variant", RANKING)
def test_without_tools_every_student_that_ranks_is_one_without_tools(variant: Variant) -> None:
    assert student_variant(variant, tools=False) is Variant.WITHOUT_TOOLS


def test_a_planner_never_has_tools() -> None:
    assert student_variant(Variant.PLANNER_ONLY, tools=False) is Variant.PLANNER_ONLY


@pytest.mark.parametrize("trained", [Variant.WITHOUT_PLANNER, Variant.WITHOUT_REFLECTOR, Variant.PLANNER_ONLY])
def test_the_format_reward_asks_for_the_phases_of_the_variant(trained: Variant) -> None:
    answer = "".join(segment.text for segment in serialize(RUN, trained))
    assert format_reward(answer, Rewards(), trained) == 1
    assert format_reward(answer, Rewards(), Variant.FULL) == -1
