"""What must hold before a digest moves, and what of it holds: (promotion, its policy, what is known) -> requirements.

Everything follows from what resources say now. The operator sees no store: what an Evaluation's status claims is handed
to the promotion's Job, which holds it against the report itself before it commits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from star_contracts.base import value_hash
from star_contracts.promotion import ReportClaim
from star_operator.api.meta import Phase
from star_operator.api.promotion import Approval, PromotionSpec, RequirementState
from star_operator.api.promotionpolicy import PromotionPolicySpec, VerdictRule
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import timestamp
from star_operator.policy.gates import judge
from star_operator.policy.promotionfacts import FAILED, MET, WAITING, Dataset, Facts, Measured, Requirement
from star_operator.policy.promotiontimes import times
from star_operator.policy.served import ALL, soak


def requirements(spec: PromotionSpec, facts: Facts) -> tuple[Requirement, ...]:
    """Return what must hold, in the order to tell it. Without a policy nothing is required but its turn."""
    found = list(_all(spec, facts))
    if spec.override is None or not facts.guarded:
        return tuple(found)
    why = f"overridden by {spec.override.user}: {spec.override.reason}"
    return tuple(
        replace(one, state=RequirementState.OVERRIDDEN, message=f"{one.message} ({why})", claims=())
        if one.can_override and (not one.holds or one.claims)
        else one
        for one in found
    )


def _all(spec: PromotionSpec, facts: Facts) -> Iterator[Requirement]:
    if facts.fault is not None:
        yield Requirement("policy", WAITING, facts.fault.message, facts.fault.reason, can_override=False)
        return
    if spec.override is not None and not facts.guarded:
        text = f"the override by {spec.override.user} is not believed: {_why_unguarded(facts)}"
        yield Requirement("override", WAITING, text, ConditionReason.APPROVALS_UNGUARDED, can_override=False)
    policy = facts.policy
    if policy is not None:
        rules = policy.spec
        if rules.after is not None:
            yield _order(rules.after, facts)
        for number, rule in enumerate(rules.requires.verdicts):
            yield _verdict(_name_of(rules.requires.verdicts, number), rule, rules, facts)
        if rules.requires.max_data_age_days is not None:
            yield _data_age(rules.requires.max_data_age_days, rules, facts)
        if rules.requires.soak is not None:
            yield _soak(rules, facts)
        if rules.requires.approvals:
            yield _approvals(spec.approvals, rules, facts)
        if rules.hold is not None and rules.hold.digest != facts.digest:
            text = f"{policy.metadata.name} is held at {short(rules.hold.digest)}: {rules.hold.reason}"
            remedy = f"`starctl release {policy.metadata.name}` lets others in again"
            yield Requirement("hold", WAITING, f"{text}; {remedy}", ConditionReason.HELD, can_override=False)
        if rules.windows or rules.freezes:
            yield times(rules, facts)
    if facts.ahead:
        text = f"{facts.ahead}; one moves at a time"
        yield Requirement("turn", WAITING, text, ConditionReason.IN_FLIGHT, can_override=False)


def short(digest: str) -> str:
    """Return a digest as sentences have it."""
    return digest[:19]


def _name_of(rules: Sequence[VerdictRule], number: int) -> str:
    """Return what a verdict is called: by its metric, and by its place where two have the same."""
    name = f"verdict {rules[number].metric}"
    same = [place for place, rule in enumerate(rules) if rule.metric == rules[number].metric]
    return name if len(same) == 1 else f"{name} ({same.index(number) + 1})"


def _order(after: str, facts: Facts) -> Requirement:
    """The digest has arrived in the environment before this one."""
    before = facts.environments[after]
    if before.fault is not None:
        return Requirement("order", WAITING, before.fault.message, before.fault.reason)
    if before.serves:
        if any(row.digest == facts.digest and row.weight >= ALL for row in before.history):
            text = f"{short(facts.digest)} has served in {after} with all of the traffic ({before.serves})"
            return Requirement("order", MET, text)
        yet = f"has not served in {after} with all of the traffic yet ({before.serves} tells in status.served)"
        text = f"{short(facts.digest)} {yet}"
    elif facts.digest in before.promoted:
        return Requirement("order", MET, f"{short(facts.digest)} was promoted to {after}")
    else:
        text = f"{short(facts.digest)} was not promoted to {after} yet"
    return Requirement("order", WAITING, f"{text}; promote it there first", ConditionReason.NOT_IN_ORDER)


def _verdict(name: str, rule: VerdictRule, rules: PromotionPolicySpec, facts: Facts) -> Requirement:
    """An Evaluation of this digest has the figure that the rule asks for; the one that ended last speaks."""
    wanted = _wanted(rule, rules, facts)
    done = [one for one in wanted if one.phase is Phase.SUCCEEDED and one.report is not None]
    has_it = [one for one in done if rule.metric in one.metrics] or done
    best = max(has_it, key=lambda one: (one.pinned, one.completed, one.name), default=None)
    if best is None or best.report is None:
        return Requirement(name, WAITING, _unmeasured(rule, rules, facts, wanted), ConditionReason.NOT_MEASURED)
    verdict = judge((rule,), dict(best.metrics))
    text = f"{verdict.message} (Evaluation {best.name} on {best.dataset})"
    if not verdict.passed:
        return Requirement(name, FAILED, text, ConditionReason.VERDICT_FAILED)
    data = facts.datasets.get(best.dataset, Dataset(best.dataset)).digest
    if rule.dataset is not None and data is None:
        text = f"{verdict.message}, but which data RecDataset {rule.dataset} stands for is not known"
        remedy = "it is not there, or has no status.artifact yet: prepare it, or correct the verdict's dataset"
        return Requirement(name, WAITING, f"{text}: {remedy}", ConditionReason.NOT_MEASURED)
    used = {metric for metric in (rule.metric, rule.baseline) if metric is not None}
    claim = ReportClaim(
        evaluation=best.name,
        report=best.report,
        checkpoint=facts.digest,
        dataset=data,
        settings=best.settings,
        metrics={metric: best.metrics[metric] for metric in sorted(used)},
    )
    return Requirement(name, MET, text, claims=(claim,))


def _wanted(rule: VerdictRule, rules: PromotionPolicySpec, facts: Facts) -> list[Measured]:
    settings = rules.requires.settings
    hashed = value_hash(settings.to_json_dict()) if settings is not None else None
    return [one for one in facts.measured if rule.dataset in (None, one.dataset) and hashed in (None, one.settings)]


def _unmeasured(rule: VerdictRule, rules: PromotionPolicySpec, facts: Facts, wanted: Sequence[Measured]) -> str:
    asked = f"{rule.metric} of {short(facts.digest)}"
    where = f" on RecDataset {rule.dataset}" if rule.dataset is not None else ""
    if wanted:
        listed = ", ".join(f"{one.name} is {one.phase}" for one in wanted[:3])
        return f"{asked} is not measured{where} yet: Evaluation {listed}"
    how = " with requires.settings of the policy" if rules.requires.settings is not None else ""
    remedy = "create one whose spec.llm.server.model has this digest"
    return f"{asked} is not measured{where} yet: no Evaluation here measured it{how}; {remedy}"


def _data_age(days: int, rules: PromotionPolicySpec, facts: Facts) -> Requirement:
    """The newest raw data that it was measured on, or trained on, are young enough."""
    used = [_used_dataset(rule, rules, facts) for rule in rules.requires.verdicts]
    names = {name for name in used if name is not None}
    data = [facts.datasets.get(name, Dataset(name)) for name in sorted(names)]
    if not rules.requires.verdicts and facts.trained_on is not None:
        data = [facts.trained_on]
    if not data:
        text = "how old its data are is not known yet: " + (
            "nothing has measured it"
            if rules.requires.verdicts
            else "its Checkpoint names no RecDataset of this namespace"
        )
        return Requirement("data age", WAITING, text, ConditionReason.NOT_MEASURED)
    for one in data:
        if one.newest is None:
            text = f"how old the data of RecDataset {one.name} are is not known (it has no status.source.newest)"
            return Requirement("data age", WAITING, text, ConditionReason.NOT_MEASURED)
    oldest = min(data, key=lambda one: one.newest or "")
    age = (facts.now - _moment(oldest.newest or "")).total_seconds() / 86400
    text = f"the newest data of RecDataset {oldest.name} are {age:.1f} days old, at most {days} are allowed"
    if age <= days:
        return Requirement("data age", MET, text)
    return Requirement(
        "data age", FAILED, f"{text}; prepare newer data and measure on these", ConditionReason.DATA_TOO_OLD
    )


def _used_dataset(rule: VerdictRule, rules: PromotionPolicySpec, facts: Facts) -> str | None:
    if rule.dataset is not None:
        return rule.dataset
    done = [one for one in _wanted(rule, rules, facts) if one.phase is Phase.SUCCEEDED]
    last = max(done, key=lambda one: (one.pinned, one.completed, one.name), default=None)
    return last.dataset if last is not None else None


def data_age_days(dataset: Dataset | None, now: datetime) -> float | None:
    """Return how old a dataset's newest raw data are; None where that is not known."""
    if dataset is None or dataset.newest is None:
        return None
    return max(0.0, round((now - _moment(dataset.newest)).total_seconds() / 86400, 2))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _soak(rules: PromotionPolicySpec, facts: Facts) -> Requirement:
    asked = rules.requires.soak
    assert asked is not None
    where = asked.environment or rules.after or ""
    source = facts.environments[where]
    if source.fault is not None:
        return Requirement("soak", WAITING, source.fault.message, source.fault.reason)
    found = soak(source.history, facts.digest, asked.min_weight, facts.now, facts.gap)
    share = "all of the traffic" if asked.min_weight == 100 else f"{asked.min_weight}% of the traffic or more"
    how, left = f"in {where} with {share}", asked.seconds - found.seconds
    if left > 0 and found.serving:  # told so that it stays the same as long as it goes on
        due = facts.now + timedelta(seconds=left)
        told = timestamp(_next_minute(due))
        text = f"{short(facts.digest)} has to serve for {_span(asked.seconds)} {how}, and will have until {told}"
        return Requirement("soak", WAITING, text, ConditionReason.SOAKING, until=due)
    if left > 0:
        so_far = f"{_span(found.seconds)} of {_span(asked.seconds)}"
        text = f"{short(facts.digest)} has served for {so_far} {how}, and does not now"
        return Requirement("soak", WAITING, text, ConditionReason.SOAKING)
    text = f"{short(facts.digest)} has served for {_span(asked.seconds)} {how}"
    if asked.metrics:
        verdict = judge(asked.metrics, dict(found.metrics))
        text = f"{text}; {verdict.message}"
        if not verdict.passed:
            return Requirement("soak", FAILED, text, ConditionReason.VERDICT_FAILED)
    return Requirement("soak", MET, text)


