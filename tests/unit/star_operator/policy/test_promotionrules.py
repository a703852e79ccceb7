"""What must hold before a digest moves: each requirement met, waited for, failed and overridden."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.settings import EvaluationSettings
from star_operator.api.meta import Phase
from star_operator.api.stardeployment import ServedStatus
from star_operator.core.reasons import ConditionReason
from star_operator.policy.promotion import Begin, Hold, decide
from star_operator.policy.promotionfacts import Dataset, Environment, Facts, Measured, Requirement
from star_operator.policy.promotionplace import Fault
from star_operator.policy.promotionrules import requirements
from star_operator.policy.served import longest_gap
from tests.support.promotions import DIGEST, OTHER, policy_of, promotion_of

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday."""
REPORT = ArtifactRef(uri="s3://star/team/evaluation/e/1/evaluate", digest="sha256:" + "e" * 64)
SETTINGS = value_hash(EvaluationSettings().to_json_dict())


def measured(name: str = "e", **changes: Any) -> Measured:
    found = Measured(name, "d", SETTINGS, Phase.SUCCEEDED, "2026-03-01T00:00:00Z", REPORT, {"hrAvg": 0.4, "b": 0.3})
    return replace(found, **changes)


def facts(**known: Any) -> Facts:
    policy = policy_of(**known.pop("spec", {}))
    data = {"d": Dataset("d", "sha256:" + "d" * 64, "2026-03-01T12:00:00Z")}
    dev = Environment("dev")
    return replace(Facts(DIGEST, NOW, longest_gap(300), policy, datasets=data, environments={"dev": dev}), **known)


def found(known: Facts, **spec: Any) -> dict[str, Requirement]:
    return {one.name: one for one in requirements(promotion_of(**spec).spec, known)}


def told(one: Requirement) -> tuple[str, ConditionReason]:
    return one.state.value, one.reason


def served(seconds: int, *, serving: bool = True, weight: int = 100, **row: Any) -> Environment:
    until = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    one = ServedStatus(digest=DIGEST, weight=weight, since=until, until=until, seconds=seconds, serving=serving, **row)
    return Environment("dev", serves="StarDeployment live", history=(one,))


def test_a_place_that_no_policy_governs_requires_nothing() -> None:
    assert requirements(promotion_of().spec, Facts(DIGEST, NOW, longest_gap(300))) == ()


def test_what_is_wrong_with_the_policy_comes_before_all_else() -> None:
    wrong = Fault(ConditionReason.ORDER_CYCLE, "in a circle")
    [one] = requirements(promotion_of(override={"user": "eve", "reason": "now"}).spec, facts(fault=wrong))
    assert told(one) == ("Waiting", ConditionReason.ORDER_CYCLE)


VERDICT: dict[str, Any] = {"requires": {"verdicts": [{"metric": "hrAvg", "value": 0.35, "dataset": "d"}]}}


def test_a_verdict_of_this_digest_counts_and_is_handed_to_the_job() -> None:
    one = found(facts(spec=VERDICT, measured=[measured()]))["verdict hrAvg"]
    assert one.state == "Met"
    [claim] = one.claims
    assert (claim.checkpoint, claim.dataset, claim.settings) == (DIGEST, "sha256:" + "d" * 64, SETTINGS)
    assert (claim.report, claim.metrics) == (REPORT, {"hrAvg": 0.4})


@pytest.mark.parametrize(
    ("evaluations", "state", "reason", "says"),
    [
        ([], "Waiting", ConditionReason.NOT_MEASURED, "no Evaluation here measured it"),
        ([measured(dataset="other")], "Waiting", ConditionReason.NOT_MEASURED, "on RecDataset d yet"),
        ([measured(phase=Phase.RUNNING)], "Waiting", ConditionReason.NOT_MEASURED, "Evaluation e is Running"),
        (
            [measured(metrics={"hrAvg": 0.2})],
            "Failed",
            ConditionReason.VERDICT_FAILED,
            "measured 0.2, required >= 0.35",
        ),
        ([measured(metrics={})], "Failed", ConditionReason.VERDICT_FAILED, "not in the evaluation's report"),
    ],
)
def test_a_verdict_that_does_not_count(
    evaluations: list[Measured], state: str, reason: ConditionReason, says: str
) -> None:
    one = found(facts(spec=VERDICT, measured=evaluations))["verdict hrAvg"]
    assert told(one) == (state, reason)
    assert says in one.message


