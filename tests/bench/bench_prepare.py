"""Prepare a large AgentRecBench source and measure memory and speed.

    make bench-prepare          or          .venv/bin/python -m tests.bench.bench_prepare [--gigabytes 5]

It writes synthetic Amazon tables into a temporary folder (about twice the size asked for is needed on disk, as the
dataset holds the reviews again), prepares them in a process of its own, and removes everything. To see what memory
depends on, run it with longer texts (`--text-chars`), which makes fewer interactions of the same number of bytes. The
last line is the result:

    RESULT {"peak_rss_mb": ..., "mb_per_s": ..., "bytes_per_interaction": ..., ...}

peak_rss_mb            most resident memory of the process that prepares (VmHWM)
mb_per_s               megabytes of the review table by seconds from its first byte read to the dataset's last written
mb_per_cpu_s           the same by seconds of processor time: what one core does
bytes_per_interaction  what the peak lies above that of a table of 40 megabytes, by the number of interactions; the ids
                       of users and items and the places of their records are in it
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from star_contracts.job import PrepareDataset
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings
from star_jobs.datasets import agentrecbench
from star_jobs.datasets.plan import make_plan
from star_jobs.datasets.prepare import write_snapshot
from tests.support.agentrecbench import Platform, Size, item, stream_reviews, user, write_lines

ROOT = Path(__file__).parents[2]
GIGABYTE = 10**9
WARM_UP_BYTES = 40_000_000
REVIEWS_PER_USER, REVIEWS_PER_ITEM = 6, 30
LINE_BYTES, BYTES_PER_CHAR = 310, 1.1
"""Of a line without its text, and of a character of text written as JSON."""


def write_source(folder: Path, size: int, text_chars: int) -> int:
    """Write the three tables, reviews of `size` bytes; return the number of reviews."""
    folder.mkdir(parents=True)
    reviews = round(size / (LINE_BYTES + BYTES_PER_CHAR * text_chars))
    amount = Size(users=max(500, reviews // REVIEWS_PER_USER), items=max(500, reviews // REVIEWS_PER_ITEM))
    write_lines(folder / "user.json", (user(Platform.AMAZON, n) for n in range(amount.users)))
    write_lines(folder / "item.json", (item(Platform.AMAZON, n) for n in range(amount.items)))
    return stream_reviews(folder / "review.json", Platform.AMAZON, amount, size, text_chars)


def prepare(source: Path, output: Path) -> dict[str, float]:
    """Do what the stage does between its download and its upload."""
    stage = PrepareDataset(
        format=DatasetFormat.AGENT_REC_BENCH,
        source="s3://bench/source",
        tasks=TaskSettings(test=20),
        leakage=LeakageRules(),
    )
    tables = agentrecbench.read(source, stage.max_malformed)
    return write_snapshot(output, tables, make_plan(tables, stage.tasks, stage.leakage), stage)


def peak_bytes() -> int:
    """Most resident memory of this process so far (proc_pid_status(5), VmHWM)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def cpu_seconds() -> float:
    """Processor time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(folder: Path) -> dict[str, float]:
    """Prepare the small source, then the large one, and compare."""
    prepare(folder / "small", folder / "small-dataset")
    before, wall, cpu = peak_bytes(), time.monotonic(), cpu_seconds()
    metrics = prepare(folder / "large", folder / "large-dataset")
    megabytes = (folder / "large" / "review.json").stat().st_size / 1e6
    return {
        "peak_rss_mb": round(peak_bytes() / 1e6, 1),
        "mb_per_s": round(megabytes / (time.monotonic() - wall), 1),
        "mb_per_cpu_s": round(megabytes / (cpu_seconds() - cpu), 1),
        "bytes_per_interaction": round((peak_bytes() - before) / metrics["interactions"], 1),
        "before_mb": round(before / 1e6, 1),
        "interactions": metrics["interactions"],
        "review_table_mb": round(megabytes, 1),
    }


def main() -> int:
    """Write the tables, prepare them in a child process, print its result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the review table")
    parser.add_argument("--text-chars", type=int, default=450, help="mean length of a review's text")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print("RESULT", json.dumps(measure(arguments.measure)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-prepare-") as name:
        folder, start = Path(name), time.monotonic()
        write_source(folder / "small", WARM_UP_BYTES, arguments.text_chars)
        reviews = write_source(folder / "large", int(arguments.gigabytes * GIGABYTE), arguments.text_chars)
        print(f"{reviews} reviews written in {time.monotonic() - start:.0f} s", flush=True)
        return subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_prepare", "--measure", name], cwd=ROOT, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
