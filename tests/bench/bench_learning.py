"""Does the student learn? The chain on the local cluster, and each student against its base model on held-out tasks.

    make bench-learning          or          .venv/bin/python tests/bench/bench_learning.py [--size demo]

Runs `starctl demo` in a cluster of its own (`bench`, removed before and after), then compares HR_avg of the student
after SFT and after GRPO with the base model's, and with a random order's, in pairs on the same test tasks (percentile
bootstrap, 95%). Figures are in points (percent). The last line is the result:

    RESULT {"sft_gain": ..., "sft_gain_ci_low": ..., "grpo_gain": ..., "grpo_gain_ci_low": ..., ...}

`*_over_random*` says how much of a gain is more than the form: a base model that never writes a ranking scores 0, and
every valid order, however chosen, is far above that.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from star_cli.demo.manifests import Size
from star_cli.demo.run import Demo, Options
from star_cli.demo.store import Store
from star_cli.demo.target import Target, local_target
from star_cli.local.cluster import LocalCluster
from star_cli.local.progress import Terminal
from star_cli.resources import StarResource
from star_contracts.artifact import ArtifactRef
from star_jobs.evaluate.metrics import CUTOFFS, Hits, hits_of_answers, hits_with_ties, paired_difference
from star_operator.api.evaluation import Evaluation

CLUSTER = "bench"
ROOT = Path(__file__).parents[2]
MINUTES = 110
BASE, SFT = "base", "sft"
RESAMPLES, SEED = 10_000, 7


def hit_tables(resources: Sequence[StarResource], store: Store) -> dict[str, dict[str, list[float]]]:
    """Return evaluation -> task -> hits at the three cutoffs; the gate's evaluation is called `grpo`."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in resources:
        if not isinstance(one, Evaluation) or one.status.artifact is None:
            continue
        ref = ArtifactRef(uri=one.status.artifact.uri, digest=one.status.artifact.digest)
        records = [json.loads(line) for line in store.file(ref, "answers.jsonl").splitlines()]
        name = one.metadata.name if one.metadata.name in (BASE, SFT) else "grpo"
        hits = hits_of_answers([[record["rank"]] for record in records])
        found[name] = {record["taskId"]: row for record, row in zip(records, hits.tolist(), strict=True)}
    return found


def gains(tables: dict[str, dict[str, list[float]]], candidates: int) -> dict[str, float]:
    """Return the paired differences in points."""
    tasks = sorted(tables[BASE])
    arrays: dict[str, Hits] = {name: np.array([rows[task] for task in tasks]) for name, rows in tables.items()}
    arrays["random"] = np.tile(np.array(hits_with_ties(0, candidates)), (len(tasks), 1))
    figures: dict[str, float] = {"tasks": len(tasks)}
    for name, table in arrays.items():
        figures[f"{name}_hr_avg"] = 100 * float(table.mean())
        figures |= {f"{name}_hr{cutoff}": 100 * float(table[:, at].mean()) for at, cutoff in enumerate(CUTOFFS)}
    for student in (SFT, "grpo"):
        for other, suffix in ((BASE, ""), ("random", "_over_random")):
            difference = paired_difference(arrays[student], arrays[other], resamples=RESAMPLES, seed=SEED)
            figures[f"{student}_gain{suffix}"] = 100 * difference.mean
            figures[f"{student}_gain{suffix}_ci_low"] = 100 * difference.interval.low
            figures[f"{student}_gain{suffix}_ci_high"] = 100 * difference.interval.high
    return figures


def main() -> int:
    """Run it once, and print the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--size", default=Size.LEARNING.value, choices=[size.value for size in Size])
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    cluster, console = LocalCluster(CLUSTER), Console()
    cluster.down()
    started = time.monotonic()
    reporter = Terminal(console)
    targets: list[Target] = []

    def target() -> Target:
        targets.append(local_target(CLUSTER, ROOT, reporter))
        return targets[-1]

    options = Options(ROOT, size=Size(arguments.size), deadline_seconds=60.0 * MINUTES)
    try:
        done = Demo(options, target, console, reporter).run()
        candidates = next(one.spec.tasks.candidates for one in done.resources if one.kind == "RecDataset")
        figures = gains(hit_tables(done.resources, Store(targets[0].store)), candidates)
    finally:
        if not arguments.keep:
            cluster.down()
    figures["wall_s"] = time.monotonic() - started
    print("RESULT", json.dumps({name: round(value, 2) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
