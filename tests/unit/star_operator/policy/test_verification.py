"""What is done about a small Job, and about a checkpoint that is to be verified."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import JobView, PodView, RunView, Trouble
from star_operator.policy import errand
from star_operator.policy.errand import Begin, Ended, GaveUp, GoingOn, Lingering
from star_operator.policy.verification import (
    AGAIN,
    Anew,
    Asked,
    Decision,
    Unproven,
    Verified,
    Verify,
    Verifying,
    decide,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = "2026-01-01T11:30:00Z"
REFUSED = GaveUp(Reason.PROOF_ALTERED, "sha256:a is not sha256:b", AT)
SAME = Asked("", "")
DENIED = JobError(error_class=ErrorClass.TERMINAL, reason=Reason.PROOF_MISSING, message="no proof")
AWAY = JobError(error_class=ErrorClass.RETRYABLE, reason=Reason.STORE_UNREACHABLE, message="no route")


def job(*, complete: bool = False, failed: bool = False, deleting: bool = False, name: str = "j") -> JobView:
    return JobView(
        name=name, attempt=1, step="verify", suspended=False, complete=complete, failed=failed, deleting=deleting
    )


def pod(result: JobResult | None = None, ended_at: str = "", trouble: Trouble | None = None) -> PodView:
    return PodView(
        name="j-x1", attempt=1, step="verify", index=0, phase="", result=result, ended_at=ended_at, trouble=trouble
    )


@pytest.mark.parametrize(
    ("jobs", "pods", "outcome"),
    [
        ([], [], Begin()),
        ([job(name="other")], [], Begin()),
        ([job()], [pod()], GoingOn("its pod is at work")),
        (
            [job()],
            [pod(trouble=Trouble(ConditionReason.UNSCHEDULABLE, "0/1 nodes"))],
            GoingOn("0/1 nodes"),
        ),
        ([job()], [pod(JobResult(error=DENIED))], GoingOn("tried again: no proof")),
        ([job(deleting=True, failed=True)], [], GoingOn("its last attempt is being removed")),
        ([job(complete=True)], [pod(JobResult(metrics={"signers": 1}))], Ended(JobResult(metrics={"signers": 1}))),
        ([job(complete=True)], [], Ended(None)),
        ([job(failed=True)], [pod(JobResult(error=DENIED), AT)], GaveUp(Reason.PROOF_MISSING, "no proof", AT, True)),
        ([job(failed=True)], [pod(JobResult(error=AWAY), AT)], GaveUp(Reason.STORE_UNREACHABLE, "no route", AT)),
        ([job(failed=True)], [], GaveUp(ConditionReason.POD_FAILED, "its pod ended without a word")),
    ],
)
def test_the_outcome_of_a_job(jobs: list[JobView], pods: list[PodView], outcome: errand.Outcome) -> None:
    assert errand.look(RunView(tuple(jobs), tuple(pods)), "j", "verify") == outcome


WELL, BAD = JobResult(metrics={"signers": 1}), JobResult(error=DENIED)


def left(result: JobResult | None, code: int) -> PodView:
    """A pod whose `main` has ended and which something else keeps going."""
    return replace(pod(result, AT), phase="Running", exit_code=code, lingers=True, uid="u")


@pytest.mark.case("side-car")
@pytest.mark.parametrize(
    ("jobs", "pods", "outcome", "done"),
    [
        ([job()], [left(WELL, 0)], Ended(WELL), Lingering(job(), left(WELL, 0))),
        (
            [job()],
            [left(BAD, 65)],
            GaveUp(Reason.PROOF_MISSING, "no proof", AT, True),
            Lingering(job(), left(BAD, 65)),
        ),
        (
            [job()],
            [left(JobResult(error=AWAY), 75)],
            GoingOn("tried again: no route"),
            Lingering(ended=(left(JobResult(error=AWAY), 75),)),
        ),
        ([job()], [left(None, 137)], GoingOn("its pod is at work"), Lingering(ended=(left(None, 137),))),
        ([replace(job(), answer=WELL, answered_at=AT)], [], Ended(WELL), Lingering()),
        (
            [replace(job(), answer=BAD, answered_at=AT)],
            [left(BAD, 65)],
            GaveUp(Reason.PROOF_MISSING, "no proof", AT, True),
            Lingering(),
        ),
        ([job(deleting=True)], [left(WELL, 0)], GoingOn("its last attempt is being removed"), Lingering()),
        ([job(complete=True)], [left(WELL, 0)], Ended(WELL), Lingering()),
        ([job(name="other")], [left(WELL, 0)], Begin(), Lingering()),
    ],
)
def test_a_side_car_keeps_nobody_from_what_main_has_said(
    jobs: list[JobView], pods: list[PodView], outcome: errand.Outcome, done: Lingering
) -> None:
    view = RunView(tuple(jobs), tuple(pods))
    assert errand.look(view, "j", "verify") == outcome
    assert errand.lingering(view, "j", "verify") == done


@pytest.mark.parametrize(
    ("outcome", "asked", "now", "decision"),
    [
        (Begin(), SAME, NOW, Verify()),
        (GoingOn("x"), SAME, NOW, Verifying("x")),
        (Ended(None), SAME, NOW, Verified()),
        (Ended(None), Asked("sha256:new", "sha256:old"), NOW, Verified()),
        (REFUSED, SAME, NOW, Unproven(Reason.PROOF_ALTERED, "sha256:a is not sha256:b", 1800.0)),
        (REFUSED, Asked("sha256:new", "sha256:old"), NOW, Anew()),
        (REFUSED, SAME, NOW + AGAIN, Anew()),
        (GaveUp(Reason.PROOF_ALTERED, "its pod is gone"), SAME, NOW, Anew()),
        (Ended(None), Asked("", "", same=False), NOW, Anew()),
        (GoingOn("x"), Asked("", "", same=False), NOW, Anew()),
        (Begin(), Asked("", "", same=False), NOW, Verify()),
    ],
)
def test_what_is_done(outcome: errand.Outcome, asked: Asked, now: datetime, decision: Decision) -> None:
    assert decide(outcome, asked, now) == decision


def test_only_what_ended_well_and_was_asked_the_very_same_is_verified() -> None:
    for outcome in (Begin(), GoingOn(""), REFUSED, GaveUp(Reason.INTERNAL, "")):
        for same in (True, False):
            for later in (timedelta(), AGAIN * 3):
                assert decide(outcome, Asked("a", "b", same=same), NOW + later) != Verified()
