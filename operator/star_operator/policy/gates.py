"""Gates: an evaluation's figures held against the rules of a StarDeployment."""

from dataclasses import dataclass
from enum import StrEnum

from star_operator.api.stardeployment import Comparison, GateRule
from star_operator.core.reasons import AnyReason

SIGNS = {Comparison.AT_LEAST: ">=", Comparison.AT_MOST: "<="}


class Verdict(StrEnum):
    """What is known of a candidate; `status.revisions[].gate` has it."""

    PASSED = "Passed"
    FAILED = "Failed"
    RUNNING = "Running"


@dataclass(frozen=True)
class Gate:
    """What the gates say of a candidate so far."""

    verdict: Verdict
    message: str
    evaluation: str = ""
    headline: str = ""
    reason: AnyReason | None = None
    """Of the condition, where it is not the gates' own."""

    @property
    def passed(self) -> bool:
        """Say whether it may be served."""
        return self.verdict is Verdict.PASSED


@dataclass(frozen=True)
class GateVerdict:
    """What the rules say of a report."""

    passed: bool
    message: str
    """Measured against required, rule by rule; the failed ones when any failed."""


def judge(rules: tuple[GateRule, ...], metrics: dict[str, float]) -> GateVerdict:
    """Hold a report's metrics against the rules. A figure the report does not have fails its rule."""
    outcomes = [_judge_one(rule, metrics) for rule in rules]
    failed = [text for passed, text in outcomes if not passed]
    return GateVerdict(not failed, "; ".join(failed or [text for _, text in outcomes]))


def _judge_one(rule: GateRule, metrics: dict[str, float]) -> tuple[bool, str]:
    required = rule.value if rule.baseline is None else metrics.get(rule.baseline)
    measured = metrics.get(rule.metric)
    missing = rule.metric if measured is None else rule.baseline
    if measured is None or required is None:
        return False, f"{missing} is not in the evaluation's report (it has {', '.join(sorted(metrics)) or 'nothing'})"
    passed = measured >= required if rule.comparison is Comparison.AT_LEAST else measured <= required
    against = f" ({rule.baseline})" if rule.baseline else ""
    text = f"{rule.metric} measured {measured:.4g}, required {SIGNS[rule.comparison]} {required:.4g}{against}"
    return passed, text