@pytest.mark.bad_input
@pytest.mark.parametrize("datasets", [{}, {"d": Dataset("d")}])
def test_a_verdict_on_data_that_nobody_knows_is_not_met(datasets: dict[str, Dataset]) -> None:
    one = found(facts(spec=VERDICT, measured=[measured()], datasets=datasets))["verdict hrAvg"]
    assert told(one) == ("Waiting", ConditionReason.NOT_MEASURED)
    assert "which data RecDataset d stands for is not known" in one.message
    assert not one.claims


def test_the_evaluation_that_ended_last_speaks() -> None:
    worse = measured("later", completed="2026-03-02T00:00:00Z", metrics={"hrAvg": 0.1})
    assert found(facts(spec=VERDICT, measured=[worse, measured()]))["verdict hrAvg"].state == "Failed"


def test_a_verdict_measured_in_another_way_does_not_count() -> None:
    spec = {"requires": {**VERDICT["requires"], "settings": {"bestOf": 4}}}
    one = found(facts(spec=spec, measured=[measured()]))["verdict hrAvg"]
    assert told(one) == ("Waiting", ConditionReason.NOT_MEASURED)
    assert "requires.settings" in one.message


def test_a_baseline_is_another_figure_of_the_same_report() -> None:
    spec = {"requires": {"verdicts": [{"metric": "hrAvg", "baseline": "b"}]}}
    one = found(facts(spec=spec, measured=[measured()]))["verdict hrAvg"]
    assert one.state == "Met"
    assert one.claims[0].metrics == {"hrAvg": 0.4, "b": 0.3}


@pytest.mark.parametrize(("days", "state"), [(4, "Met"), (2, "Failed")])
def test_data_may_be_so_old(days: int, state: str) -> None:
    spec = {"requires": {**VERDICT["requires"], "maxDataAgeDays": days}}
    assert found(facts(spec=spec, measured=[measured()]))["data age"].state == state


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"datasets": {"d": Dataset("d")}}, "is not known (it has no status.source.newest)"),
        ({"spec": {"requires": {"maxDataAgeDays": 2}}}, "its Checkpoint names no RecDataset"),
    ],
)
def test_an_age_that_is_not_known_is_waited_for(changes: dict[str, Any], says: str) -> None:
    spec = {"requires": {**VERDICT["requires"], "maxDataAgeDays": 9}}
    one = found(facts(**{"spec": spec, "measured": [measured()], **changes}))["data age"]
    assert told(one) == ("Waiting", ConditionReason.NOT_MEASURED)
    assert says in one.message


def test_without_verdicts_the_training_data_count() -> None:
    known = facts(spec={"requires": {"maxDataAgeDays": 9}}, trained_on=Dataset("d", DIGEST, "2026-03-01T12:00:00Z"))
    assert found(known)["data age"].state == "Met"


SOAK: dict[str, Any] = {"after": "dev", "requires": {"soak": {"seconds": 3600, "minWeight": 100}}}


def test_a_soak_tells_until_when() -> None:
    one = found(facts(spec=SOAK, environments={"dev": served(600)}))["soak"]
    assert told(one) == ("Waiting", ConditionReason.SOAKING)
    assert one.until == NOW + timedelta(minutes=50)
    assert one.message.endswith("until 2026-03-04T12:50:00Z")


def test_a_soak_is_looked_at_when_it_ends_and_not_at_the_minute_that_is_told() -> None:
    one = found(facts(spec=SOAK, environments={"dev": served(600 - 7)}))["soak"]
    assert one.until == NOW + timedelta(minutes=50, seconds=7)
    assert one.message.endswith("until 2026-03-04T12:51:00Z")


def test_what_a_soak_tells_stays_the_same_while_it_goes_on() -> None:
    later = facts(spec=SOAK, environments={"dev": served(600)}, now=NOW + timedelta(seconds=37))
    assert found(later)["soak"].message == found(facts(spec=SOAK, environments={"dev": served(600)}))["soak"].message


@pytest.mark.parametrize(
    ("environment", "state", "says"),
    [
        (served(3600), "Met", "for 1 h in dev"),
        (served(9600, serving=False), "Met", "for 1 h in dev"),
        (served(3500, serving=False), "Waiting", "58 min 20 s of 1 h in dev with all of the traffic, and does not now"),
        (served(3600, weight=50), "Waiting", "0 s of 1 h"),
        (Environment("dev", serves="StarDeployment live"), "Waiting", "and does not now"),
    ],
)
def test_a_soak_counts_what_has_served(environment: Environment, state: str, says: str) -> None:
    one = found(facts(spec=SOAK, environments={"dev": environment}))["soak"]
    assert one.state == state
    assert says in one.message


