"""How a revision that has passed its gates takes the traffic over: `spec.rollout`, the last status, the time -> shares.

The new revision gets the weight of each step for its pause, then everything. What served before is kept, without
traffic, until every gateway has heard of it. A new revision whose server stops answering gives everything back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from star_operator.api.stardeployment import RevisionStatus, Rollout

EVERYTHING = 100
"""Percent."""
DRAIN = timedelta(seconds=15)
"""Gateways take a new configuration up within 5 s; requests in flight are waited for by the servers themselves."""


@dataclass(frozen=True)
class Shares:
    """What is to run, and who gets how much of the traffic."""

    weights: Mapping[str, int]
    """Revision -> percent; what has served comes first."""
    until: datetime | None = None
    """When to decide again, if nothing happens before."""


def shares(rollout: Rollout, known: Sequence[RevisionStatus], wanted: str, *, ready: bool, now: datetime) -> Shares:
    """Return the shares of the wanted revision and of the one before it.

    `known` are the revisions of the last status; `ready` says whether the wanted one's server answers.
    """
    mine = next((one for one in known if one.name == wanted), None)
    others = [one for one in known if one.name != wanted]
    before = max((one for one in others if one.weight), key=lambda one: one.weight, default=None)
    if before is None:
        gone = next((one for one in others if one.gate == "Passed"), None)
        if gone is not None and mine is not None and now < (end := _since(mine, now) + DRAIN):
            return Shares({gone.name: 0, wanted: EVERYTHING}, end)
        return Shares({wanted: EVERYTHING})
    if not ready:
        return Shares({before.name: EVERYTHING, wanted: 0})
    weight, until = _step(rollout, mine, now)
    return Shares({before.name: EVERYTHING - weight, wanted: weight}, until)


def _step(rollout: Rollout, mine: RevisionStatus | None, now: datetime) -> tuple[int, datetime]:
    """Return the wanted revision's weight, and until when.

    The step it is at follows from its weight alone, so that steps may be edited half way.
    """
    weight = mine.weight if mine is not None else 0
    current = next((step for step in reversed(rollout.steps) if step.weight <= weight), None)
    if mine is not None and current is not None:
        due = _since(mine, now) + timedelta(seconds=current.pause_seconds)
        if now < due:
            return weight, due
    following = next((step for step in rollout.steps if step.weight > weight), None)
    if following is None:
        return EVERYTHING, now + DRAIN
    return following.weight, now + timedelta(seconds=following.pause_seconds)


def _since(revision: RevisionStatus, now: datetime) -> datetime:
    return datetime.fromisoformat(revision.since) if revision.since else now
