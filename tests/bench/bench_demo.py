"""Time a warm `starctl demo`: programs, packages and images are in the cache; cluster, store and results are not.

    make bench-demo          or          .venv/bin/python tests/bench/bench_demo.py [--size tiny]

It runs in a cluster of its own (`bench`), which is removed before and after. The last line is the result:

    RESULT {"wall_s": ..., "peak_mem_gb": ..., "operator_rss_mb": ..., "operator_idle_cpu_percent": ...}

wall_s                     from the command to its exit
peak_mem_gb                most memory in use on the machine (MemTotal - MemAvailable), less what was in use before
operator_rss_mb            resident memory of the operator's process after the run
operator_idle_cpu_percent  of one core, over a minute after the run
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from star_cli.local.cluster import LocalCluster

CLUSTER = "bench"
OPERATOR = "star-operator"
IDLE_SECONDS = 60.0
_SAMPLE_SECONDS = 0.5


@dataclass
class MemoryPeak:
    """Samples the machine's memory in use until it is stopped."""

    before: int = field(default_factory=lambda: memory_in_use())
    peak: int = 0

    def __post_init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, memory_in_use())

    def stop(self) -> float:
        """The peak above the beginning, in GiB."""
        self._done.set()
        self._thread.join()
        return (self.peak - self.before) / 2**30


def memory_in_use() -> int:
    """Bytes that are not available for new programs."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return (int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])) * 1024


def operator_pid(cluster: LocalCluster) -> int:
    """The operator's process, among those of the cluster."""
    for pid in sorted(cluster.embedded().group.pids("kubepods")):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if any(Path(os.fsdecode(part)).name == OPERATOR for part in arguments[:2]):
            return pid
    raise RuntimeError("no process of the operator is in the cluster's control group")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc_pid_stat(5), fields 14 and 15)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run it once, and print the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--size", default="demo", choices=("demo", "tiny"))
    size = parser.parse_args().size
    cluster = LocalCluster(CLUSTER)
    cluster.down()
    memory, start = MemoryPeak(), time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "star_cli", "demo", "--name", CLUSTER, "--size", size], check=False
        )
        wall, peak = time.monotonic() - start, memory.stop()
        if done.returncode != 0:
            return done.returncode
        pid = operator_pid(cluster)
        before = cpu_seconds(pid)
        time.sleep(IDLE_SECONDS)
        idle = 100 * (cpu_seconds(pid) - before) / IDLE_SECONDS
        rss = resident_bytes(pid) / 1e6
    finally:
        cluster.down()
    figures = {"wall_s": wall, "peak_mem_gb": peak, "operator_rss_mb": rss, "operator_idle_cpu_percent": idle}
    print("RESULT", json.dumps({name: round(value, 2) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
