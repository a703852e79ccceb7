"""Some simulated days against the oracle: what `make bench-schedule` does with a year and 200 tenants."""

import statistics
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from star_operator.api.retrainschedule import RetrainScheduleSpec
from star_operator.policy.schedule import decide as schedule
from star_operator.policy.schedule import line
from star_operator.policy.schedule.types import Decision
from tests.bench.bench_schedule import DAY, PIPELINE, benchmark
from tests.support import retraining


@pytest.mark.parametrize("seed", range(3))
def test_some_days_of_twenty_tenants(seed: int) -> None:
    found = benchmark(20, 60, seed)
    assert (found["missed"], found["doubled"], found["over_budget_seconds"], found["outside_windows"]) == (0, 0, 0, 0)
    assert found["late_p99_s"] <= 300
    assert found["starvation_max_ratio"] <= 1.5
    assert found["runs"] > 1000


def forgetful(*args: Any) -> Decision:
    """Leaves one tenant out, and takes it for done."""
    found = schedule.decide(*args)
    return replace(found, starts=tuple(start for start in found.starts if start.namespace != "team-003"))


def generous(spec: Any, *args: Any) -> Decision:
    """Heeds no limit."""
    return schedule.decide(spec.model_copy(update={"gpu_budget": None, "max_concurrent_runs": None}), *args)


def sleepy(*args: Any) -> Decision:
    """Looks a quarter of an hour late."""
    found = schedule.decide(*args)
    look = found.memory.next_look
    return replace(found, memory=replace(found.memory, next_look=look + 900 if look is not None else None))


def early(spec: Any, *args: Any) -> Decision:
    """Knows no windows."""
    return schedule.decide(spec.model_copy(update={"windows": ()}), *args)


@pytest.mark.parametrize(
    ("broken", "figure", "limit"),
    [
        (forgetful, "missed", 0),
        (generous, "over_budget_seconds", 0),
        (sleepy, "late_p99_s", 300),
        (early, "outside_windows", 0),
    ],
)
def test_the_oracle_finds_a_decision_that_is_broken(
    monkeypatch: pytest.MonkeyPatch, broken: Any, figure: str, limit: float
) -> None:
    monkeypatch.setattr(retraining, "decide", broken)
    assert benchmark(20, 20, 0)[figure] > limit


def test_it_finds_what_is_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_healed", lambda old, runs: old)
    assert benchmark(20, 60, 0)["doubled"] > 0


def gaps(days: int = 30) -> dict[str, float]:
    """An hourly schedule with room for half of its tenants: the longest time between two runs of each, in hours."""
    spec = {"schedule": "0 * * * *", "gpuBudget": 40, "startingDeadlineSeconds": 1800, "pipeline": PIPELINE}
    some = retraining.tenants(20, lambda n: 8 if n % 5 == 0 else 4)
    some = [replace(one, priority=1) for one in some]
    one = retraining.Simulated("hourly", RetrainScheduleSpec.model_validate(spec), some, (40, 55))
    begin = retraining.midnight(2026)
    retraining.Year([one], begin, begin + days * DAY).run()
    starts: dict[str, list[int]] = {tenant.namespace: [begin] for tenant in some}
    for ran in one.log:
        starts[ran.tenant.namespace].append(ran.start)
    ends = {name: [*found, begin + days * DAY] for name, found in starts.items()}
    return {name: max(b - a for a, b in pairwise(found)) / 3600 for name, found in ends.items()}


def test_nobody_starves_where_there_is_never_room_for_all() -> None:
    found = gaps()
    assert max(found.values()) <= 1.5 * statistics.median(found.values())


def test_it_finds_who_is_passed_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class ByName(line.Line):
        """The same ones first at every tick."""

        def add(self, claim: Any, runs: Any) -> None:
            super().add(claim, runs)
            self._claims[-1] = (float(claim.tenant.namespace[-2:]), *self._claims[-1][1:])

    monkeypatch.setattr(schedule, "Line", ByName)
    found = gaps()
    assert max(found.values()) > 10 * min(found.values())
