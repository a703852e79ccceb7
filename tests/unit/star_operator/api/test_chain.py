"""Templates of a pipeline's stages: their kinds' own specs, without what the pipeline fills in."""

import pytest

from star_contracts.base import Model
from star_operator.api import chain
from star_operator.api.chain import INFO, STAGES, StageInfo, StageName, pipeline_rules, template_model
from star_operator.api.meta import CEL, RULES
from star_operator.api.schema import structural

every_stage = pytest.mark.parametrize("stage", STAGES)


@every_stage
def test_a_template_has_the_kinds_own_fields_and_no_wired_one(stage: StageName) -> None:
    of_template, of_kind = structural(template_model(stage)), structural(INFO[stage].spec)
    left_out = {*INFO[stage].wired, "suspend"}
    assert set(of_template["properties"]) == set(of_kind["properties"]) - left_out | set(INFO[stage].added)
    shared = of_kind["properties"].keys() - left_out
    assert all(of_template["properties"][name] == of_kind["properties"][name] for name in shared)


@every_stage
def test_no_rule_of_a_kind_is_lost(stage: StageName) -> None:
    lifted = {message.removeprefix(f"{stage}.template: ") for _, message in pipeline_rules(stage)}
    kept = {rule["message"] for rule in structural(template_model(stage)).get(RULES, ())}
    always = {  # the pipeline always gives llm
        "give llm (the model to measure), or at least one of settings.baselines",
        "against compares the measured model with another; give llm (the model), or leave against out",
        "beside compares the measured model with others; give llm (the model), or leave beside out",
    }
    of_kind = {rule["message"] for rule in structural(INFO[stage].spec).get(RULES, ())}
    assert of_kind - kept - lifted == (always if stage is StageName.EVALUATION else set())


def test_a_rule_that_reads_a_wired_field_is_not_dropped_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec(Model):
        """A spec."""

        model_config = CEL(("self.dataset.name != 'x'", "not x")).config()
        dataset: str = ""

    monkeypatch.setitem(chain.INFO, StageName.TEACHER, StageInfo("TeacherRun", Spec, ("dataset",)))
    with pytest.raises(ValueError, match="reads what the pipeline wires"):
        template_model(StageName.TEACHER)
