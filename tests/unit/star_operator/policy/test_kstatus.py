"""Every kind in every phase and for every reason, as kstatus reads it."""

from itertools import product
from typing import Any, get_args

import pytest

from star_operator.api.crd import crd
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Phase, Resource
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.policy.conditions import FAILED, READY, RECONCILING, STALLED
from star_operator.policy.status import Moment, seen_again, told
from tests.support.kstatus import KStatus, kstatus

NOW, LATER = Moment("2026-01-01T00:00:00Z", 3), Moment("2026-01-02T00:00:00Z", 4)
EXPECTED = {
    Phase.PENDING: KStatus.IN_PROGRESS,
    Phase.WAITING: KStatus.IN_PROGRESS,
    Phase.SUSPENDED: KStatus.IN_PROGRESS,
    Phase.QUEUED: KStatus.IN_PROGRESS,
    Phase.RUNNING: KStatus.IN_PROGRESS,
    Phase.SUCCEEDED: KStatus.CURRENT,
    Phase.FAILED: KStatus.FAILED,
    Phase.GATED: KStatus.FAILED,
    Phase.DEGRADED: KStatus.FAILED,
    Phase.READY: KStatus.CURRENT,
}
REASONS: tuple[AnyReason, ...] = tuple(reason for words in get_args(AnyReason) for reason in words)
STUCK = (ConditionReason.INVALID_SPEC, ConditionReason.INPUT_FAILED, ConditionReason.IMPOSSIBLE_SCHEDULE)
Kind = type[Resource[Any, Any]]


def body(status: Any, generation: int = 3) -> dict[str, Any]:
    return {"metadata": {"generation": generation}, "status": status.to_json_dict()}


def named(kind: Kind) -> str:
    return kind.INFO.kind


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_each_phase_of_each_kind_is_what_a_person_would_say(kind: Kind) -> None:
    for phase in Phase:
        status = told(kind.status_type()(), NOW, phase, ConditionReason.RUNNING, "why")
        assert kstatus(body(status)) is EXPECTED[phase], phase


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_failed_run_is_never_in_progress_and_one_that_is_done_never_failed(kind: Kind) -> None:
    for reason, phase in product(REASONS, Phase):
        found = kstatus(body(told(kind.status_type()(), NOW, phase, reason, "why")))
        if (phase, reason) == (Phase.DEGRADED, ConditionReason.DEGRADED):
            assert found is KStatus.IN_PROGRESS, "its servers start, as a Deployment's pods do"
        elif EXPECTED[phase] is not KStatus.IN_PROGRESS or phase is Phase.SUSPENDED:
            assert found is EXPECTED[phase], (phase, reason)
        else:
            assert found in (KStatus.IN_PROGRESS, KStatus.FAILED)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_from_whatever_it_was_it_becomes_what_it_is(kind: Kind) -> None:
    for before, after in product(Phase, Phase):
        status = told(kind.status_type()(), NOW, before, ConditionReason.INVALID_SPEC, "why")
        status = told(status, LATER, after, ConditionReason.RUNNING, "why")
        assert kstatus(body(status, LATER.generation)) is EXPECTED[after], (before, after)
        types = {condition.type for condition in status.conditions}
        assert (FAILED in types) is (after is Phase.FAILED)
        assert len(types & {RECONCILING, STALLED}) <= 1


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_what_nobody_has_looked_at_yet_is_in_progress(kind: Kind) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert kstatus({"metadata": {"generation": 1}, "status": schema["properties"]["status"]["default"]}) is (
        KStatus.IN_PROGRESS
    )
    assert kind.parse_status({"status": schema["properties"]["status"]["default"]}).phase is Phase.PENDING


def test_a_change_that_nobody_has_seen_is_in_progress_until_it_is() -> None:
    status = told(KINDS[0].status_type()(), NOW, Phase.SUCCEEDED, ConditionReason.SUCCEEDED, "done")
    assert kstatus(body(status, generation=4)) is KStatus.IN_PROGRESS
    assert kstatus(body(seen_again(status, LATER), generation=4)) is KStatus.CURRENT


@pytest.mark.parametrize("reason", STUCK)
def test_what_waits_for_a_person_alone_has_failed(reason: ConditionReason) -> None:
    waiting = told(KINDS[0].status_type()(), NOW, Phase.WAITING, reason, "write it otherwise")
    assert kstatus(body(waiting)) is KStatus.FAILED


def test_a_suspended_schedule_is_as_it_was_asked_to_be() -> None:
    status = told(KINDS[0].status_type()(), NOW, Phase.SUSPENDED, ConditionReason.SUSPENDED, "as asked", ready=True)
    assert kstatus(body(status)) is KStatus.CURRENT


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_what_has_ended_is_written_once_more_for_another_generation_and_then_never(phase: Phase) -> None:
    status = told(KINDS[0].status_type()(), NOW, phase, ConditionReason.RUNNING, "why")
    again = seen_again(status, LATER)
    assert again.observed_generation == LATER.generation
    assert [one.last_transition_time for one in again.conditions] == [NOW.now] * len(again.conditions)
    assert seen_again(again, Moment("2027-01-01T00:00:00Z", LATER.generation)) == again


def test_what_ended_under_an_older_version_gets_the_conditions_of_this_one() -> None:
    ended = told(KINDS[0].status_type()(), NOW, Phase.FAILED, ConditionReason.JOB_FAILED, "why")
    old = ended.model_copy(update={"conditions": tuple(one for one in ended.conditions if one.type != STALLED)})
    assert kstatus(body(old)) is KStatus.IN_PROGRESS
    assert kstatus(body(seen_again(old, NOW))) is KStatus.FAILED
    assert {one.reason for one in seen_again(old, NOW).conditions} == {"JobFailed"}
    assert {one.type for one in ended.conditions} == {READY, FAILED, STALLED}


def test_a_status_that_says_nothing_stays_so() -> None:
    assert seen_again(KINDS[0].status_type()(), NOW) == KINDS[0].status_type()()
