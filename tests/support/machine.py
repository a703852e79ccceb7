"""What a cluster could leave on the machine, as values that can be compared before and after."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from star_cli.local.cgroups import hierarchies
from star_cli.local.network import read_sysctls
from star_cli.local.paths import state_root

_OUR_INTERFACES = ("star", "veth", "cni")
_OUR_GROUPS = ("star-", "kubepods")
_FOLDERS = ("/run/netns", "/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers")


@dataclass(frozen=True)
class Machine:
    """Mounts, links, packet filter tables, control groups, folders and kernel parameters.

    Only those that a cluster could have made: other work on the machine may come and go meanwhile.
    """

    mounts: frozenset[str]
    interfaces: frozenset[str]
    tables: str
    groups: frozenset[str]
    folders: frozenset[str]
    states: frozenset[str]
    sysctls: frozenset[tuple[str, str]]


def snapshot() -> Machine:
    """The machine as it is now."""
    mounts = Path("/proc/self/mounts").read_text()
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    groups = {str(child) for root in hierarchies(mounts) for child in root.iterdir()}
    ours = (str(state_root()), *_FOLDERS)
    below = {
        str(path) for folder in _FOLDERS if Path(folder).exists() for path in [Path(folder), *Path(folder).iterdir()]
    }
    states = {str(path) for path in state_root().iterdir()} if state_root().exists() else set()
    return Machine(
        mounts=frozenset(target for line in mounts.splitlines() if (target := line.split()[1]).startswith(ours)),
        interfaces=frozenset(
            path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(_OUR_INTERFACES)
        ),
        tables=tables,
        groups=frozenset(group for group in groups if Path(group).name.startswith(_OUR_GROUPS)),
        folders=frozenset(below),
        states=frozenset(states),
        sysctls=frozenset(read_sysctls().items()),
    )
