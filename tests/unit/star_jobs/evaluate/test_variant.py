"""Ablated students are measured as what they were trained to write (paper Table 2)."""

import pytest

from star_contracts.settings import Variant
from tests.support import world
from tests.support.fakellm import Request, fake_llm
from tests.unit.star_jobs.evaluate.conftest import SETTINGS, Stage


def without_plan(request: Request) -> str:
    """The scripted student, trained without a planner."""
    return world.scripted_student()(request).replace('<plan><JSON>["user_profile"]</JSON></plan>\n', "")


@pytest.mark.parametrize(("variant", "well_formed"), [(Variant.WITHOUT_PLANNER, 1.0), (Variant.FULL, 0.0)])
def test_well_formed_is_what_the_variant_says(stage: Stage, variant: Variant, well_formed: float) -> None:
    with fake_llm(without_plan) as server:
        _, result = stage.run(server.endpoint(), SETTINGS.model_copy(update={"variant": variant}))
    assert (result.metrics["wellFormed"], result.metrics["valid"]) == (well_formed, 1)
