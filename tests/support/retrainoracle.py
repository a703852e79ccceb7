"""What should have happened in a simulated year, found without the operator's code (but for each tenant's jitter).

Times of the schedule come from a walk over every minute's wall clock (tests/support/walls.py), room from adding up the
runs minute by minute, the fair wait from a plain queue: first come, first served.
"""

import itertools
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from star_operator.api.retrainschedule import RetrainScheduleSpec, Weekday
from star_operator.policy.schedule.decide import jitter
from tests.support.retraining import RESYNC, Simulated, Year
from tests.support.walls import ticks

MINUTE = 60
NEVER = 1 << 60


@dataclass
class Verdict:
    """Figures of one schedule."""

    ticks: int = 0
    started: int = 0
    missed: int = 0
    """Ticks without a run for which there was room for longer than a resync takes."""
    doubled: int = 0
    """Runs of a tick that had one, beside a run of the same tenant, or of a tick that a newer one had replaced."""
    over_budget_seconds: int = 0
    outside_windows: int = 0
    late: tuple[float, ...] = ()
    """The longest that room stood unused while a run waited for it, in seconds."""
    starvation: float = 0.0
    """The longest wait of all who were due at a tick, over the longest one in a plain queue; the worst tick."""


def judge(year: Year, one: Simulated) -> Verdict:
    """Judge a schedule's year."""
    spec, found = one.spec, Verdict(started=len(one.log))
    times = ticks(spec.schedule, spec.time_zone, year.begin + MINUTE, year.end)
    minutes = _Minutes(year, one)
    found.over_budget_seconds, found.outside_windows = minutes.over_budget(), minutes.outside()
    by_tenant: dict[str, list[tuple[int, int, int]]] = {tenant.namespace: [] for tenant in one.tenants}
    for ran in one.log:
        by_tenant[ran.tenant.namespace].append((ran.tick, ran.start, ran.end))
    fair = _fair_waits(minutes, one, times)
    late: list[float] = []
    waits: dict[int, float] = {}
    for tenant in one.tenants:
        offset = jitter(f"uid-{one.name}", tenant.uid, spec.jitter_seconds)
        mine = by_tenant[tenant.namespace]
        started = {tick: start for tick, start, _ in mine}
        found.doubled += len(mine) - len(started)
        found.doubled += sum(before[2] > after[1] for before, after in itertools.pairwise(mine))
        dues = [time + offset for time in times]
        for at, (time, due) in enumerate(zip(times, dues, strict=True)):
            following = dues[at + 1] if at + 1 < len(dues) else NEVER
            start = started.get(time)
            found.ticks += 1
            found.doubled += start is not None and start >= following
            lapse = due + spec.starting_deadline_seconds if spec.starting_deadline_seconds is not None else NEVER
            idle = minutes.idle(minutes.spread(due, offset), min(start or NEVER, following, lapse, year.end), mine)
            if start is None:
                found.missed += idle > RESYNC
            else:
                late.append(idle)
                waits[time] = max(waits.get(time, 0), start - due)
    found.late = tuple(late)
    ratios = [wait / max(fair.get(time, 0), RESYNC) for time, wait in waits.items()]
    found.starvation = max(ratios, default=0.0)
    return found


