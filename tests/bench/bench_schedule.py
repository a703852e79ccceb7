"""A simulated year of three RetrainSchedules over 200 tenants, held against an oracle of its own.

    python -m tests.bench.bench_schedule [--tenants 200] [--days 365] [--seed 0]

Three zones with both changes of the clocks (one of them moves by half an hour), a budget of GPUs, windows, deadlines
and priorities; an operator that is away every few days for minutes to hours, dies between starting runs and writing
that down, and misses one event in thirty. The last line is

    RESULT {"missed": 0, "doubled": 0, "over_budget_seconds": 0, "late_p99_s": ..., ...}

missed                times of a schedule without a run although there was room for longer than a resync takes
doubled               runs of a time that had one, beside another run of the tenant, or of a time long replaced
over_budget_seconds   seconds in which more GPUs were held, or more runs were there, than the schedule allows
late_p99_s            99th percentile over all runs of the seconds that room stood unused while it waited: the longest
                      stretch of each (<= a resync, 300)
starvation_max_ratio  longest wait of those due at a time, over the longest in a plain queue; the worst time (<= 1.5)
outside_windows       runs that began while no window was open
year_s                seconds that the simulation took, decisions and all (<= 60); year_cpu_s of the processor
decide_us             mean microseconds of one decision over all tenants
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from star_operator.api.retrainschedule import RetrainScheduleSpec
from tests.support.retraining import DAY, Simulated, Year, midnight, tenants
from tests.support.retrainoracle import judge

PIPELINE = {"dataset": {"template": {"source": {"format": "MovieLens", "uri": "s3://star/raw/x"}}}}


def schedules(count: int) -> list[Simulated]:
    """Nightly by a budget, weekly within windows by a number of runs, twice a week spread and with a deadline."""
    share = count / 200
    nightly = {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "gpuBudget": max(8, round(112 * share))}
    weekly = {
        "schedule": "30 1 * * SUN",
        "timeZone": "America/New_York",
        "maxConcurrentRuns": max(1, round(24 * share)),
        "windows": [{"days": ["Fri", "Sat", "Sun", "Mon"], "start": "20:00", "end": "09:00"}],
    }
    twice = {
        "schedule": "45 1 * * 1,4",
        "timeZone": "Australia/Lord_Howe",
        "jitterSeconds": 7200,
        "startingDeadlineSeconds": 12 * 3600,
        "gpuBudget": max(8, round(128 * share)),
    }
    kinds = (("nightly", nightly, (10, 90)), ("weekly", weekly, (20, 120)), ("twice", twice, (20, 110)))
    some = tenants(count, lambda n: 8 if n % 5 == 0 else 4)
    return [
        Simulated(name, RetrainScheduleSpec.model_validate({**spec, "pipeline": PIPELINE}), some, lengths)
        for name, spec, lengths in kinds
    ]


def benchmark(count: int, days: int, seed: int) -> dict[str, Any]:
    """Simulate, judge, and return the result."""
    begin = midnight(2026)
    year = Year(schedules(count), begin, begin + days * DAY, seed)
    began, of_cpu = time.perf_counter(), time.process_time()
    year.run()
    took, of_cpu = time.perf_counter() - began, time.process_time() - of_cpu
    verdicts = [judge(year, one) for one in year.schedules]
    for one, found in zip(year.schedules, verdicts, strict=True):
        print(f"{one.name:<8} {found.ticks} times due, {found.started} runs, starvation {found.starvation:.3f}")
    late = np.concatenate([found.late for found in verdicts])
    return {
        "missed": sum(found.missed for found in verdicts),
        "doubled": sum(found.doubled for found in verdicts),
        "over_budget_seconds": sum(found.over_budget_seconds for found in verdicts),
        "late_p99_s": float(np.percentile(late, 99)),
        "late_max_s": float(late.max()),
        "starvation_max_ratio": round(max(found.starvation for found in verdicts), 3),
        "outside_windows": sum(found.outside_windows for found in verdicts),
        "year_s": round(took, 2),
        "year_cpu_s": round(of_cpu, 2),
        "decide_us": round(of_cpu / sum(one.looks for one in year.schedules) * 1e6),
        "looks": sum(one.looks for one in year.schedules),
        "due": sum(found.ticks for found in verdicts),
        "runs": sum(found.started for found in verdicts),
        "downtimes": len(year.downtimes),
        "crashes": year.crashes,
        "lost_events": year.lost,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("RESULT " + json.dumps(benchmark(options.tenants, options.days, options.seed)))


if __name__ == "__main__":
    main()
