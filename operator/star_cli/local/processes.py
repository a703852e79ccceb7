"""Processes that outlive the command that started them, and are found again by pid and start time.

Each process writes its own record before it becomes the program (a small launcher records itself, then execs), so a
command killed between start and record leaves no unknown process. A record names the pid, the process's start time
(proc(5), field 22) and the machine's boot: a reused pid is never taken for ours, and never signalled.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from star_cli.local.errors import LocalClusterError

_LAUNCHER = """
set -eu
record=$1 boot=$2 spec=$3
shift 3
for group in ${STAR_CGROUPS:-}; do echo $$ > "$group/cgroup.procs"; done
unset STAR_CGROUPS
start=$(cut -d ' ' -f 22 "/proc/$$/stat")
printf '{"pid": %s, "start": %s, "boot": "%s", "spec": "%s"}\\n' "$$" "$start" "$boot" "$spec" > "$record.tmp"
mv "$record.tmp" "$record"
exec "$@"
"""
_LOG_LIMIT = 16 * 2**20  # bytes; a longer log is set aside at the next start
_STOP_SECONDS = 20.0
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")  # prctl(2), PR_SET_PDEATHSIG; setpriv is of util-linux


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep running.

    `env` is added to a bare environment; `files` are those whose content the program reads once at its start, so that
    a change of them asks for a restart; `cgroups` are the folders the process joins before it becomes the program.
    With `ends_with_parent` the kernel ends it when the thread that started it ends: for tests, which may be killed.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    cgroups: tuple[Path, ...] = ()
    ends_with_parent: bool = False

    def command(self) -> tuple[str, ...]:
        """What is executed."""
        return (*(_END_WITH_PARENT if self.ends_with_parent else ()), *self.argv)

    def digest(self) -> str:
        """Hash of all that decides how the process runs."""
        sha = hashlib.sha256(json.dumps([self.argv, sorted(self.env.items())]).encode())
        for path in self.files:
            sha.update(str(path).encode() + b"\0" + path.read_bytes())
        return sha.hexdigest()[:16]


@dataclass(frozen=True)
class ProcessRecord:
    """Which process was started: pid, start time in clock ticks since boot, boot id, hash of its spec."""

    pid: int
    start: int
    boot: str
    spec: str

    def to_json(self) -> str:
        """The record as the launcher writes it."""
        return json.dumps({"pid": self.pid, "start": self.start, "boot": self.boot, "spec": self.spec})

    @staticmethod
    def from_json(text: str) -> "ProcessRecord | None":
        """The record in `text`, or None where it is not one (such as a file cut short by a full disk)."""
        try:
            data = json.loads(text)
            return ProcessRecord(int(data["pid"]), int(data["start"]), str(data["boot"]), str(data["spec"]))
        except (ValueError, KeyError, TypeError):
            return None


def boot_id() -> str:
    """The kernel's identifier of this boot: pids and start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: ProcessRecord) -> bool:
    """Whether the very process of the record still runs."""
    return record.boot == boot_id() and start_time(record.pid) == record.start


def signal_process(record: ProcessRecord, number: signal.Signals) -> bool:
    """Send a signal to the recorded process and to nothing else. Returns whether it was alive."""
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(record):  # checked with the descriptor held: the pid can no longer be reused under us
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def terminate(record: ProcessRecord, grace: float = _STOP_SECONDS) -> None:
    """End the recorded process: SIGTERM, then SIGKILL after `grace` seconds. Nothing happens where it is gone."""
    if not signal_process(record, signal.SIGTERM) or _gone(record, grace):
        return
    signal_process(record, signal.SIGKILL)
    if not _gone(record, 5.0):
        raise LocalClusterError(f"process {record.pid} does not end after SIGKILL; look at /proc/{record.pid}/stack")


def _gone(record: ProcessRecord, seconds: float) -> bool:
    """Wait for the recorded process's end; True once it is gone."""
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(record):
            return True
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return bool(ready)
    finally:
        os.close(descriptor)


class Processes:
    """The processes of one cluster: their records in one folder, their logs in another."""

    def __init__(self, records: Path, logs: Path) -> None:
        self.records = records
        self.logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def record(self, name: str) -> ProcessRecord | None:
        """The record of process `name`, whether it lives or not."""
        try:
            return ProcessRecord.from_json((self.records / f"{name}.json").read_text())
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """Every process ever recorded and not stopped since, in order of name."""
        return sorted(path.stem for path in self.records.glob("*.json"))

    def alive(self, name: str) -> bool:
        """Whether process `name` runs."""
        self._reap(name)
        record = self.record(name)
        return record is not None and is_alive(record)

    def ensure(self, spec: ProcessSpec) -> bool:
        """Have `spec` running: start it where it is dead, restart it where it runs with another spec.

        Returns whether it was started now.
        """
        record, digest = self.record(spec.name), spec.digest()
        if record is not None and self.alive(spec.name):
            if record.spec == digest:
                return False
            terminate(record)
        self._start(spec, digest)
        return True

    def stop(self, name: str) -> None:
        """End process `name` and forget it."""
        record = self.record(name)
        if record is not None:
            terminate(record)
        self._reap(name)
        (self.records / f"{name}.json").unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Where process `name` writes what it has to say."""
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 12) -> str:
        """The end of the process's log, for an error message."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16384))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(line[:400] for line in text.splitlines()[-lines:])

    def _start(self, spec: ProcessSpec, digest: str) -> None:
        self.records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.log(spec.name)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        record = self.records / f"{spec.name}.json"
        record.unlink(missing_ok=True)
        command = ["/bin/sh", "-c", _LAUNCHER, "starctl-launch", str(record), boot_id(), digest, *spec.command()]
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), **spec.env}
        if spec.cgroups:
            env["STAR_CGROUPS"] = " ".join(map(str, spec.cgroups))
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
                cwd="/",
            )
        self._children[spec.name] = child
        deadline = time.monotonic() + 10
        for _ in _every(0.01, deadline):
            if record.exists() or child.poll() is not None:
                break
        if not record.exists():
            raise LocalClusterError(f"{spec.name} did not start:\n{self.log_tail(spec.name)}")

    def _reap(self, name: str) -> None:
        """Collect the exit status where the process is our own child, or it would stay as a zombie."""
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            del self._children[name]

    def wait_ready(self, name: str, check: Callable[[], bool], timeout: float) -> None:
        """Wait until `check` holds.

        Raises:
            LocalClusterError: the process ended, or the time was over; the end of its log is in the message.
        """
        deadline = time.monotonic() + timeout
        for _ in _every(0.1, deadline):
            if check():
                return
            if not self.alive(name):
                raise LocalClusterError(f"{name} ended during its start; {self.log(name)} ends:\n{self.log_tail(name)}")
        raise LocalClusterError(
            f"{name} was not ready after {timeout:.0f} s; {self.log(name)} ends:\n{self.log_tail(name)}"
        )


def _every(seconds: float, deadline: float) -> Iterator[None]:
    """Yield now and then every `seconds` until the deadline (time.monotonic) is past."""
    while True:
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(seconds)
