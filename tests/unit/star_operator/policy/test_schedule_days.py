"""Some simulated days against the oracle: what `make bench-schedule` does with a year and 200 tenants."""

import pytest

from tests.bench.bench_schedule import benchmark


@pytest.mark.parametrize("seed", range(3))
def test_some_days_of_twenty_tenants(seed: int) -> None:
    found = benchmark(20, 95, seed)
    assert (found["missed"], found["doubled"], found["over_budget_seconds"], found["outside_windows"]) == (0, 0, 0, 0)
    assert found["late_p99_s"] <= 300
    assert found["starvation_max_ratio"] <= 1.5
    assert found["runs"] > 2000
