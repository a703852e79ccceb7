from star_operator.api.stardeployment import Comparison, GateRule
from star_operator.policy.gates import judge


def test_all_rules_must_hold_and_the_message_shows_measured_against_required() -> None:
    rules = (GateRule(metric="hrAvg", value=0.5), GateRule(metric="hrAvg", baseline="random.hrAvg"))
    good = judge(rules, {"hrAvg": 0.6, "random.hrAvg": 0.2})
    assert good.passed
    bad = judge(rules, {"hrAvg": 0.3, "random.hrAvg": 0.2})
    assert not bad.passed
    assert bad.message == "hrAvg measured 0.3, required >= 0.5"


def test_a_figure_that_was_not_measured_fails_its_rule() -> None:
    verdict = judge((GateRule(metric="latencyP95", comparison=Comparison.AT_MOST, value=2.0),), {"hrAvg": 1.0})
    assert not verdict.passed
    assert verdict.message == "latencyP95 is not in the evaluation's report (it has hrAvg)"


def test_at_most() -> None:
    rule = GateRule(metric="latencyP95", comparison=Comparison.AT_MOST, value=2.0)
    assert judge((rule,), {"latencyP95": 2.0}).passed
    assert not judge((rule,), {"latencyP95": 2.1}).passed
