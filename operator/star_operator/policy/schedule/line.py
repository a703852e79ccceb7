"""The line of those whose run is due: by the age of their claims and their shares, against what there is room for.

    seconds waited * priority / (1 + runs that the tenant has already)

grows for all of them, so that nobody is overtaken for ever (an accumulating priority queue: Kleinrock, 1964), and
whoever is first is not passed by who needs less.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from star_operator.api.retrainschedule import MOST_LIVE, ConcurrencyPolicy, RetrainScheduleSpec
from star_operator.core.reasons import ConditionReason
from star_operator.policy.schedule.clock import Clock, is_open, opens
from star_operator.policy.schedule.types import Run, Start, Tenant, Wait

FORBID = "spec.concurrencyPolicy Forbid"
MOST = "a namespace has no more at once"


class Claim(NamedTuple):
    """A tenant whose run is due."""

    tenant: Tenant
    tick: int
    since: int
    lapses: int | None
    """When it is given up; None for never."""
    asked: bool
    """A person asked for it: no window holds it up."""
    resumes: Run | None = None
    """The run that is to go on; None where one is to be made."""


class Line:
    """The claims, in the order of their age and share, against what there is room for."""

    def __init__(self, spec: RetrainScheduleSpec, one: Clock, runs: Sequence[Run], now: int) -> None:
        self._spec, self._clock, self._now = spec, one, now
        self._claims: list[tuple[float, int, Claim, Sequence[Run]]] = []
        holding = [run for run in runs if run.holds and (run.live or run.leaving)]
        self._running, self._held = len(holding), sum(run.gpus for run in holding)
        self._before = 0
        """How many stand in the line before the next one: none while there is room."""
        self.starts: list[Start] = []
        self.resumes: list[Run] = []
        self.cancels: list[Run] = []
        self.waits: list[Wait] = []
        self.held_up: list[Claim] = []

    def add(self, claim: Claim, runs: Sequence[Run]) -> None:
        """Put a claim into the line; `runs` are its tenant's."""
        live = [run for run in runs if run.live] if runs else runs
        age = (self._now - claim.since + 1) * claim.tenant.priority / (1 + len(live))
        self._claims.append((-age, _lot(claim.tenant.uid, claim.tick), claim, live))

    def walk(self) -> None:
        """Start whom there is room for."""
        if not self._claims:
            return
        spec, now = self._spec, self._now
        opened = is_open(spec.windows, self._clock.zone, now)
        opening = None if opened else opens(spec.windows, self._clock.zone, now)
        for _, _, claim, live in sorted(self._claims, key=lambda one: one[:2]):
            if not opened and not claim.asked:
                self._wait(claim, ConditionReason.WINDOW_CLOSED, until=opening)
            elif claim.resumes is None and live and spec.concurrency_policy is ConcurrencyPolicy.FORBID:
                self.held_up.append(claim)
                self._wait(claim, ConditionReason.STILL_RUNNING, detail=f"{live[0].name} ({FORBID})")
            elif claim.resumes is None and len(live) >= MOST_LIVE:
                self.held_up.append(claim)
                self._wait(claim, ConditionReason.STILL_RUNNING, detail=f"one of {MOST_LIVE} runs ({MOST})")
            elif claim.tenant.fault:
                self._wait(claim, claim.tenant.fault_reason, detail=claim.tenant.fault)
            elif spec.gpu_budget is not None and claim.tenant.gpus > spec.gpu_budget:
                self._wait(claim, ConditionReason.BUDGET_TOO_SMALL, claim.tenant.gpus, spec.gpu_budget)
            else:
                replaces = claim.resumes is None and spec.concurrency_policy is ConcurrencyPolicy.REPLACE
                self._try(claim, live if replaces else ())

    def _try(self, claim: Claim, replaced: Sequence[Run]) -> None:
        spec, need = self._spec, claim.tenant.gpus
        limit, budget = spec.max_concurrent_runs, spec.gpu_budget
        if self._before:
            self._wait(claim, ConditionReason.IN_LINE, self._before)
            self._before += 1
            return
        leaving = [run for run in replaced if run.holds]
        freed = sum(run.gpus for run in leaving)
        if limit is not None and self._running - len(leaving) >= limit:
            self._before = 1
            self._wait(claim, ConditionReason.RUN_LIMIT, self._running, limit)
        elif budget is not None and self._held - freed + need > budget:
            self._before = 1
            self._wait(claim, ConditionReason.GPU_BUDGET, need, self._held, budget)
        elif replaced:
            self._held += max(0, need - freed)
            self.cancels += [run for run in replaced if not run.cancelling]
            self._wait(claim, ConditionReason.REPLACING, detail=replaced[0].name)
        elif claim.resumes is not None:
            self._running += 1
            self._held += need
            self.resumes.append(claim.resumes)
        else:
            self._running += 1
            self._held += need
            self.starts.append(Start(claim.tenant.namespace, claim.tick, need))

    def _wait(
        self, claim: Claim, reason: ConditionReason, *figures: int, detail: str = "", until: int | None = None
    ) -> None:
        if claim.lapses is not None:
            until = min(until or claim.lapses, claim.lapses)
        self.waits.append(Wait(claim.tenant.namespace, reason, claim.tick, until, detail, figures))


@lru_cache(maxsize=4096)
def _lot(tenant_uid: str, tick: int) -> int:
    """Return what decides between equal claims: another order at each tick, so that no name is always the first."""
    return int.from_bytes(hashlib.sha256(f"{tenant_uid}/{tick}".encode()).digest()[:8], "big")