@pytest.mark.parametrize(("value", "state"), [(0.2, "Met"), (0.5, "Failed")])
def test_a_soak_may_ask_for_figures(value: float, state: str) -> None:
    spec = {"after": "dev", "requires": {"soak": {"seconds": 60, "metrics": [{"metric": "clicks", "value": value}]}}}
    known = facts(spec=spec, environments={"dev": served(3600, metrics={"clicks": 0.3})})
    assert found(known)["soak"].state == state


def test_who_may_not_look_is_told() -> None:
    hidden = Environment("dev", serves="x", fault=Fault(ConditionReason.NOT_OBSERVABLE, "its annotation"))
    known = found(facts(spec=SOAK, environments={"dev": hidden}))
    assert told(known["soak"]) == told(known["order"]) == ("Waiting", ConditionReason.NOT_OBSERVABLE)


@pytest.mark.parametrize(
    ("environment", "state"),
    [
        (Environment("dev"), "Waiting"),
        (Environment("dev", frozenset({OTHER})), "Waiting"),
        (Environment("dev", frozenset({DIGEST})), "Met"),
        (Environment("dev", frozenset({DIGEST}), serves="StarDeployment live"), "Waiting"),
        (served(0, serving=False), "Met"),
        (served(600, weight=50), "Waiting"),
        (served(600, serving=False, weight=10), "Waiting"),
    ],
)
def test_a_digest_arrives_in_one_environment_after_the_other(environment: Environment, state: str) -> None:
    one = found(facts(spec={"after": "dev"}, environments={"dev": environment}))["order"]
    assert one.state == state


def approvals(*users: str, digest: str = DIGEST) -> list[dict[str, str]]:
    return [{"user": user, "digest": digest} for user in users]


TWO: dict[str, Any] = {"requires": {"approvals": 2}}


@pytest.mark.parametrize(
    ("given", "state", "says"),
    [
        ([], "Waiting", "0 of 2 approvals"),
        (approvals("ann"), "Waiting", "(ann); waits for `starctl approve`"),
        (approvals("ann", "bob"), "Met", "(ann, bob)"),
        (approvals("ann") + approvals("bob", digest=OTHER), "Waiting", "1 more are of another digest"),
    ],
)
@pytest.mark.bad_input
def test_approvals_are_of_this_digest_by_different_users(given: list[dict[str, str]], state: str, says: str) -> None:
    one = found(facts(spec=TWO), approvals=given)["approvals"]
    assert one.state == state
    assert says in one.message


def test_only_named_approvers_count_where_some_are_named() -> None:
    spec = {"requires": {"approvals": 1, "approvers": ["ann"]}}
    assert found(facts(spec=spec), approvals=approvals("bob"))["approvals"].state == "Waiting"
    assert found(facts(spec=spec), approvals=approvals("bob", "ann"))["approvals"].state == "Met"


@pytest.mark.bad_input
def test_nobody_is_believed_where_the_api_server_does_not_look() -> None:
    override = {"user": "eve", "reason": "now"}
    known = found(facts(spec=TWO, guarded=False), approvals=approvals("ann", "bob"), override=override)
    for name in ("approvals", "override"):
        assert told(known[name]) == ("Waiting", ConditionReason.APPROVALS_UNGUARDED)


@pytest.mark.bad_input
def test_what_is_older_than_the_guard_is_told() -> None:
    known = facts(spec=TWO, guarded=False, guarded_since="2026-03-01T00:00:00Z")
    one = found(known, approvals=approvals("ann", "bob"))["approvals"]
    assert told(one) == ("Waiting", ConditionReason.APPROVALS_UNGUARDED)
    assert "older than the ValidatingAdmissionPolicy" in one.message
    assert "there since 2026-03-01T00:00:00Z" in one.message


HOLD: dict[str, Any] = {"hold": {"digest": OTHER, "reason": "incident 7"}}


def test_a_hold_lets_in_what_it_holds_alone() -> None:
    one = found(facts(spec=HOLD))["hold"]
    assert told(one) == ("Waiting", ConditionReason.HELD)
    assert "incident 7" in one.message
    assert "starctl release prod" in one.message
    assert found(facts(spec=HOLD, digest=OTHER)) == {}


def window(**spec: Any) -> Requirement:
    return found(facts(spec=spec))["window"]


NIGHT = [{"start": "22:00", "end": "23:00"}]
FREEZE = {"start": "2026-03-04T00:00:00Z", "end": "2026-03-06T00:00:00Z", "reason": "audit"}


