"""What the operator costs while nothing happens: under 150 MB of memory and 1% of a core."""

import os
import threading
from pathlib import Path

from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.star import checkpoint, star

AT_REST_SECONDS = 30
MEGABYTES, CORE_SHARE = 150, 0.01


def rss_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of the process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_at_rest_the_operator_needs_little(kubectl: Kubectl, operator: OperatorProcess, namespace: str) -> None:
    """It knows some resources: Checkpoints at rest, and runs that wait for what is not there."""
    evaluation = {"dataset": {"name": "none"}, "settings": {"tools": False}}
    kubectl.apply(*(checkpoint(namespace, f"c{n}") for n in range(10)))
    kubectl.apply(*(star("Evaluation", namespace, f"e{n}", evaluation) for n in range(10)))
    pause = threading.Event()
    pause.wait(10)  # the passes over what was applied
    before = cpu_seconds(operator.pid)
    pause.wait(AT_REST_SECONDS)  # the span that is measured
    share = (cpu_seconds(operator.pid) - before) / AT_REST_SECONDS
    print(f"operator at rest: {rss_mb(operator.pid):.0f} MB, {100 * share:.2f}% of a core")
    assert rss_mb(operator.pid) < MEGABYTES
    assert share < CORE_SHARE