def _next_minute(moment: datetime) -> datetime:
    return (moment + timedelta(seconds=59)).replace(second=0, microsecond=0)


def _span(seconds: int) -> str:
    """Return a time as people write it: its two largest units."""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts[:2])


_UNGUARDED = (
    "the ValidatingAdmissionPolicy by which the API server refuses approvals in another one's name, or its binding, is "
    "not installed as this operator's chart has them; install them"
)


def _why_unguarded(facts: Facts) -> str:
    if not facts.guarded_since:
        return _UNGUARDED
    text = "this Promotion is older than the ValidatingAdmissionPolicy by which the API server refuses approvals in "
    remedy = "so that anybody may have written them; create a new Promotion, and approve that one"
    return f"{text}another one's name, or its binding (there since {facts.guarded_since}), {remedy}"


def approved(approvals: Sequence[Approval], rules: PromotionPolicySpec, digest: str) -> list[Approval]:
    """Return the approvals that count for a digest."""
    allowed = rules.requires.approvers
    return [one for one in approvals if one.digest == digest and (not allowed or one.user in allowed)]


def _approvals(approvals: Sequence[Approval], rules: PromotionPolicySpec, facts: Facts) -> Requirement:
    wanted, count = rules.requires.approvals, approved(approvals, rules, facts.digest)
    if not facts.guarded:
        text = f"approvals are not believed: {_why_unguarded(facts)}"
        return Requirement("approvals", WAITING, text, ConditionReason.APPROVALS_UNGUARDED, can_override=False)
    users = sorted({one.user for one in count})
    by = f" ({', '.join(users)})" if users else ""
    text = f"{len(users)} of {wanted} approvals of {short(facts.digest)}{by}"
    other = len(approvals) - len(count)
    but = f"; {other} more are of another digest, or by users whose approval does not count here" if other else ""
    if len(users) >= wanted:
        return Requirement("approvals", MET, f"{text}{but}")
    whom = f" by {', '.join(rules.requires.approvers)}" if rules.requires.approvers else ""
    told = f"{text}{but}; waits for `starctl approve`{whom}"
    return Requirement("approvals", WAITING, told, ConditionReason.AWAITING_APPROVAL)
