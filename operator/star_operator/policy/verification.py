"""Whether a checkpoint may be served, as far as it is verified: (the Job's outcome, proofs, time) -> what to do."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from star_operator.core.reasons import AnyReason
from star_operator.core.times import parse_timestamp
from star_operator.policy.errand import Begin, Ended, GaveUp, GoingOn, Outcome

AGAIN = timedelta(hours=1)
"""What was refused is looked at again this often: somebody may have restored it. A new proof is looked at at once."""


@dataclass(frozen=True)
class Verify:
    """Start the Job."""


@dataclass(frozen=True)
class Anew:
    """Delete the Job: there is another proof, or it is time."""


@dataclass(frozen=True)
class Verifying:
    """Wait."""

    message: str


@dataclass(frozen=True)
class Verified:
    """It holds."""


@dataclass(frozen=True)
class Unproven:
    """It does not hold."""

    reason: AnyReason
    message: str
    again_seconds: float
    """When it is looked at again."""


Decision = Verify | Anew | Verifying | Verified | Unproven


@dataclass(frozen=True)
class Asked:
    """What a Job was asked, and what it would be asked now."""

    proof: str
    """Digest of the newest proof."""
    proof_then: str
    """The same, when the Job was made."""
    same: bool = True
    """It was asked the very same: names are short, and somebody may have found another question of its name."""


def decide(outcome: Outcome, asked: Asked, now: datetime) -> Decision:
    """Return what to do."""
    if not asked.same and not isinstance(outcome, Begin):
        return Anew()
    match outcome:
        case Begin():
            return Verify()
        case GoingOn(message):
            return Verifying(message)
        case Ended():
            return Verified()
        case GaveUp(reason, message, at):
            if asked.proof != asked.proof_then or not at:
                return Anew()
            left = (parse_timestamp(at) + AGAIN - now).total_seconds()
            return Anew() if left <= 0 else Unproven(reason, message, left)
