"""Engines as child processes: output, environment, and their end."""

import os
import sys
import threading
import time
from pathlib import Path

from star_jobs.training.process import Command, engine_environment, run


def python(code: str, cwd: Path) -> Command:
    return Command((sys.executable, "-c", code), dict(os.environ), cwd)


def test_output_is_passed_on_and_its_end_is_kept(tmp_path: Path) -> None:
    ticks: list[int] = []
    code = "import sys; [print(n, flush=True) for n in range(1000)]; print('last', file=sys.stderr); sys.exit(3)"
    ended = run(python(code, tmp_path / "new"), threading.Event(), lambda: ticks.append(1), tick_seconds=0.01)
    assert (ended.returncode, ended.interrupted) == (3, False)
    assert len(ended.tail) == 400
    assert "last" in ended.tail
    assert ticks


def test_a_stop_ends_the_whole_process_group(tmp_path: Path) -> None:
    """An engine's worker that ignores SIGTERM does not outlive the job."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, pathlib, signal, threading\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('pid.new').write_text(str(os.getpid())); os.rename('pid.new', 'pid')\n"
        "threading.Event().wait(60)\n"
    )
    engine = (
        "import subprocess, sys, threading; subprocess.Popen([sys.executable, 'worker.py']); threading.Event().wait(60)"
    )
    stopping = threading.Event()

    def tick() -> None:
        if (tmp_path / "pid").exists():
            stopping.set()

    ended = run(python(engine, tmp_path), stopping, tick, tick_seconds=0.05, grace_seconds=0.5)
    assert ended.interrupted
    assert ended.returncode < 0
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_engines_get_no_store_credentials() -> None:
    base = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HOME": "/tmp"}
    assert engine_environment(base, {"X": "1"}) == {"USER": "star", "HOME": "/tmp", "X": "1"}


def _is_gone(pid: int, seconds: float = 10) -> bool:
    """Wait until a process has ended; one that is dead and not yet reaped has."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)  # between polls, under the deadline above
    return False
