import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.local.errors import LocalClusterError
from star_cli.local.processes import (
    Processes,
    ProcessRecord,
    ProcessSpec,
    boot_id,
    is_alive,
    signal_process,
    start_time,
    terminate,
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path / "run", tmp_path / "logs")
    yield made
    for name in made.names():
        made.stop(name)


def sleeper(name: str = "sleeper", seconds: str = "60") -> ProcessSpec:
    return ProcessSpec(name, ("sleep", seconds))


def known(processes: Processes, name: str = "sleeper") -> ProcessRecord:
    record = processes.record(name)
    assert record is not None
    return record


def test_started_process_is_found_by_another_command(processes: Processes, tmp_path: Path) -> None:
    assert processes.ensure(sleeper())
    other = Processes(tmp_path / "run", tmp_path / "logs")
    assert other.alive("sleeper")
    assert not other.ensure(sleeper())
    assert os.getsid(known(processes).pid) == known(processes).pid, "it leads a session of its own"


def test_dead_process_is_started_again(processes: Processes) -> None:
    processes.ensure(sleeper())
    first = known(processes)
    signal_process(first, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.alive("sleeper"):
        assert time.monotonic() < deadline
    assert processes.ensure(sleeper())
    assert known(processes) != first


def test_changed_arguments_or_files_restart_it(processes: Processes, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("one")
    spec = ProcessSpec("sleeper", ("sleep", "60"), files=(config,))
    processes.ensure(spec)
    first = known(processes)
    config.write_text("two")
    assert processes.ensure(spec)
    assert not is_alive(first)
    assert processes.ensure(sleeper(seconds="61"))


def test_reused_pid_is_neither_taken_for_ours_nor_signalled(processes: Processes) -> None:
    processes.ensure(sleeper())
    mine = known(processes)
    for stranger in (
        ProcessRecord(mine.pid, mine.start - 1, mine.boot, mine.spec),
        ProcessRecord(mine.pid, mine.start, "another boot", mine.spec),
    ):
        assert not is_alive(stranger)
        assert not signal_process(stranger, signal.SIGKILL)
        terminate(stranger)
    assert is_alive(mine)


def test_process_that_ignores_sigterm_is_killed_after_the_grace(processes: Processes) -> None:
    ready = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    processes.ensure(ProcessSpec("stubborn", ("sh", "-c", ready)))
    processes.wait_ready("stubborn", lambda: "ready" in processes.log_tail("stubborn"), 5)
    record = known(processes, "stubborn")
    terminate(record, grace=0.2)
    assert not is_alive(record)


def test_zombie_counts_as_dead() -> None:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 5
    while start_time(child.pid) is not None:
        assert time.monotonic() < deadline
    child.wait()


def test_failed_start_names_the_log_and_quotes_its_end(processes: Processes) -> None:
    processes.ensure(ProcessSpec("broken", ("sh", "-c", "echo port is taken; exit 3")))
    with pytest.raises(LocalClusterError, match=r"broken ended during its start; .*broken\.log ends:\nport is taken"):
        processes.wait_ready("broken", lambda: False, 5)


def test_slow_start_is_an_error_with_its_time(processes: Processes) -> None:
    processes.ensure(sleeper())
    with pytest.raises(LocalClusterError, match="sleeper was not ready after 0 s"):
        processes.wait_ready("sleeper", lambda: False, 0.3)


def test_stop_forgets_the_process(processes: Processes) -> None:
    processes.ensure(sleeper())
    record = known(processes)
    processes.stop("sleeper")
    assert not is_alive(record)
    assert processes.names() == []
    processes.stop("sleeper")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "start": 1, "boot": "b", "spec": "s"}'])
def test_record_cut_short_is_no_record(text: str) -> None:
    assert ProcessRecord.from_json(text) is None


def test_record_survives_its_own_writing() -> None:
    record = ProcessRecord(1, 2, boot_id(), "abc")
    assert ProcessRecord.from_json(record.to_json()) == record


def test_secrets_of_the_environment_are_not_in_the_record(processes: Processes) -> None:
    spec = ProcessSpec("sleeper", ("sleep", "60"), env={"SECRET": "hush-hush"})
    processes.ensure(spec)
    assert "hush-hush" not in (processes.records / "sleeper.json").read_text()
    assert b"SECRET=hush-hush" in Path(f"/proc/{known(processes).pid}/environ").read_bytes()
