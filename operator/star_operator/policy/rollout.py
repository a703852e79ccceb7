"""How a revision that has passed its gates takes the traffic over: `spec.rollout`, the last status, who is ready, the
time -> shares.

The new revision gets the weight of each step for its pause, then everything, as far as its ready servers carry it
(`carried`). What they do not carry stays with the revision that it takes over from, whose servers stay until the new
one has everything and all of its servers. One whose servers all stop answering gives everything back, and so does one
that is not wanted any more. Whatever loses its last traffic is kept, without any, until every gateway has heard of it.
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
class Servers:
    """What the revisions' servers can carry."""

    ready: Mapping[str, int]
    """Revision -> its servers that are ready."""
    full: int
    """Ready servers that carry all of the traffic; 0 where it is scaled to nothing, and shares need no server."""
    wanted: int
    """Servers that a revision is to have."""


@dataclass(frozen=True)
class Shares:
    """What is to run, and who gets how much of the traffic."""

    weights: Mapping[str, int]
    """Revision -> percent; the wanted one comes last, and of those with traffic the one that had it first, first."""
    until: datetime | None = None
    """When to decide again, if nothing happens before."""
    target: int = EVERYTHING
    """What the wanted one is to have by the steps. It has less while its ready servers carry less, and more while those
    of the one before it do."""
    replaces: str = ""
    """The revision that the wanted one takes over from; empty once it has everything, with all of its servers."""


def carried(target: int, ready: int, others: int, full: int) -> int:
    """Return the percent of the traffic that a revision gets which is to have `target` of it.

    `ready` are its ready servers, `others` those of the one that has the rest, `full` is how many carry everything.
    Where both together are enough, neither has more than it carries, `ready / full` and `others / full`: the target is
    lowered, or raised, no further than that. Where they are not, each ready server carries the same. Shares are rounded
    down to whole percents, the rest up.
    """
    ready, others = min(ready, full), min(others, full)
    if not full:
        return target
    if ready + others < full:
        return EVERYTHING * ready // (ready + others) if ready else 0
    most, least = EVERYTHING * ready // full, EVERYTHING * (full - others) // full
    return max(least, min(target, most))


def full_count(before: int | None, wanted: int, ready: int) -> int:
    """Return how many ready servers carry all of the traffic.

    They are those that are wanted. What is added counts once it answers: to scale up in the middle of a roll-out must
    not push users over to the new revision, as if servers had been lost. `before` is what the last pass returned, if
    there was one; `ready` are those of the revision that has most of the traffic.
    """
    return wanted if before is None else min(wanted, max(before, ready))


def shares(rollout: Rollout, known: Sequence[RevisionStatus], wanted: str, servers: Servers, now: datetime) -> Shares:
    """Return the shares of the wanted revision and of those before it.

    `known` are the revisions of the last status, in the order of its weights. What is returned follows from the
    arguments alone: a pass whose status was never written is decided again in the same way.
    """
    mine = next((one for one in known if one.name == wanted), None)
    others = [one for one in known if one.name != wanted]
    gone = {one.name: _gone(one, now) for one in others}
    before, at_once = _before(known, others, mine, servers)
    weight, target, due = EVERYTHING, EVERYTHING, None
    if before is not None:
        ready, theirs = servers.ready.get(wanted, 0), servers.ready.get(before.name, 0)
        weight, target, due = _share(rollout, mine, (ready, theirs, servers.full), now, at_once=at_once)
        if weight < EVERYTHING or target < EVERYTHING or ready < servers.wanted:
            del gone[before.name]
        else:
            before = None
    weights = {name: 0 for name, end in gone.items() if now < end}
    ends = [gone[name] for name in weights] + ([due] if due is not None else [])
    if before is not None:
        weights[before.name] = EVERYTHING - weight
    replaces = before.name if before is not None else ""
    return Shares({**weights, wanted: weight}, min(ends, default=None), target, replaces)


def _before(
    known: Sequence[RevisionStatus], others: Sequence[RevisionStatus], mine: RevisionStatus | None, servers: Servers
) -> tuple[RevisionStatus | None, bool]:
    """Return the revision that the wanted one takes over from, and whether that goes without steps.

    It does where the wanted one was there first: who wants it back does not want the other one for any longer.
    """
    if mine is not None and (found := next((one for one in others if one.name == mine.replaces), None)):
        return found, mine.target == EVERYTHING
    first = next((one for one in known if one.weight), None)
    serving = [one for one in others if one.weight]
    most = max(serving, key=lambda one: (servers.ready.get(one.name, 0), one.weight), default=None)
    return most, first is mine


def _share(
    rollout: Rollout, mine: RevisionStatus | None, counts: tuple[int, int, int], now: datetime, *, at_once: bool
) -> tuple[int, int, datetime | None]:
    """Return the wanted revision's weight, its target, and when the next step is due."""
    ready, others, full = counts
    if full and not ready and not others and not at_once:  # while nobody answers, nothing is to be gained by moving
        return (mine.weight, _target(mine), None) if mine is not None else (0, 0, None)
    target, due = (EVERYTHING, None) if at_once else _step(rollout, mine, now)
    weight = carried(target, ready, others, full) if ready or others or not full else target
    if not weight:  # when it comes back it begins with the first step
        return 0, 0, None
    return weight, target, due if weight >= target else None


def _step(rollout: Rollout, mine: RevisionStatus | None, now: datetime) -> tuple[int, datetime | None]:
    """Return what the wanted revision is to have, and until when.

    A step's pause counts while the revision has all of the step's weight. The step it is at follows from that weight
    alone, so that steps may be edited half way.
    """
    at = _target(mine) if mine is not None else 0
    current = next((step for step in reversed(rollout.steps) if step.weight <= at < EVERYTHING), None)
    if mine is not None and current is not None:
        due = (_since(mine, now) if mine.weight >= at else now) + timedelta(seconds=current.pause_seconds)
        if now < due:
            return at, due
    following = next((step for step in rollout.steps if step.weight > at), None)
    if following is None:
        return EVERYTHING, None
    return following.weight, now + timedelta(seconds=following.pause_seconds)


def _target(revision: RevisionStatus) -> int:
    """Return what a revision was to have; a status of an earlier version tells only what it had."""
    return revision.target if revision.target is not None else revision.weight


def _gone(revision: RevisionStatus, now: datetime) -> datetime:
    """Return when a revision may go that gets no traffic from now on. One whose server does not answer may at once."""
    if revision.weight:
        return now + DRAIN
    return _since(revision, now) + DRAIN if revision.ready_replicas else now


def _since(revision: RevisionStatus, now: datetime) -> datetime:
    return datetime.fromisoformat(revision.since) if revision.since else now
