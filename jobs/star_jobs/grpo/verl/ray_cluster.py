"""A Ray cluster made of the pods of an Indexed Job: pod 0 leads, the others join and leave when it says so.

verl runs on the leading pod and finds the cluster there. The others cannot see from Ray whether the run ended well or
died, so the leading pod leaves a note in the work area; if it dies instead, the whole group of pods is started anew.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from star_jobs.errors import JobFailure
from star_jobs.grpo.context import Prepared
from star_jobs.runtime import JobContext
from star_jobs.training import process
from star_jobs.training.failure import classify

PORT = 6379
JOIN_SECONDS = 1800.0
"""How long pods wait for each other: images may still be pulled."""
_POLL_SECONDS = 10.0
_TICK_SECONDS = 2.0

_WAIT_FOR_GPUS = """
import sys, time, ray
wanted, deadline = float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
ray.init(address="auto", log_to_driver=False)
while ray.cluster_resources().get("GPU", 0) < wanted:
    if time.monotonic() > deadline:
        sys.exit("only %s of %s GPUs joined the Ray cluster" % (ray.cluster_resources().get("GPU", 0), wanted))
    time.sleep(2)
"""


def lead(ready: Prepared, job: JobContext, env: Mapping[str, str]) -> None:
    """Start the head in this pod and wait until every node's GPUs have joined."""
    _must(_head_command(ready, env, job), job, "ray start --head")
    wanted = ready.stage.nodes * ready.stage.devices_per_node
    argv = (sys.executable, "-c", _WAIT_FOR_GPUS, str(wanted), str(JOIN_SECONDS))
    _must(process.Command(argv, env, job.scratch), job, "the Ray cluster")


def follow(ready: Prepared, job: JobContext, env: Mapping[str, str]) -> None:
    """Join the leading pod's cluster and stay until it says that the run has ended."""
    finished = threading.Event()
    deadline = time.monotonic() + JOIN_SECONDS
    note = _note(job)
    last_look = 0.0

    def look() -> None:
        nonlocal last_look
        if job.stopping.is_set():
            finished.set()
        elif time.monotonic() - last_look >= _POLL_SECONDS:
            last_look = time.monotonic()
            try:
                if job.work.get(note) is not None:
                    finished.set()
            except JobFailure as failure:  # the next look may do better, and nothing is lost by then
                job.log.warning("could not look for the end of the run", error=failure.message)

    while True:
        command = process.Command(join_arguments(ready), env, job.scratch)
        ended = process.run(command, finished, look, tick_seconds=_TICK_SECONDS)
        if finished.is_set():
            job.raise_if_stopping()
            return
        if time.monotonic() > deadline:
            raise classify("ray start", ended)
        job.stopping.wait(5.0)  # the head is not there yet


def dismiss(job: JobContext) -> None:
    """Tell the other pods that the run has ended."""
    job.work.put(_note(job), b"")


def join_arguments(ready: Prepared) -> tuple[str, ...]:
    """Return the command with which a pod joins the cluster and stays in it."""
    return (*_ray(), "start", f"--address={ready.node.master}:{PORT}", *_node_arguments(ready), "--block")


def _head_command(ready: Prepared, env: Mapping[str, str], job: JobContext) -> process.Command:
    argv = (*_ray(), "start", "--head", f"--port={PORT}", "--include-dashboard=false", *_node_arguments(ready))
    return process.Command(argv, env, job.scratch)


def _node_arguments(ready: Prepared) -> tuple[str, ...]:
    return (f"--num-gpus={ready.stage.devices_per_node}", "--disable-usage-stats")


def _ray() -> tuple[str, ...]:
    return (sys.executable, "-m", "ray.scripts.scripts")


def _note(job: JobContext) -> str:
    """Return the note's name: of this attempt, as an earlier one's must not send anybody home."""
    return f"ended/{hashlib.sha256(job.spec.output.encode()).hexdigest()[:16]}"


def _must(command: process.Command, job: JobContext, what: str) -> None:
    """Run a short command whose daemons stay behind; raise when it fails."""
    job.raise_if_stopping()
    done = subprocess.run(
        command.argv,
        env=dict(command.env),
        cwd=command.cwd,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        printed = (done.stdout + done.stderr).splitlines()[-process.TAIL_LINES :]
        raise classify(f"{what} on {os.uname().nodename}", process.Ended(done.returncode, tuple(printed)))
