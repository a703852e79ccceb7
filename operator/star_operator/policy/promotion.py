"""What a Promotion does next, and which Promotions an environment makes, gives up and forgets.

(requirements) -> Begin | Hold          whether its Job may be made
(what its Job answered) -> Step         whether it is done, followed or given up
(policy, what is there) -> auto, superseded, outdated
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from star_contracts.promotion import PromotionOutcome, PromotionState
from star_operator.api.meta import Phase
from star_operator.api.promotion import PromotionStatus, PullRequestStatus, RequirementState, RequirementStatus
from star_operator.api.promotionpolicy import MAX_MADE, MAX_PROMOTED, PromotedStatus, PromotionPolicySpec
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.policy.promotionfacts import FAILED, Requirement
from star_operator.policy.promotionrules import short

MAX_MESSAGE = 1024
KEY_DIGITS = 12
"""Digits of a digest that the name of an automatic Promotion has."""


@dataclass(frozen=True)
class Begin:
    """All requirements hold: make the Job."""


@dataclass(frozen=True)
class Hold:
    """Nothing to do but to wait; say for whom or what."""

    phase: Phase
    reason: AnyReason
    message: str
    seconds: float | None = None
    """How soon something may have changed by time alone."""


def decide(found: Sequence[Requirement], now: float) -> Begin | Hold:
    """Say whether a Promotion may begin. `now` is Unix seconds."""
    open_ = [one for one in found if not one.holds]
    if not open_:
        return Begin()
    failed = [one for one in open_ if one.state is FAILED]
    first = (failed or open_)[0]
    ordered = [first, *(one for one in open_ if one is not first)]
    text = "; ".join(f"{one.name}: {one.message}" for one in ordered)
    times = [one.until.timestamp() for one in open_ if one.until is not None]
    seconds = max(1.0, min(times) - now) if times else None
    return Hold(Phase.GATED if failed else Phase.WAITING, first.reason, text, seconds)


def told_requirements(found: Sequence[Requirement]) -> tuple[RequirementStatus, ...]:
    """Return the requirements as status has them."""
    return tuple(RequirementStatus(name=one.name, state=one.state, message=one.message[:MAX_MESSAGE]) for one in found)


def overridden(requirements: Sequence[RequirementStatus]) -> list[str]:
    """Return the names of the requirements that are done without."""
    return [one.name for one in requirements if one.state is RequirementState.OVERRIDDEN]


@dataclass(frozen=True)
class Step:
    """What follows from what a Job answered."""

    phase: Phase
    reason: AnyReason
    message: str
    follow: bool = False
    """Look at the pull request again later."""


def answered(status: PromotionStatus, outcome: PromotionOutcome, *, branch: str, closing: bool) -> Step:
    """Return what follows from a Job's answer. `branch` is the target's, into which a pull request is merged; `closing`
    says that the Promotion was cancelled.
    """
    request, digest = outcome.pull_request, status.digest
    page = f"pull request {request.url or request.number}" if request is not None else "the pull request"
    stands = outcome.standing is None or outcome.standing == digest
    match outcome.state:
        case PromotionState.COMMITTED | PromotionState.ALREADY_THERE if not stands:
            what = f"commit {outcome.commit}" if outcome.commit else "no commit"
            text = f"{what} was made on {outcome.branch}, and {short(outcome.standing or '')} stands there"
            why = "it was reverted or changed by a later commit, or the Job was told otherwise"
            return Step(Phase.FAILED, ConditionReason.NOT_STANDING, f"{text} instead of {short(digest)}: {why}")
        case PromotionState.COMMITTED:
            return _landed(f"commit {outcome.commit} pins {short(digest)} on {outcome.branch}")
        case PromotionState.ALREADY_THERE:
            return _landed(f"{short(digest)} stands there already: no commit was needed")
        case PromotionState.MERGED if stands:
            return _landed(f"{page} was merged: {short(digest)} stands on {branch}")
        case PromotionState.MERGED:
            found = short(outcome.standing or "")
            text = f"{page} was merged, and {found} stands there instead of {short(digest)}: it was changed in review"
            return Step(Phase.FAILED, ConditionReason.NOT_STANDING, f"{text}, or by a later commit")
        case PromotionState.CLOSED if request is None:
            text = f"spec.cancel is true: no commit of this Promotion is on {outcome.branch}"
            return Step(Phase.FAILED, ConditionReason.CANCELLED, text)
        case PromotionState.CLOSED if closing:
            return Step(Phase.FAILED, ConditionReason.CANCELLED, f"spec.cancel is true: {page} was closed")
        case PromotionState.CLOSED:
            text = f"{page} was closed without being merged; create a new Promotion to try again"
            return Step(Phase.FAILED, ConditionReason.PULL_REQUEST_CLOSED, text)
        case PromotionState.OPENED | PromotionState.OPEN:
            conflict = request is not None and request.mergeable is False
            but = ", which conflicts with its branch by now" if conflict else ""
            text = f"{page}{but}: waits for somebody to merge or close it"
            return Step(Phase.WAITING, ConditionReason.PULL_REQUEST_OPEN, text, follow=True)


def _landed(text: str) -> Step:
    return Step(Phase.SUCCEEDED, ConditionReason.PROMOTED, text)


def with_outcome(status: PromotionStatus, outcome: PromotionOutcome) -> PromotionStatus:
    """Return the status with what a Job answered; what an earlier one said and this one does not know stays."""
    request = outcome.pull_request
    update: dict[str, object] = {
        "commit": outcome.commit or status.commit,
        "branch": outcome.branch or status.branch,
        "from_": status.from_ or outcome.from_digest or "",
    }
    if request is not None:
        state = PromotionState.OPEN if request.state is PromotionState.OPENED else request.state
        update["pull_request"] = PullRequestStatus(
            number=request.number, url=request.url, state=state, mergeable=request.mergeable
        )
    return status.model_copy(update=update)


@dataclass(frozen=True)
class Seen:
    """A Promotion to the environment's place."""

    name: str
    uid: str
    created: str
    digest: str
    phase: Phase
    begun: bool
    cancelled: bool = False
    automatic: bool = False
    """The policy made it."""
    commit: str = ""
    completed: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class Candidate:
    """A digest that could move here."""

    digest: str
    name: str = ""
    """Its Checkpoint; empty where it is known by its URI alone."""
    uri: str = ""


