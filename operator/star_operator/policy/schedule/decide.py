"""Who starts when: (spec, what is remembered, tenants, runs, now) -> starts, waits with their reasons, the next look.

A tick is a time of the schedule. It is due for a tenant some seconds later, always the same ones (its jitter). A due
tick makes one claim of its tenant; a later one takes its place and keeps its age. The claims stand in one line
(policy/schedule/line.py). After a time in which no operator ran, the newest tick alone counts, and is spread anew.

All times are Unix seconds (int). Whatever is remembered is in the schedule's status, and the runs themselves heal it:
a tick that has a run has been decided, whoever died before writing that down.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from star_operator.api.retrainschedule import RetrainScheduleSpec, TriggerType
from star_operator.core.reasons import ConditionReason
from star_operator.policy.schedule.clock import Clock, clock
from star_operator.policy.schedule.line import Claim, Line
from star_operator.policy.schedule.types import Decision, Memory, News, Remembered, Run, Tenant, Wait

NOT_YET = frozenset({ConditionReason.NOT_DUE, ConditionReason.SUSPENDED, ConditionReason.DEADLINE_MISSED})
LATE_SECONDS = 60
"""A look that comes so much later than it was meant to tells that no operator ran."""


def decide(
    spec: RetrainScheduleSpec, uid: str, memory: Memory, tenants: Sequence[Tenant], runs: Sequence[Run], now: int
) -> Decision:
    """Return what to do now.

    Raises InvalidSpec (scheduleclock.clock) for a schedule or a zone that cannot be followed.
    """
    one = clock(spec.schedule, spec.time_zone)
    down = memory.down
    if memory.next_look is not None and now - memory.next_look > LATE_SECONDS:
        down = (memory.next_look, now)
    ticks = _Ticks.of(spec, one, down, now)
    last = ticks.recent[-1] if ticks.recent else 0
    of: dict[str, list[Run]] = {}
    odd: list[Run] = []
    for run in runs:
        if run.namespace in of:
            of[run.namespace].append(run)
        else:
            of[run.namespace] = [run]
        if run.resumes is not None or run.lapses is not None:
            odd.append(run)
    line = Line(spec, one, runs, now)
    for back in [] if spec.suspend else _resuming(tenants, odd):
        line.add(back, [run for run in of[back.tenant.namespace] if run is not back.resumes])
    waits: list[Wait] = []
    wakes = [] if ticks.following is None else [ticks.following]
    kept: dict[str, Remembered] = {}
    for tenant in tenants:
        old = memory.tenants.get(tenant.namespace) or Remembered(now)
        if old.decided >= last and old.asked is None and not old.owed:
            kept[tenant.namespace] = old
            continue
        mine = of.get(tenant.namespace, ())
        old = _healed(old, mine)
        kept[tenant.namespace], claim, wait = _claim(spec, uid, ticks, tenant, old, now)
        if wait is not None:
            waits.append(wait)
        if claim is not None:
            line.add(claim, mine)
            if len(ticks.recent) > 1:
                wakes += ticks.coming(jitter(uid, tenant.uid, spec.jitter_seconds), now)
    line.walk()
    for start in line.starts:
        kept[start.namespace] = _started(kept[start.namespace], start.tick)
    for claim in line.held_up:  # its own runs are in the way, not the others': it does not stand in the line yet
        kept[claim.tenant.namespace] = replace(kept[claim.tenant.namespace], since=None)
    waits += line.waits
    wakes += [now + 1] if any(kept[start.namespace].owed for start in line.starts) else []
    wakes += [wait.until for wait in waits if wait.until is not None]
    wakes += [run.lapses for run in odd if run.lapses is not None]
    look = max(now + 1, min(wakes)) if wakes else None
    told = Memory(kept, look, down)
    resumes = tuple(line.resumes)
    return Decision(tuple(line.starts), tuple(line.cancels), tuple(waits), told, resumes, last or None, ticks.following)


def _resuming(tenants: Sequence[Tenant], runs: Sequence[Run]) -> list[Claim]:
    """Return the claims of runs that were suspended and are to go on: they stand in the same line as new ones."""
    some = [(run, run.resumes) for run in runs if run.resumes is not None]
    if not some:
        return []
    known = {one.namespace: one for one in tenants}
    found = []
    for run, since in some:
        one = known.get(run.namespace) or Tenant(run.namespace, run.namespace)  # it takes no part any more
        tenant = replace(one, gpus=run.gpus, fault="")
        found.append(Claim(tenant, run.tick, since, None, asked=True, resumes=run))
    return found


def going_on(spec: RetrainScheduleSpec, runs: Sequence[Run], now: int) -> tuple[Run, ...]:
    """Return the runs that take their place again, whether or not the schedule's times and zone can be followed."""
    plain = spec.model_copy(update={"schedule": "0 0 1 1 *", "time_zone": "Etc/UTC", "windows": ()})
    return decide(plain, "", Memory(), (), runs, now).resumes


def due(
    spec: RetrainScheduleSpec, uid: str, memory: Memory, tenants: Sequence[Tenant], runs: Sequence[Run], now: int
) -> dict[str, int]:
    """Return the tenants of which more has to be known before deciding, with the tick that it is for."""
    asking = [replace(tenant, news=News.YES, fault="", gpus=0) for tenant in tenants]
    free = spec.model_copy(update={"gpu_budget": None, "max_concurrent_runs": None})
    found = decide(free, uid, memory, asking, runs, now)
    starts = {one.namespace: one.tick for one in found.starts}
    return starts | {one.namespace: one.tick for one in found.waits if one.reason not in NOT_YET}


