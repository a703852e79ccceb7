"""What people ask of a schedule besides its times, and which of its runs are old enough to go."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from star_operator.api.retrainschedule import MAX_OWED, RetrainScheduleSpec
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import BACKFILL_ANNOTATION, RUN_NOW_ANNOTATION
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import to_seconds
from star_operator.policy.schedule.clock import Clock
from star_operator.policy.schedule.types import Memory, Remembered

ALL = "*"


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    namespace: str
    name: str
    tick: int
    succeeded: bool
    referred: bool = False
    """A StarDeployment names something that it made."""


def run_now(memory: Memory, value: str, tenants: Collection[str], now: int) -> Memory:
    """Return the memory with a run asked for in these namespaces: names with commas between them, or `*`.

    Raises InvalidSpec for a namespace that takes no part.
    """
    names = sorted(tenants) if value.strip() == ALL else [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in tenants]
    if unknown or not names:
        text = f"annotation {RUN_NOW_ANNOTATION} names {', '.join(unknown) or 'no namespace'}"
        told = f"{text}: name namespaces that take part (label and selector), or * for all of them"
        raise InvalidSpec(ConditionReason.INVALID_REQUEST, told)
    found = dict(memory.tenants)
    for name in names:
        old = found.get(name) or Remembered(now)
        found[name] = replace(old, asked=now if old.asked is None else old.asked)
    return replace(memory, tenants=found)


def back_fill(memory: Memory, value: str, tenants: Collection[str], one: Clock, now: int) -> Memory:
    """Return the memory with all ticks of an interval owed to all tenants.

    The interval is `<from>/<to>`, both RFC 3339, and `to` is not of it.

    Raises InvalidSpec for what is no such interval, and for one of more ticks than are owed at once.
    """
    text = f"annotation {BACKFILL_ANNOTATION} is {value!r}"
    try:
        begin, end = (to_seconds(part.strip()) for part in value.split("/"))
    except ValueError as error:
        told = f"{text}: write <from>/<to>, e.g. 2026-11-01T00:00:00Z/2026-11-15T00:00:00Z"
        raise InvalidSpec(ConditionReason.INVALID_REQUEST, told) from error
    ticks: list[int] = []
    for tick in one.between(begin - 1, min(end - 1, now)):
        ticks.append(tick)
        if len(ticks) > MAX_OWED:
            told = f"{text}, which are more than {MAX_OWED} times of the schedule: ask for a shorter interval"
            raise InvalidSpec(ConditionReason.INVALID_REQUEST, told)
    if not ticks:
        told = f"{text}, in which the schedule has no time that has passed: correct the interval"
        raise InvalidSpec(ConditionReason.INVALID_REQUEST, told)
    found = dict(memory.tenants)
    for name in tenants:
        old = found.get(name) or Remembered(now)
        found[name] = replace(old, owed=tuple(sorted({*old.owed, *ticks})[:MAX_OWED]))
    return replace(memory, tenants=found)


def outdated(spec: RetrainScheduleSpec, runs: Sequence[Ended], most: int) -> list[Ended]:
    """Return the runs beyond the history limits, oldest first; what a StarDeployment refers to stays.

    `most` is how many of one namespace are remembered at all (proof.share).
    """
    limits: Mapping[bool, int] = {True: spec.successful_runs_history_limit, False: spec.failed_runs_history_limit}
    seen: dict[tuple[str, bool], int] = {}
    both: dict[str, int] = {}
    found = []
    for run in sorted(runs, key=lambda run: run.tick, reverse=True):
        place = run.namespace, run.succeeded
        seen[place] = seen.get(place, 0) + 1
        both[run.namespace] = both.get(run.namespace, 0) + 1
        over = seen[place] > limits[run.succeeded] or both[run.namespace] >= most
        if over and not run.referred:
            found.append(run)
    return found[::-1]
