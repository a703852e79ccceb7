"""The product's baselines on MovieLens-100K against figures measured elsewhere.

    make bench-baselines     or          .venv/bin/python tests/bench/bench_baselines.py [--draws 5] [--lightgcn]

Protocol: leave-last-out (each of the 943 users' last rating is the answer, all before it is training and history),
1 + 19 candidates, mean of HR@1, HR@3 and HR@5 in percent, ties by their expectation. Measured by the product's own
stages `prepare-dataset` and `evaluate`, run as pods run them, over a real S3 server. Negatives are drawn anew
`--draws` times and the figures averaged: another draw moves them by half a point. --lightgcn needs torch: run it with
the trainer's environment (`starctl images venv trainer`, with `operator` and `jobs` on PYTHONPATH).

The reference was measured with negatives of its own, one draw, and a sampled `random`; ours is the expectation, 15.
The last line is

    RESULT {"max_abs_diff_points": ..., "uniform_popularity": ..., "popularity_matched_als": ..., ...}
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from star_contracts.artifact import ArtifactRef
from star_contracts.data import TaskType
from star_contracts.job import Evaluate, PrepareDataset
from star_contracts.settings import (
    Baseline,
    DatasetFormat,
    EvaluationSettings,
    LeakageRules,
    Negatives,
    TaskSettings,
)
from star_jobs.storage import ObjectStore

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.jobs import JobRunner, environment
from tests.support.movielens import movielens_100k
from tests.support.s3 import start_s3

USERS = 943
REFERENCE = {
    Negatives.UNIFORM: {
        Baseline.RANDOM: 15.6,
        Baseline.POPULARITY: 46.7,
        Baseline.ITEM_KNN_COSINE: 59.1,
        Baseline.ITEM_KNN_BM25: 61.6,
        Baseline.ALS: 61.2,
    },
    Negatives.POPULARITY: {
        Baseline.RANDOM: 14.7,
        Baseline.POPULARITY: 16.9,
        Baseline.ITEM_KNN_COSINE: 27.7,
        Baseline.ITEM_KNN_BM25: 33.4,
        Baseline.ALS: 41.1,
    },
}
NAMES = {Negatives.UNIFORM: "uniform", Negatives.POPULARITY: "popularity_matched"}


def leave_last_out(jobs: JobRunner, negatives: Negatives, seed: int) -> ArtifactRef:
    """Make the dataset in which every user's last rating is a test task."""
    tasks = TaskSettings(
        types=(TaskType.CLASSIC,), test=USERS, train=0, history_length=10000, negatives=negatives, seed=seed
    )
    stage = PrepareDataset(
        format=DatasetFormat.MOVIELENS, source=f"{jobs.uri}/source", tasks=tasks, leakage=LeakageRules()
    )
    done = jobs.run(stage, output=f"dataset-{negatives}-{seed}")
    if done.result.metrics.get("testTasks") != USERS:
        raise RuntimeError(f"this is not MovieLens-100K leave-last-out: {done.result}")
    return done.artifact


def measure(jobs: JobRunner, dataset: ArtifactRef, baselines: Sequence[Baseline], seed: int) -> dict[Baseline, float]:
    """Return each baseline's HR_avg in percent."""
    settings = EvaluationSettings(
        types=(TaskType.CLASSIC,), baselines=tuple(baselines), tools=False, bootstrap=100, seed=seed
    )
    done = jobs.run(Evaluate(dataset=dataset, settings=settings), output=f"report-{dataset.digest[-8:]}")
    if done.result.error:
        raise RuntimeError(done.result.error.message)
    return {baseline: 100 * done.result.metrics[f"{baseline}.hrAvg"] for baseline in baselines}


def show(negatives: Negatives, draws: Sequence[Mapping[Baseline, float]]) -> tuple[dict[str, float], float]:
    """Print a table; return the figures by name, and the largest difference from the reference."""
    figures, worst = {}, 0.0
    print(f"\n{NAMES[negatives]} negatives, {len(draws)} draws")
    for baseline in draws[0]:
        values = [draw[baseline] for draw in draws]
        mean, reference = sum(values) / len(values), REFERENCE[negatives].get(baseline)
        figures[f"{NAMES[negatives]}_{baseline.value}"] = round(mean, 2)
        beside = "" if reference is None else f"   reference {reference:5.1f}   difference {mean - reference:+5.1f}"
        print(f"  {baseline.value:15} {mean:5.1f} (draws {min(values):.1f} to {max(values):.1f}){beside}")
        worst = max(worst, 0.0 if reference is None else abs(mean - reference))
    return figures, worst


def main() -> int:
    """Measure, print the tables, and the result as the last line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--draws", type=int, default=5, help="times the negatives are drawn")
    parser.add_argument("--lightgcn", action="store_true", help="measure LightGCN as well (needs torch; minutes)")
    options = parser.parse_args()
    baselines = [b for b in Baseline if b is not Baseline.LIGHTGCN or options.lightgcn]
    started, figures, worst = time.monotonic(), dict[str, float](), 0.0
    with start_s3() as server, environment(server.environment()), tempfile.TemporaryDirectory() as folder:
        jobs = JobRunner(server, ObjectStore(server.store()), server.new_uri("bench"), Path(folder))
        for path in movielens_100k().iterdir():
            jobs.store.upload(path, f"{jobs.uri}/source/{path.name}")
        for negatives in Negatives:
            with redirect_stdout(sys.stderr):  # the stages' logs
                datasets = [leave_last_out(jobs, negatives, seed) for seed in range(options.draws)]
                draws = [measure(jobs, dataset, baselines, seed) for seed, dataset in enumerate(datasets)]
            more, difference = show(negatives, draws)
            figures, worst = figures | more, max(worst, difference)
    print(f"\n{time.monotonic() - started:.0f} s")
    print("RESULT", json.dumps({"max_abs_diff_points": round(worst, 2), **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