@pytest.mark.parametrize(
    ("spec", "reason", "until"),
    [
        ({"windows": NIGHT}, ConditionReason.WINDOW_CLOSED, "2026-03-04T22:00:00Z"),
        ({"windows": NIGHT, "timeZone": "Asia/Tokyo"}, ConditionReason.WINDOW_CLOSED, "2026-03-04T13:00:00Z"),
        ({"freezes": [FREEZE]}, ConditionReason.FROZEN, "2026-03-06T00:00:00Z"),
        ({"windows": NIGHT, "freezes": [FREEZE]}, ConditionReason.FROZEN, "2026-03-06T22:00:00Z"),
    ],
)
def test_it_is_told_when_a_window_opens(spec: dict[str, Any], reason: ConditionReason, until: str) -> None:
    one = window(**spec)
    assert told(one) == ("Waiting", reason)
    assert one.until is not None
    assert one.until.isoformat().replace("+00:00", "Z") == until
    assert until in one.message or one.until == NOW


@pytest.mark.bad_input
def test_a_window_that_no_freeze_leaves_open_is_told() -> None:
    freezes = [
        {"start": f"2026-{one:02}-01T00:00:00Z", "end": f"2026-{one + 1:02}-01T00:00:00Z", "reason": "x"}
        for one in range(3, 12)
    ]
    one = window(windows=NIGHT, freezes=freezes)
    assert one.message.startswith("frozen until 2026-04-01T00:00:00Z: x")
    never = window(windows=[{"days": ["Sun"], "start": "02:00", "end": "03:00"}], timeZone="Europe/Berlin")
    assert never.until is not None


@pytest.mark.bad_input
def test_a_zone_that_this_machine_does_not_have_is_told() -> None:
    assert told(window(windows=NIGHT, timeZone="Mars/Base")) == ("Waiting", ConditionReason.UNKNOWN_TIME_ZONE)


ALL: dict[str, Any] = {
    "after": "dev",
    **HOLD,
    "freezes": [FREEZE],
    "requires": {**VERDICT["requires"], **SOAK["requires"], "approvals": 1},
}


def test_an_override_passes_all_but_a_hold_and_its_turn() -> None:
    known = facts(spec=ALL, ahead="Promotion q is being committed", measured=[measured(metrics={"hrAvg": 0.1})])
    override = {"user": "eve", "reason": "the shop is down"}
    states = {name: one.state.value for name, one in found(known, override=override).items()}
    assert states.pop("hold") == states.pop("turn") == "Waiting"
    assert set(states.values()) == {"Overridden"}
    one = found(known, override=override)["soak"]
    assert "overridden by eve: the shop is down" in one.message


def test_an_override_leaves_nothing_to_verify() -> None:
    known = facts(spec=VERDICT, measured=[measured()])
    assert not found(known, override={"user": "eve", "reason": "x"})["verdict hrAvg"].claims


def test_what_failed_is_told_first() -> None:
    known = facts(spec=ALL, measured=[measured(metrics={"hrAvg": 0.1})])
    decision = decide(requirements(promotion_of().spec, known), NOW.timestamp())
    assert isinstance(decision, Hold)
    assert (decision.phase, decision.reason) == (Phase.GATED, ConditionReason.VERDICT_FAILED)
    assert all(f"{name}: " in decision.message for name in ("verdict hrAvg", "soak", "hold", "window", "approvals"))


def test_all_met_may_begin() -> None:
    known = facts(spec={**VERDICT, "after": "dev"}, measured=[measured()], environments={"dev": served(1)})
    assert decide(requirements(promotion_of().spec, known), NOW.timestamp()) == Begin()


@given(
    st.booleans(), st.booleans(), st.integers(0, 7200), st.lists(st.sampled_from(["ann", "bob", "eve"]), unique=True)
)
def test_it_begins_only_where_each_requirement_holds(hold: bool, good: bool, seconds: int, users: list[str]) -> None:
    spec = {"after": "dev", "requires": {**VERDICT["requires"], **SOAK["requires"], "approvals": 2}}
    known = facts(
        spec={**spec, **(HOLD if hold else {})},
        measured=[measured(metrics={"hrAvg": 0.4 if good else 0.3})],
        environments={"dev": served(seconds)},
    )
    decision = decide(requirements(promotion_of(approvals=approvals(*users)).spec, known), NOW.timestamp())
    wanted = not hold and good and seconds >= 3600 and len(users) >= 2
    assert (decision == Begin()) is wanted
