"""A control group that holds everything a cluster starts, pods included: whoever is in it is ours to end.

Shims and containers are started by containerd, not by us, so no pid of theirs is recorded; the group is how `down`
finds them, even after containerd itself has died. https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html
"""

import os
import signal
import time
from pathlib import Path

from star_cli.local.errors import LocalClusterError

_KILL_SECONDS = 20.0
_PODS = "kubepods"  # the kubelet's name for the group of all pods


class ControlGroup:
    """The group `/name` in every mounted hierarchy (several with cgroup v1, one with v2)."""

    def __init__(self, name: str, mounts: Path = Path("/proc/self/mounts")) -> None:
        self.name = name
        self._folders = [root / name for root in hierarchies(mounts.read_text())]

    @property
    def path(self) -> str:
        """The group's path inside a hierarchy, as the kubelet's cgroupRoot wants it."""
        return f"/{self.name}"

    def create(self) -> tuple[Path, ...]:
        """Make the group. Returns the folders that a process of the host (not of a pod) joins."""
        joined = []
        for folder in self._folders:
            host = folder / "host"
            try:
                host.mkdir(parents=True, exist_ok=True)
                _delegate(folder.parent)
                _delegate(folder)
                _inherit_cpuset(folder, host)
            except OSError as error:
                raise LocalClusterError(f"control group {folder} cannot be made ({error}); run as root") from error
            joined.append(host)
        return tuple(joined)

    def pids(self, below: str = "") -> set[int]:
        """Every process in the group and the groups below it, or in the subgroup `below` alone."""
        found: set[int] = set()
        for folder in self._folders:
            for file in (folder / below).rglob("cgroup.procs"):
                try:
                    found.update(int(line) for line in file.read_text().split())
                except OSError:  # the group went away while we looked
                    continue
        return found - {os.getpid()}

    def kill_pods(self) -> None:
        """End what runs in pods now; the kubelet, where it runs, starts it again."""
        _kill(self.pids(_PODS))

    def kill(self) -> None:
        """End every process in the group; new ones that appear meanwhile too."""
        deadline = time.monotonic() + _KILL_SECONDS
        while pids := self.pids():
            if time.monotonic() > deadline:
                raise LocalClusterError(f"processes {sorted(pids)} of {self.name} do not end after SIGKILL")
            _kill(pids)
            time.sleep(0.05)

    def remove(self) -> None:
        """Remove the group, which is empty by now."""
        for folder in self._folders:
            if not folder.exists():
                continue
            for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                below.rmdir()
            folder.rmdir()

    def exists(self) -> bool:
        """Whether any part of the group is there."""
        return any(folder.exists() for folder in self._folders)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def hierarchies(mounts: str) -> list[Path]:
    """Where control groups are mounted, from the text of /proc/self/mounts; each hierarchy once."""
    found: dict[str, Path] = {}
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            found.setdefault(f"{kind} {options}", Path(target))
    return list(found.values())


def _delegate(folder: Path) -> None:
    """With cgroup v2, let the children of `folder` have its controllers; v1 has no such file."""
    controllers = folder / "cgroup.controllers"
    if controllers.exists():
        wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
        (folder / "cgroup.subtree_control").write_text(wanted)


def _inherit_cpuset(*folders: Path) -> None:
    """With cgroup v1, a new cpuset is empty and nothing may join it until it has processors and memory nodes."""
    for folder in folders:
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = folder / name
            if file.exists() and not file.read_text().strip() and (folder.parent / "cgroup.procs").exists():
                file.write_text((folder.parent / name).read_text())
