"""Rate limits, prices and the token budget: from the resource to the job, without changing what the work is."""

from star_contracts.job import GenerateTrajectories
from star_contracts.limits import RateLimits, TokenPrices
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import teacherrun
from star_operator.builders.step import Inputs, Step
from tests.support.goldens import ARTIFACTS, settings

LLM = {"endpoint": {"url": "https://llm.example.com/v1", "model": "m"}}


def generate(llm: dict[str, object] | None = None, **spec: object) -> Step:
    resource = TeacherRun.model_validate(
        {
            "apiVersion": "star.recsys.dev/v1alpha1",
            "kind": "TeacherRun",
            "metadata": {"name": "t", "namespace": "ns", "uid": "u"},
            "spec": {"dataset": {"name": "d"}, "agents": {"tools": False}, "llm": LLM | (llm or {}), **spec},
        }
    )
    inputs = Inputs({"dataset": ARTIFACTS["dataset"]}, {})
    return teacherrun.plan("generate", resource, inputs, {}, settings())


def test_limits_reach_the_workers() -> None:
    step = generate(
        {"rateLimits": {"requestsPerMinute": 60}, "prices": {"promptPerMillion": 0.5}},
        tokenBudget=1000,
        agentLlms={"planner": LLM | {"rateLimits": {"tokensPerMinute": 9}}},
    )
    stage = step.stage
    assert isinstance(stage, GenerateTrajectories)
    assert stage.token_budget == 1000
    assert stage.llm.rate_limits == RateLimits(requests_per_minute=60)
    assert stage.llm.prices == TokenPrices(prompt_per_million=0.5)
    assert stage.agent_llms["planner"].rate_limits == RateLimits(tokens_per_minute=9)
    assert stage.agent_llms["planner"].prices is None


def test_limits_do_not_change_the_work_so_a_larger_budget_goes_on_where_a_smaller_ended() -> None:
    plain = generate()
    limited = generate({"rateLimits": {"requestsPerMinute": 60}, "prices": {"promptPerMillion": 1}}, tokenBudget=1000)
    assert plain.work_hash == limited.work_hash == generate(tokenBudget=2000).work_hash
    assert plain.work_area == limited.work_area
    assert plain.work_hash != generate(passes=2).work_hash
