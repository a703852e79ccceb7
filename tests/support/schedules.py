"""RetrainSchedules for tests: specs in a line, and decisions at a time."""

from collections.abc import Sequence
from typing import Any

from star_operator.api.retrainschedule import RetrainScheduleSpec
from star_operator.policy.schedule.decide import decide
from star_operator.policy.schedule.types import Decision, Memory, Remembered, Run, Tenant
from tests.support.pipelines import SPEC

HOUR = 3600
TICK = 1_780_272_000
"""2026-06-01T00:00:00Z, a Monday."""


def spec(**fields: Any) -> RetrainScheduleSpec:
    """A schedule of every midnight, UTC; fields in camelCase."""
    return RetrainScheduleSpec.model_validate({"schedule": "0 0 * * *", "pipeline": SPEC, **fields})


def tenants(count: int, **fields: Any) -> list[Tenant]:
    """team-0, team-1, ..."""
    return [Tenant(f"team-{n}", f"uid-{n}", **fields) for n in range(count)]


def known(some: Sequence[Tenant], decided: int = TICK - 1, **fields: Any) -> Memory:
    """What is remembered of tenants that were there before the tick."""
    return Memory({one.namespace: Remembered(decided, **fields) for one in some})


def look(
    what: RetrainScheduleSpec,
    some: Sequence[Tenant],
    *,
    memory: Memory | None = None,
    runs: Sequence[Run] = (),
    now: int = TICK,
) -> Decision:
    """Decide."""
    return decide(what, "uid", memory if memory is not None else known(some), some, runs, now)


def reasons(decision: Decision) -> dict[str, str]:
    """Why each waits."""
    return {wait.namespace: str(wait.reason) for wait in decision.waits}
