"""What a Promotion does after its Job, and which Promotions an environment makes, gives up and forgets."""

from typing import Any

import pytest

from star_contracts.promotion import PromotionState
from star_operator.api.meta import Phase
from star_operator.api.promotion import PromotionStatus
from star_operator.api.promotionpolicy import MAX_MADE, MAX_PROMOTED
from star_operator.core.reasons import ConditionReason
from star_operator.policy import promotion as policy
from tests.support.promotions import COMMIT, DIGEST, OTHER, answer, policy_of

STATUS = PromotionStatus(digest=DIGEST)


@pytest.mark.parametrize(
    ("state", "fields", "phase", "reason", "follow"),
    [
        (PromotionState.COMMITTED, {"commit": COMMIT}, Phase.SUCCEEDED, ConditionReason.PROMOTED, False),
        (PromotionState.ALREADY_THERE, {}, Phase.SUCCEEDED, ConditionReason.PROMOTED, False),
        (PromotionState.COMMITTED, {"standing": OTHER}, Phase.FAILED, ConditionReason.NOT_STANDING, False),
        (PromotionState.ALREADY_THERE, {"standing": OTHER}, Phase.FAILED, ConditionReason.NOT_STANDING, False),
        (PromotionState.OPENED, {"number": 7}, Phase.WAITING, ConditionReason.PULL_REQUEST_OPEN, True),
        (PromotionState.OPEN, {"number": 7}, Phase.WAITING, ConditionReason.PULL_REQUEST_OPEN, True),
        (PromotionState.MERGED, {"number": 7}, Phase.SUCCEEDED, ConditionReason.PROMOTED, False),
        (PromotionState.MERGED, {"number": 7, "standing": OTHER}, Phase.FAILED, ConditionReason.NOT_STANDING, False),
        (PromotionState.CLOSED, {"number": 7}, Phase.FAILED, ConditionReason.PULL_REQUEST_CLOSED, False),
    ],
)
def test_what_follows_from_an_answer(
    state: PromotionState, fields: dict[str, Any], phase: Phase, reason: ConditionReason, follow: bool
) -> None:
    outcome = answer(state, **fields).promotion
    assert outcome is not None
    step = policy.answered(STATUS, outcome, branch="main", closing=False)
    assert (step.phase, step.reason, step.follow) == (phase, reason, follow)


def test_a_closed_request_of_a_cancelled_promotion_was_cancelled() -> None:
    outcome = answer(PromotionState.CLOSED, 7).promotion
    assert outcome is not None
    assert policy.answered(STATUS, outcome, branch="main", closing=True).reason is ConditionReason.CANCELLED


def test_what_was_merged_stands_on_the_branch_that_it_was_merged_into() -> None:
    outcome = answer(PromotionState.MERGED, 7, branch="star/team/p-1").promotion
    assert outcome is not None
    assert policy.answered(STATUS, outcome, branch="main", closing=False).message.endswith(" stands on main")


def test_what_an_earlier_answer_said_stays() -> None:
    opened, open_ = answer(PromotionState.OPENED, 7, commit=COMMIT).promotion, answer(PromotionState.OPEN, 7).promotion
    assert opened is not None
    assert open_ is not None
    later = open_.model_copy(update={"from_digest": DIGEST})
    status = policy.with_outcome(policy.with_outcome(STATUS, opened), later)
    assert (status.commit, status.from_) == (COMMIT, OTHER)
    assert status.pull_request is not None
    assert (status.pull_request.number, status.pull_request.state) == (7, "Open")


def seen(name: str, phase: Phase = Phase.WAITING, **changes: Any) -> policy.Seen:
    given = {"uid": name, "created": name, "digest": f"sha256:{name:0>64}", "begun": False, "automatic": True}
    return policy.Seen(**{"name": name, "phase": phase, **given, **changes})


FROM: dict[str, Any] = {"from": {"series": "s"}}
AUTO = policy_of(auto=True, **FROM).spec
NEW = policy.Candidate(DIGEST, "new")


@pytest.mark.parametrize(
    ("candidate", "others", "made", "standing", "wanted"),
    [
        (NEW, [], (), "", NEW),
        (NEW, [seen("1")], (), OTHER, NEW),
        (None, [], (), "", None),
        (NEW, [], (), DIGEST, None),
        (NEW, [], (policy.key_of(DIGEST),), OTHER, None),
        (NEW, [seen("1", Phase.FAILED, digest=DIGEST)], (), OTHER, None),
    ],
)
def test_auto_makes_one_promotion_of_each_digest(
    candidate: policy.Candidate | None, others: list[policy.Seen], made: tuple[str, ...], standing: str, wanted: Any
) -> None:
    assert policy.auto(AUTO, candidate, others, made, standing) == wanted


def test_nothing_is_made_where_nobody_asked_for_it() -> None:
    assert policy.auto(policy_of().spec, NEW, [], (), "") is None


def test_what_was_made_is_remembered_within_bounds() -> None:
    made: tuple[str, ...] = ()
    for one in range(MAX_MADE + 3):
        made = policy.with_made(made, f"sha256:{one:012}")
    assert len(made) == MAX_MADE
    assert policy.with_made(made, f"sha256:{MAX_MADE:012}")[0] == f"{MAX_MADE:012}"


def test_what_waits_is_superseded_by_a_later_success_alone() -> None:
    waiting, later = seen("1"), seen("3", Phase.SUCCEEDED)
    spared = [seen("2", automatic=False), seen("2", begun=True), seen("4"), seen("1", Phase.FAILED)]
    assert policy.superseded([waiting, later, *spared]) == [waiting]
    assert policy.superseded([waiting, seen("3", begun=True), seen("0", Phase.SUCCEEDED)]) == []


def test_history_limits_keep_what_ended_last() -> None:
    spec = policy_of(successfulHistoryLimit=1, failedHistoryLimit=1).spec
    done = [seen(str(one), Phase.SUCCEEDED, completed=str(one)) for one in (1, 2, 3)]
    failed = [seen(str(one), Phase.FAILED, completed=str(one)) for one in (4, 5)]
    gone = policy.outdated(spec, [*done, *failed, seen("6")])
    assert {one.name for one in gone} == {"1", "2", "4"}


def test_what_was_promoted_outlives_the_promotions() -> None:
    done = [seen(f"{one:04}", Phase.SUCCEEDED, completed=f"{one:04}") for one in range(MAX_PROMOTED + 5)]
    rows = policy.promoted((), done[:-1])
    assert rows == policy.promoted(rows, [])
    rows = policy.promoted(rows, done[-1:])
    assert len(rows) == MAX_PROMOTED
    assert rows[0].promotion == done[-1].name