class _Minutes:
    """What was the case in each minute of the year."""

    def __init__(self, year: Year, one: Simulated) -> None:
        self.begin, self.count = year.begin, (year.end - year.begin) // MINUTE
        self._spec, self._downtimes, self._one = one.spec, year.downtimes, one
        self.open = _open(one.spec, year.begin, self.count)
        self.up = np.ones(self.count, bool)
        for begin, end in year.downtimes:
            self.up[self._at(begin) : self._at(end - 1) + 1] = False
        most = max(tenant.gpus for tenant in one.tenants)
        held, running = self._sums(whole=False)
        room = np.ones(self.count, bool)
        if one.spec.gpu_budget is not None:
            room &= held + most <= one.spec.gpu_budget
        if one.spec.max_concurrent_runs is not None:
            room &= running < one.spec.max_concurrent_runs
        self._idle = self.up & self.open & room

    def _at(self, moment: int) -> int:
        return int(min(max(0, (moment - self.begin) // MINUTE), self.count))

    def _sums(self, *, whole: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """GPUs and runs in each minute; `whole` counts a run only in minutes that it fills."""
        held, running = np.zeros(self.count + 2, np.int64), np.zeros(self.count + 2, np.int64)
        for ran in self._one.log:
            first = self._at(ran.start + (MINUTE - 1 if whole else 0))
            last = self._at(ran.end - 1) + 1 if not whole else self._at(ran.end)
            if last > first:
                held[first] += ran.tenant.gpus
                held[last] -= ran.tenant.gpus
                running[first] += 1
                running[last] -= 1
        return np.cumsum(held)[: self.count], np.cumsum(running)[: self.count]

    def over_budget(self) -> int:
        """Seconds with more than was allowed, by every second at which a run began or ended."""
        changes = sorted(
            change
            for ran in self._one.log
            for change in ((ran.start, 1, ran.tenant.gpus), (ran.end, -1, -ran.tenant.gpus))
        )
        budget, limit = self._spec.gpu_budget or NEVER, self._spec.max_concurrent_runs or NEVER
        over, held, running, before = 0, 0, 0, self.begin
        for moment, count, gpus in changes:
            over += (moment - before) * (held > budget or running > limit)
            held, running, before = held + gpus, running + count, moment
        return over

    def outside(self) -> int:
        """Runs that began in a minute in which no window was open."""
        return sum(not self.open[self._at(ran.start)] for ran in self._one.log)

    def spread(self, due: int, offset: int) -> int:
        """When a tick is due: anew by its jitter where no operator ran at its time."""
        for begin, end in self._downtimes:
            if begin <= due <= end:
                return end + offset
        return due

    def idle(self, begin: int, end: int, mine: list[tuple[int, int, int]]) -> float:
        """The longest stretch between two times, in seconds, in which a run could have begun all the time.

        It could not while the tenant has one already.
        """
        first, last = self._at(begin + MINUTE - 1), self._at(end)
        if last <= first:
            return 0.0
        idle = self._idle[first:last].copy()
        for _, start, stop in mine:
            low, high = max(first, self._at(start)), min(last, self._at(stop - 1) + 1)
            if high > low:
                idle[low - first : high - first] = False
        edges = np.flatnonzero(np.diff(np.concatenate([[False], idle, [False]]).astype(np.int8)))
        return float(max(edges[1::2] - edges[::2], default=0) * MINUTE)


def _open(spec: RetrainScheduleSpec, begin: int, count: int) -> NDArray[np.bool_]:
    if not spec.windows:
        return np.ones(count, bool)
    zone, week, found = ZoneInfo(spec.time_zone), list(Weekday), np.zeros(count, bool)
    for minute in range(count):
        local = datetime.fromtimestamp(begin + MINUTE * minute, zone)
        now = local.hour * 60 + local.minute
        for one in spec.windows:
            start, end = (60 * int(text[:2]) + int(text[3:]) for text in (one.start, one.end))
            today, yesterday = week[local.weekday()] in one.days, week[local.weekday() - 1] in one.days
            if start < end:
                found[minute] |= today and start <= now < end
            else:
                found[minute] |= (today and now >= start) or (yesterday and now < end)
    return found


def _fair_waits(minutes: _Minutes, one: Simulated, times: list[int]) -> dict[int, float]:
    """By tick: the longest wait of all who are due at it, in a queue where nobody passes anybody."""
    spec = one.spec
    arrivals = deque(
        sorted(
            (time + jitter(f"uid-{one.name}", tenant.uid, spec.jitter_seconds), tenant.namespace, time, number)
            for time in times
            for number, tenant in enumerate(one.tenants)
        )
    )
    budget, limit = spec.gpu_budget or NEVER, spec.max_concurrent_runs or NEVER
    deadline = spec.starting_deadline_seconds or NEVER
    queue: deque[tuple[int, str, int, int]] = deque()
    busy: list[tuple[int, int, int]] = []
    ended: dict[int, int] = {}
    newest: dict[int, int] = {}
    longest: dict[int, float] = {}
    held = 0
    for minute in range(minutes.count):
        now = minutes.begin + MINUTE * (minute + 1)
        while arrivals and arrivals[0][0] <= now:
            due = arrivals.popleft()
            queue.append(due)
            newest[due[3]] = due[2]
        for over in [run for run in busy if run[0] <= now]:
            busy.remove(over)
            held -= over[1]
        if not queue or not (minutes.up[minute] and minutes.open[minute]):
            continue
        held_up = []
        while queue:
            due, _name, time, number = queue[0]
            tenant = one.tenants[number]
            if newest[number] != time or now > due + deadline:
                queue.popleft()
            elif ended.get(number, 0) > now:
                held_up.append(queue.popleft())
            elif held + tenant.gpus <= budget and len(busy) < limit:
                queue.popleft()
                end = now + one.seconds_of(tenant, time)
                busy.append((end, tenant.gpus, number))
                ended[number] = end
                held += tenant.gpus
                longest[time] = max(longest.get(time, 0), now - due)
            else:
                break
        queue.extendleft(reversed(held_up))
    return longest
