"""Whose run a pipeline is, and what it holds: every decision, by a table."""

import pytest

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import LEAST_RUNS, MAX_RUNS, RunRecord
from star_operator.core.times import of_seconds
from star_operator.policy.schedule.proof import CANCEL_SECONDS, Found, bounded, look, proven, resumed, share
from star_operator.policy.schedule.types import Run
from tests.support.schedules import TICK, spec, tenants
from tests.support.schedules import look as decided

SPEC = spec(activeDeadlineSeconds=3600)
RECORD = RunRecord(namespace="team-0", tick=of_seconds(TICK), uid="u-1", gpus=4, since=of_seconds(TICK))
INTENT = RECORD.model_copy(update={"uid": "", "spec": "sha256:x", "since": ""})
ASIDE = RECORD.model_copy(update={"set_aside": True, "since": ""})


@pytest.mark.parametrize(
    ("record", "found", "uid"),
    [
        (RECORD, Found("u-1", ""), "u-1"),
        (RECORD, Found("u-2", ""), None),
        (RECORD, None, None),
        (INTENT, Found("u-3", "sha256:x"), "u-3"),
        (INTENT, Found("u-3", "sha256:y"), None),
        (INTENT, Found("u-3", ""), None),
        (INTENT, Found("u-3", "sha256:x", deleting=True), None),
        (INTENT, None, None),
    ],
)
def test_a_run_is_what_a_record_has_the_uid_of(record: RunRecord, found: Found | None, uid: str | None) -> None:
    mine = proven(record, found)
    assert (mine.uid if mine is not None else None) == uid
    assert mine is None or not mine.spec


@pytest.mark.parametrize(
    ("record", "found", "after", "live", "holds", "set_aside"),
    [
        (RECORD, Found("u-1", "", Phase.RUNNING), 0, True, True, False),
        (RECORD, Found("u-1", "", Phase.SUCCEEDED), 0, False, True, True),
        (RECORD, Found("u-1", "", Phase.RUNNING, deleting=True), 0, False, True, True),
        (RECORD, Found("u-1", "", Phase.RUNNING, suspended=True), 0, True, True, False),
        (RECORD, Found("u-1", "", Phase.SUSPENDED, suspended=True), 0, True, True, True),
        (RECORD, Found("u-1", "", Phase.SUSPENDED), 0, True, True, False),
        (ASIDE, Found("u-1", "", Phase.SUSPENDED, suspended=True), 0, True, False, True),
        (ASIDE, Found("u-1", "", Phase.SUSPENDED), 0, True, False, True),
        (ASIDE, Found("u-1", "", Phase.RUNNING), 0, True, True, False),
        (RECORD, Found("u-1", "", Phase.WAITING), 3600, True, True, False),
        (RECORD, Found("u-1", "", Phase.WAITING, cancelling=True), 3600 + CANCEL_SECONDS, False, True, False),
        (ASIDE, Found("u-1", "", Phase.SUSPENDED, suspended=True), 10**7, True, False, True),
    ],
)
def test_what_a_run_holds(
    record: RunRecord, found: Found, after: int, live: bool, holds: bool, set_aside: bool
) -> None:
    seen = look(SPEC, record, "x", found, TICK + after)
    assert (seen.run.live, seen.run.holds, seen.record.set_aside) == (live, holds, set_aside)
    assert seen.overdue == (after == 3600)


def test_what_has_ended_holds_its_place_until_that_is_written_down() -> None:
    ends = look(SPEC, RECORD, "x", Found("u-1", "", Phase.FAILED), TICK + 5)
    assert (ends.run.live, ends.run.leaving, ends.run.gpus, ends.freed) == (False, True, 4, True)
    some = tenants(2, gpus=1)[1:]
    assert decided(spec(gpuBudget=4), some, runs=[ends.run]).starts == ()
    assert decided(spec(maxConcurrentRuns=1), some, runs=[ends.run]).starts == ()
    after = look(SPEC, ends.record, "x", Found("u-1", "", Phase.FAILED), TICK + 6)
    assert (after.run.leaving, after.run.gpus, after.freed) == (False, 0, False)
    assert len(decided(spec(gpuBudget=4), some, runs=[after.run]).starts) == 1


def test_who_wants_to_go_on_waits_from_then_on() -> None:
    first = look(SPEC, ASIDE, "x", Found("u-1", "", Phase.SUSPENDED), TICK + 5)
    again = look(SPEC, first.record, "x", Found("u-1", "", Phase.SUSPENDED), TICK + 50)
    assert again.run.resumes == TICK + 5
    back = look(SPEC, again.record, "x", Found("u-1", "", Phase.SUSPENDED, suspended=True), TICK + 60)
    assert back.run.resumes is None
    assert back.record.since == "", "who suspends again stands at the end"
    [record] = resumed([again.record], [again.run], TICK + 70)
    assert (record.set_aside, record.since) == (False, of_seconds(TICK + 70))


def test_a_run_that_resumes_stands_in_the_same_line_and_within_the_same_budget() -> None:
    some = tenants(2, gpus=4)
    resting = Run("team-0", "x", TICK - 86400, 4, holds=False, resumes=TICK - 60)
    one = decided(spec(gpuBudget=4), some[1:], runs=[resting])
    assert (one.resumes, one.starts) == ((resting,), ()), "it has waited longer"
    full = Run("team-9", "y", TICK - 86400, 4)
    both = decided(spec(gpuBudget=4), some[1:], runs=[resting, full])
    assert (both.resumes, both.starts) == ((), ())
    assert decided(spec(gpuBudget=4, suspend=True), some[1:], runs=[resting]).resumes == ()


def test_records_are_bounded_and_one_namespace_pushes_out_nobody_elses() -> None:
    names = [f"team-{n}" for n in range(500)]
    mine = [RECORD.model_copy(update={"tick": of_seconds(TICK + n)}) for n in range(10_000)]
    others = [RECORD.model_copy(update={"namespace": name}) for name in names[1:]]
    live = {("team-0", of_seconds(TICK))}
    kept = bounded([*mine, *others], live, names)
    assert len([one for one in kept if one.namespace == "team-0"]) == LEAST_RUNS
    assert ("team-0", of_seconds(TICK)) in {(one.namespace, one.tick) for one in kept}, "it lives, old as it is"
    assert len(kept) == LEAST_RUNS + 499
    assert share(500) * 500 <= MAX_RUNS
    gone = bounded(others, {("team-1", of_seconds(TICK))}, [])
    assert [one.namespace for one in gone] == ["team-1"], "who takes part no more is known while its run lives"