@dataclass(frozen=True, slots=True)
class _Ticks:
    """The ticks that may be due now."""

    recent: tuple[int, ...]
    """The last one before the time of the jitter, and those within it."""
    following: int | None
    down: tuple[int, int] | None

    def coming(self, offset: int, now: int) -> list[int]:
        """Return when the next tick of these is due; nothing when all are."""
        at = bisect_right(self.recent, now - offset)
        return [self.recent[at] + offset] if at < len(self.recent) else []

    @classmethod
    def of(cls, spec: RetrainScheduleSpec, one: Clock, down: tuple[int, int] | None, now: int) -> "_Ticks":
        begin = now - spec.jitter_seconds
        oldest = one.latest(begin)
        before = () if oldest is None else (oldest,)
        return cls((*before, *one.between(begin, now)), one.following(now), down)


def _healed(old: Remembered, runs: Sequence[Run]) -> Remembered:
    """Return what is remembered of a tenant, with the runs that it has."""
    decided = old.decided
    for run in runs:
        decided = max(decided, run.tick)
    if decided == old.decided and old.asked is None and not old.owed:
        return old
    ticks = {run.tick for run in runs}
    asked = old.asked if old.asked is not None and old.asked not in ticks else None
    began = decided > old.decided
    owed = tuple(tick for tick in old.owed if tick not in ticks)
    return Remembered(decided, None if began else old.since, asked, owed)


def _started(old: Remembered, tick: int) -> Remembered:
    asked = None if old.asked == tick else old.asked
    return Remembered(max(old.decided, tick), None, asked, tuple(one for one in old.owed if one != tick))


def _claim(
    spec: RetrainScheduleSpec, uid: str, ticks: _Ticks, tenant: Tenant, old: Remembered, now: int
) -> tuple[Remembered, Claim | None, Wait | None]:
    """Return what a tenant is remembered by, its claim, and why it has none, where a tick is meant for it."""
    if spec.suspend:
        behind = Remembered(max((old.decided, *ticks.recent)), None, old.asked, old.owed)
        return behind, None, Wait(tenant.namespace, ConditionReason.SUSPENDED, behind.decided)
    if old.asked is not None:
        return _aging(old, now), Claim(tenant, old.asked, old.since or now, None, asked=True), None
    offset = jitter(uid, tenant.uid, spec.jitter_seconds) if spec.jitter_seconds else 0
    at = bisect_right(ticks.recent, now - offset)
    newest = ticks.recent[at - 1] if at else old.decided
    if newest > old.decided:
        begins = _due_at(spec, ticks.down, newest, offset)
        if begins <= now or old.since is not None:  # in the line already: it takes the place of the one before
            return _ripe(spec, tenant, old, newest, newest + offset, now)
        return old, None, Wait(tenant.namespace, ConditionReason.NOT_DUE, newest, begins)
    if old.owed:
        return _aging(old, now), Claim(tenant, old.owed[0], old.since or now, None, asked=True), None
    early = ticks.recent[at] if at < len(ticks.recent) else None
    return old, None, Wait(tenant.namespace, ConditionReason.NOT_DUE, early, early + offset) if early else None


def _ripe(
    spec: RetrainScheduleSpec, tenant: Tenant, old: Remembered, tick: int, at: int, now: int
) -> tuple[Remembered, Claim | None, Wait | None]:
    """Return the same for a tick that is due."""
    deadline = spec.starting_deadline_seconds
    if deadline is not None and now > at + deadline:
        given_up = replace(old, decided=tick, since=old.since or at)  # it keeps its age: next time it goes first
        return given_up, None, Wait(tenant.namespace, ConditionReason.DEADLINE_MISSED, tick, figures=(deadline,))
    if spec.trigger.type is not TriggerType.SCHEDULE and tenant.news is not News.YES:
        drift = spec.trigger.type is TriggerType.DRIFT
        if tenant.news is News.UNKNOWN:
            return old, None, Wait(tenant.namespace, ConditionReason.PROBING, tick, detail=tenant.detail)
        reason = ConditionReason.NOT_DRIFTED if drift else ConditionReason.NOTHING_NEW
        return replace(old, decided=tick, since=None), None, Wait(tenant.namespace, reason, tick)
    lapses = None if deadline is None else at + deadline + 1
    return _aging(old, now), Claim(tenant, tick, old.since or now, lapses, asked=False), None


def _aging(old: Remembered, now: int) -> Remembered:
    return old if old.since is not None else replace(old, since=now)


def _due_at(spec: RetrainScheduleSpec, down: tuple[int, int] | None, tick: int, offset: int) -> int:
    """Return when a tick is due: what fell into a time without an operator is spread anew from its end."""
    at = tick + offset
    if down is None or not down[0] <= at <= down[1]:
        return at
    deadline = spec.starting_deadline_seconds
    left = offset if deadline is None else max(0, at + deadline - down[1]) // 2
    return down[1] + min(offset, left)


@lru_cache(maxsize=4096)
def jitter(schedule_uid: str, tenant_uid: str, seconds: int) -> int:
    """Return the tenant's jitter, 0 to `seconds`: always the same, and evenly spread."""
    digest = hashlib.sha256(f"{schedule_uid}/{tenant_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (seconds + 1)
