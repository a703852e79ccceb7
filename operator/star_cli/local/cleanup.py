"""What an ended cluster leaves on the machine, found and removed: mounts, sockets, links, cache files.

Everything here may run any number of times, on any part of a cluster that is left.
"""

import ctypes
import os
import shutil
from pathlib import Path

from star_cli.local.errors import LocalClusterError

_SHIM_SOCKETS = Path("/run/containerd/s")
_CNI_RESULTS = Path("/var/lib/cni/results")
_CONTAINER_LINKS = Path("/var/log/containers")
KUBELET_FOLDER = Path("/var/lib/kubelet")
_MNT_DETACH = 2


def mounts_below(folder: Path, mountinfo: str) -> list[Path]:
    """Mount points inside `folder`, innermost first, from the text of /proc/self/mountinfo (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        escaped = line.split()[4]
        target = Path(escaped.encode().decode("unicode_escape"))  # blanks are written as \\040
        if folder in target.parents:
            found.append(target)
    return found[::-1]


def unmount_below(folder: Path) -> None:
    """Unmount everything inside `folder`.

    Raises:
        LocalClusterError: something stays mounted; removing the folder then could delete through it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for target in _mounted(folder):
        if libc.umount2(os.fsencode(target), 0) != 0:
            libc.umount2(os.fsencode(target), _MNT_DETACH)
    left = _mounted(folder)
    if left:
        raise LocalClusterError(f"{left[0]} stays mounted; unmount it (umount {left[0]}), then run `down` again")


def shim_sockets(containerd_state: Path) -> list[Path]:
    """Sockets of the shims whose task folders are below containerd's state folder."""
    found = []
    for file in containerd_state.glob("io.containerd.runtime.v2.task/*/*/address"):
        address = Path(file.read_text().strip().removeprefix("unix://"))
        if address.parent == _SHIM_SOCKETS:
            found.append(address)
    return found


def dead_sockets(sockets: list[Path], bound: str) -> list[Path]:
    """Those sockets that no process has, from the text of /proc/net/unix: left by shims that were killed earlier."""
    alive = {line.rpartition(" ")[2] for line in bound.splitlines()}
    return [socket for socket in sockets if str(socket) not in alive]


def remove_strays(root: Path, containerd_state: Path, *, kubelet_folder_is_ours: bool) -> None:
    """Remove what containerd, the CNI library and the kubelet keep outside of the state folder `root`."""
    dead = dead_sockets(_files(_SHIM_SOCKETS), Path("/proc/net/unix").read_text())
    for socket in (*shim_sockets(containerd_state), *dead):
        socket.unlink(missing_ok=True)
    for file in _files(_CNI_RESULTS):
        if f'"{root}/' in file.read_text(errors="replace"):
            file.unlink(missing_ok=True)
    for link in _files(_CONTAINER_LINKS):
        if link.is_symlink() and root in link.readlink().parents:
            link.unlink(missing_ok=True)
    if kubelet_folder_is_ours:
        shutil.rmtree(KUBELET_FOLDER, ignore_errors=True)
    for folder in (_SHIM_SOCKETS, _CNI_RESULTS, _CONTAINER_LINKS):
        _remove_empty(folder)
        if folder.parent.name in ("containerd", "cni"):
            _remove_empty(folder.parent)


def remove_folder(root: Path) -> None:
    """Remove the state folder; nothing is mounted in it any more."""
    unmount_below(root)
    if root.exists():
        shutil.rmtree(root)


def _mounted(folder: Path) -> list[Path]:
    return mounts_below(folder.resolve(), Path("/proc/self/mountinfo").read_text())


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