def auto(
    spec: PromotionPolicySpec, candidate: Candidate | None, seen: Sequence[Seen], made: Collection[str], standing: str
) -> Candidate | None:
    """Return the candidate, if a Promotion of it is to be made now: each digest once, and not what stands here."""
    if not spec.auto or candidate is None or candidate.digest == standing:
        return None
    if key_of(candidate.digest) in made or any(one.digest == candidate.digest for one in seen):
        return None
    return candidate


def key_of(digest: str) -> str:
    """Return what names a digest in names."""
    return digest.removeprefix("sha256:")[:KEY_DIGITS]


def with_made(made: Sequence[str], digest: str) -> tuple[str, ...]:
    """Return the record of what was made with one more."""
    return (key_of(digest), *(one for one in made if one != key_of(digest)))[:MAX_MADE]


def superseded(seen: Sequence[Seen]) -> list[Seen]:
    """Return the automatic Promotions that still wait although a later one to the same place has succeeded."""
    done = [one.created for one in seen if one.phase is Phase.SUCCEEDED]
    latest = max(done, default="")
    return [
        one
        for one in seen
        if one.automatic and not one.begun and not one.ended and not one.cancelled and one.created < latest
    ]


def outdated(spec: PromotionPolicySpec, seen: Sequence[Seen]) -> list[Seen]:
    """Return the ended Promotions that the history limits let go; the last one that succeeded always stays."""
    gone: list[Seen] = []
    limits: Mapping[Phase, int] = {
        Phase.SUCCEEDED: spec.successful_history_limit,
        Phase.FAILED: spec.failed_history_limit,
    }
    for phase, limit in limits.items():
        ended = [one for one in seen if one.phase is phase]
        ended.sort(key=lambda one: (one.completed, one.created, one.name), reverse=True)
        gone += ended[limit:]
    return gone


def promoted(before: Sequence[PromotedStatus], seen: Sequence[Seen]) -> tuple[PromotedStatus, ...]:
    """Return the record of what was promoted, the latest first; it outlives the Promotions."""
    rows = {row.uid: row for row in before}
    for one in seen:
        if one.phase is Phase.SUCCEEDED:
            rows[one.uid] = PromotedStatus(
                digest=one.digest, promotion=one.name, uid=one.uid, commit=one.commit, at=one.completed
            )
    ordered = sorted(rows.values(), key=lambda row: (row.at, row.promotion), reverse=True)
    return tuple(ordered[:MAX_PROMOTED])
