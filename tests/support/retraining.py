"""A simulated cluster under RetrainSchedules: an operator that dies and misses events, runs of random lengths.

It asks `star_operator.policy.schedule.decide` whenever the operator would look, does what that says, and writes down
who started when. Nothing here judges; that is tests/support/retrainoracle.py.
"""

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from star_operator.api.retrainschedule import RetrainScheduleSpec
from star_operator.policy.schedule.decide import decide
from star_operator.policy.schedule.types import Memory, Run, Tenant

DAY = 86_400
STEP = 5
"""Minutes in which lengths of runs differ."""
RESYNC = 300
"""Seconds after which the operator looks at everything, whatever it missed."""


@dataclass
class Ran:
    """A run as it was."""

    tenant: Tenant
    tick: int
    start: int
    end: int


@dataclass
class Simulated:
    """A schedule, and what became of it."""

    name: str
    spec: RetrainScheduleSpec
    tenants: Sequence[Tenant]
    lengths: tuple[int, int]
    """Least and greatest minutes of a run."""
    memory: Memory = field(default_factory=Memory)
    log: list[Ran] = field(default_factory=list)
    last: dict[str, Ran] = field(default_factory=dict)
    """The newest run of each tenant."""
    shown: dict[str, Run] = field(default_factory=dict)
    """The same as the cluster shows it."""
    live: set[str] = field(default_factory=set)
    """Tenants whose newest run is shown as one that has not ended."""
    looks: int = 0
    looked: int = -1
    """When the operator looked last."""

    def seconds_of(self, tenant: Tenant, tick: int) -> int:
        """How long the run of a tick takes: the same, whoever starts it and whenever."""
        digest = hashlib.sha256(f"{self.name}/{tenant.uid}/{tick}".encode()).digest()
        least, most = (minutes // STEP for minutes in self.lengths)
        return 60 * STEP * (least + int.from_bytes(digest[:4], "big") % (most - least + 1))

    def runs(self, now: int) -> list[Run]:
        """The newest run of each tenant, as the cluster shows them."""
        for name in [name for name in self.live if self.last[name].end <= now]:
            self.live.remove(name)
            self.shown[name] = replace(self.shown[name], live=False)
        return list(self.shown.values())

    def begin(self, tenant: Tenant, tick: int, now: int) -> Ran:
        """A run begins."""
        ran = Ran(tenant, tick, now, now + self.seconds_of(tenant, tick))
        self.log.append(ran)
        self.last[tenant.namespace] = ran
        self.shown[tenant.namespace] = Run(tenant.namespace, f"run-{tick}", tick, tenant.gpus)
        self.live.add(tenant.namespace)
        return ran


@dataclass
class Year:
    """Schedules over some days."""

    schedules: Sequence[Simulated]
    begin: int
    end: int
    seed: int = 0
    downtimes: list[tuple[int, int]] = field(default_factory=list)
    crashes: int = 0
    """Times at which the operator died between making runs and writing that down."""
    lost: int = 0
    """Events that it never heard of."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        at = self.begin
        while (at := at + int(self._random.expovariate(1 / (2.5 * DAY))) + 1) < self.end:
            until = at + int(min(self._random.expovariate(1 / 2000), DAY)) + 5
            self.downtimes.append((at, until))
            at = until
        self._heap: list[tuple[int, int]] = [(self.begin, number) for number in range(len(self.schedules))]
        self._down = 0

    def run(self) -> None:
        """Go through all of it."""
        while self._heap:
            at, number = heapq.heappop(self._heap)
            if at >= self.end:
                return
            up = self._up_at(at)
            if up > at:
                self._look_at(up, number)
                continue
            one = self.schedules[number]
            if at != one.looked:
                one.looked = at
                self._look(one, number, at)

    def _look(self, one: Simulated, number: int, now: int) -> None:
        one.looks += 1
        decision = decide(one.spec, f"uid-{one.name}", one.memory, one.tenants, one.runs(now), now)
        by_name = {tenant.namespace: tenant for tenant in one.tenants} if decision.starts else {}
        crashes = bool(decision.starts) and self._random.random() < 0.01
        starts = decision.starts[: self._random.randint(0, len(decision.starts))] if crashes else decision.starts
        for start in starts:
            self._ended(one.begin(by_name[start.namespace], start.tick, now).end, number)
        if crashes:
            self.crashes += 1
            self._dies(now)
            self._look_at(self._up_at(now), number)
            return
        one.memory = decision.memory
        if decision.memory.next_look is not None:
            self._look_at(decision.memory.next_look, number)

    def _ended(self, at: int, number: int) -> None:
        """A run ends: an event, which may be lost until the next resync."""
        if self._random.random() < 0.03:
            self.lost += 1
            at = (at // RESYNC + 1) * RESYNC
        self._look_at(at, number)

    def _look_at(self, at: int, number: int) -> None:
        heapq.heappush(self._heap, (at, number))

    def _dies(self, now: int) -> None:
        until = now + self._random.randint(1, 600)
        following = self.downtimes[self._down] if self._down < len(self.downtimes) else None
        if following is not None and following[0] <= until:
            self.downtimes[self._down] = (now, max(until, following[1]))
        else:
            self.downtimes.insert(self._down, (now, until))

    def _up_at(self, at: int) -> int:
        """When an operator runs at this time, or next."""
        while self._down < len(self.downtimes) and self.downtimes[self._down][1] <= at:
            self._down += 1
        if self._down < len(self.downtimes) and self.downtimes[self._down][0] <= at:
            return self.downtimes[self._down][1]
        return at


def tenants(count: int, gpus: Callable[[int], int]) -> list[Tenant]:
    """Tenants of two priorities."""
    return [
        Tenant(f"team-{n:03d}", f"uid-team-{n:03d}", priority=4 if n % 10 == 0 else 1, gpus=gpus(n))
        for n in range(count)
    ]


def midnight(year: int, month: int = 1, day: int = 1) -> int:
    """Unix seconds of a day's beginning, UTC."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())
