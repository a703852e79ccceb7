"""How a revision that has passed its gates takes the traffic over: `spec.rollout`, the last status, the time -> shares.

The new revision gets the weight of each step for its pause, then everything. One whose server stops answering gives
everything back, and so does one that is not wanted any more, at once. Whatever loses its last traffic is kept, without
any, until every gateway has heard of it.
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
    """Revision -> percent; the wanted one comes last, and of those with traffic the one that had it first, first."""
    until: datetime | None = None
    """When to decide again, if nothing happens before."""


def shares(rollout: Rollout, known: Sequence[RevisionStatus], wanted: str, *, ready: bool, now: datetime) -> Shares:
    """Return the shares of the wanted revision and of those before it.

    `known` are the revisions of the last status, in the order of its weights; `ready` says whether the wanted one's
    server answers. What is returned follows from them and the time alone: a pass whose status was never written is
    decided again in the same way.
    """
    others = [one for one in known if one.name != wanted]
    gone = {one.name: _gone(one, now) for one in others}
    weights = {name: 0 for name, due in gone.items() if now < due}
    weight, step_ends = EVERYTHING, None
    if next((one.name for one in known if one.weight), wanted) != wanted:
        mine = next((one for one in known if one.name == wanted), None)
        weight, step_ends = _step(rollout, mine, now) if ready else (0, None)
        weights[max(others, key=lambda one: one.weight).name] = EVERYTHING - weight
    ends = [gone[name] for name, others_weight in weights.items() if not others_weight]
    ends += [step_ends] if step_ends is not None else []
    return Shares({**weights, wanted: weight}, min(ends, default=None))


def _gone(revision: RevisionStatus, now: datetime) -> datetime:
    """Return when a revision may go that gets no traffic from now on. One whose server does not answer may at once."""
    if revision.weight:
        return now + DRAIN
    return _since(revision, now) + DRAIN if revision.ready_replicas else now


def _step(rollout: Rollout, mine: RevisionStatus | None, now: datetime) -> tuple[int, datetime | None]:
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
        return EVERYTHING, None
    return following.weight, now + timedelta(seconds=following.pause_seconds)


def _since(revision: RevisionStatus, now: datetime) -> datetime:
    return datetime.fromisoformat(revision.since) if revision.since else now
