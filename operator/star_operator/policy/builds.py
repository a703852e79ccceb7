"""Whose turn it is to move to another build: (what runs, what an upgrade has changed) -> what moves now.

**What runs keeps its build.** An upgrade of the operator, or another value of its chart, may give every server of the
cluster another image, another environment or another shape. None of them is worth an interruption, so:

- what its own resource asks for differently is made anew at once, as ever;
- a shared server keeps its build while somebody uses it;
- the servers of a StarDeployment move to the new one when it is its turn, without a gap, a few deployments at a time
  and in the order of their names, so that a build which does not come up stops at the first;
- what has nothing to lose moves at once: what is scaled to nothing, and what does not come up as it is.

A copy of a server of several nodes moves only while all others are whole, whoever has asked for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from star_operator.api.meta import Condition
from star_operator.core.reasons import ConditionReason
from star_operator.policy.conditions import OUTDATED, set_condition

SETTLE = timedelta(seconds=60)
"""All that waits for a turn has said so by then, and the operator that was upgraded is there to stay."""
NOW, NEVER = "now", "never"
"""Values of the annotation by which a person decides."""


class Change(Enum):
    """What differs between a workload and what it would be made as today."""

    NOTHING = "nothing"
    ASKED = "asked"
    """Its resource asks for something else."""
    BUILD = "build"
    """The operator, or its settings, would make something else of it."""


@dataclass(frozen=True)
class Unit:
    """What moves as one: a Deployment, or the workloads of one copy of a server of several nodes."""

    name: str
    change: Change
    wanted: int
    """Pods that it is to have."""
    answers: bool
    """Some of its pods are ready."""
    whole: bool
    """All of them are, and all are of its last template."""


def moving(units: Sequence[Unit], *, turn: bool, stuck: bool) -> set[str]:
    """Return the names of those that are made anew now.

    `turn` says that an upgrade may reach them, `stuck` that something keeps the server from coming up.
    """
    found = set()
    for unit in units:
        others_whole = all(one.whole for one in units if one is not unit)
        free = not unit.wanted or (stuck and not unit.answers)
        asked = unit.change is Change.ASKED or (unit.change is Change.BUILD and turn)
        if unit.change is Change.NOTHING or not (free or asked):
            continue
        if free or not unit.answers:
            found.add(unit.name)
        elif others_whole:
            return found | {unit.name}
    return found


@dataclass(frozen=True)
class Standing:
    """How a StarDeployment stands to the present build."""

    behind: bool
    """Some of its servers are of another one."""
    moves: bool
    """Some of its servers are being replaced."""
    whole: bool
    """One revision serves, and has all of its servers."""
    gapless: bool
    """Its servers can be replaced without a gap."""
    running: bool
    """It has servers: it is neither suspended nor scaled to nothing."""
    wish: str = ""
    """The annotation."""


@dataclass(frozen=True)
class Line:
    """Who else moves, or waits to."""

    at_once: int
    """How many may move at the same time."""
    moving: Sequence[str]
    """`namespace/name` of the others that move."""
    first: bool
    """It is the first of those that wait."""


@dataclass(frozen=True)
class Turn:
    """Whether a StarDeployment's servers move, and what is said of it."""

    now: bool
    reason: ConditionReason | None = None
    """Of the condition Outdated; None where there is none."""
    message: str = ""


NO_TURN = Turn(False)


def turn(standing: Standing, before: ConditionReason | None, since: datetime, line: Line, now: datetime) -> Turn:
    """Return whether it is a StarDeployment's turn. `before` is what its condition Outdated has said since when.

    Who gets the turn says so first and moves in a later pass: others must be able to count it.
    """
    moves = before is ConditionReason.UPDATING
    if not standing.behind and not (moves and standing.moves):
        return NO_TURN
    if not standing.running:
        return Turn(True)
    if moves and standing.wish != NEVER:
        return Turn(
            True, ConditionReason.UPDATING, "its servers are replaced by those of the present build, one by one"
        )
    if not standing.behind:
        return NO_TURN
    if standing.wish == NOW:
        text = f"its servers are replaced at once, as its annotation says {NOW}"
        return Turn(True, ConditionReason.UPDATING, text)
    kept = "its servers are of an earlier build of the operator or its settings, and go on as they are"
    if (why := _held(standing, line)) is not None:
        return Turn(False, ConditionReason.UPDATE_HELD, f"{kept}: {why}")
    waited = before is ConditionReason.UPDATE_WAITING and now >= since + SETTLE
    if waited and line.first and len(line.moving) < line.at_once:
        return Turn(False, ConditionReason.UPDATING, "its servers are about to be replaced, one by one")
    others = f" ({', '.join(line.moving[:3])})" if line.moving else ""
    text = f"{kept} until it is its turn; {line.at_once} at a time are moved{others}, in the order of their names"
    return Turn(False, ConditionReason.UPDATE_WAITING, text)


def with_outdated(conditions: tuple[Condition, ...], found: Turn, generation: int, now: str) -> tuple[Condition, ...]:
    """Return the conditions with what was decided."""
    if found.reason is None:
        return tuple(one for one in conditions if one.type != OUTDATED)
    new = Condition(
        type=OUTDATED, status="True", reason=found.reason, message=found.message, observed_generation=generation
    )
    return set_condition(conditions, new, now)


def _held(standing: Standing, line: Line) -> str | None:
    """Return why it is not in line."""
    if standing.wish == NEVER:
        return f"its annotation says {NEVER}"
    if not line.at_once:
        return "settings.serverUpdates of the chart is 0"
    if not standing.gapless:
        return "there is one alone, and no room for a second beside it; the next checkpoint brings the present build"
    if not standing.whole:
        return "not all of its servers are ready, or another revision takes over"
    return None
