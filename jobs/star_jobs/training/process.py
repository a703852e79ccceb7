"""Run a training engine as a child process.

The engine's output goes to the pod's log line by line, its last lines are kept for the error sentence, and its whole
process group is ended when the pod is told to stop, so that no worker outlives the job.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 400
_LINE_CHARS = 1 << 16
"""A longer line is taken in pieces: an engine may print anything."""
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""Variables by which boto3 finds the store's credentials: keys, or the role of the pod's service account."""


@dataclass(frozen=True)
class Command:
    """What to start: program and arguments, its whole environment, and its working folder."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True)
class Ended:
    """How the engine ended."""

    returncode: int
    """Exit status; -n when signal n ended it."""
    tail: tuple[str, ...]
    """Its last lines of output, oldest first, without line ends."""
    interrupted: bool = False
    """True when it was ended because the pod was told to stop."""


def engine_environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an engine: the job's own without store credentials, which no engine needs.

    It always has a USER: libraries ask for the name of a user who, in a pod, need not be in /etc/passwd.
    """
    kept = {name: value for name, value in base.items() if name not in CREDENTIALS}
    return {"USER": "star"} | kept | dict(extra)


def cpu_threads(base: Mapping[str, str]) -> dict[str, str]:
    """Return how an engine on the CPU is to use its cores, where the pod does not say so itself.

    Threads that wait must sleep: spinning ones take the cores from whoever they wait for, and a step becomes several
    times slower as soon as anything else runs on the machine.
    """
    wanted = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: base.get(name) or value for name, value in wanted.items()}


def run(
    command: Command,
    stopping: threading.Event,
    tick: Callable[[], None],
    *,
    tick_seconds: float = 2.0,
    grace_seconds: float = 10.0,
) -> Ended:
    """Run the command to its end and return how it ended; `tick` is called between polls and at the end."""
    command.cwd.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        command.argv,
        env=dict(command.env),
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    pump = threading.Thread(target=_pump, args=(child, tail), name="engine-output", daemon=True)
    pump.start()
    interrupted = False
    try:
        while child.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=tick_seconds)
            tick()
            if stopping.is_set() and child.poll() is None:
                interrupted = True
                _end_group(child, grace_seconds)
    finally:
        _end_group(child, grace_seconds)
    pump.join(timeout=5)
    tick()
    return Ended(returncode=child.returncode, tail=tuple(tail), interrupted=interrupted)


def _pump(child: "subprocess.Popen[str]", tail: deque[str]) -> None:
    """Copy the child's output to our stderr and remember its last lines."""
    if child.stdout is None:
        return
    while line := child.stdout.readline(_LINE_CHARS):
        sys.stderr.write(line)
        tail.append(line.rstrip())
    sys.stderr.flush()


def _end_group(child: "subprocess.Popen[str]", grace_seconds: float) -> None:
    """End what is left of the child's process group: asked first, then killed."""
    _signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=grace_seconds)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
