"""Where the local cluster keeps its things: one state folder a cluster, one cache folder for all.

The state folder is disposable (`starctl local down` removes it); the cache survives, as what it holds takes minutes to
make. Both follow the XDG base directory specification, with an override of their own.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from star_cli.local.errors import LocalClusterError

DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Folder of what is slow to make: binaries, images, models. `STAR_CACHE`, else the user's cache folder."""
    env = os.environ if environ is None else environ
    if env.get("STAR_CACHE"):
        return Path(env["STAR_CACHE"])
    base = Path(env["XDG_CACHE_HOME"]) if env.get("XDG_CACHE_HOME") else _home(env) / ".cache"
    return base / "star-operator"


def state_root(environ: Mapping[str, str] | None = None) -> Path:
    """Folder that holds one folder for each cluster. `STAR_STATE`, else the user's state folder."""
    env = os.environ if environ is None else environ
    if env.get("STAR_STATE"):
        return Path(env["STAR_STATE"])
    base = Path(env["XDG_STATE_HOME"]) if env.get("XDG_STATE_HOME") else _home(env) / ".local" / "state"
    return base / "star-operator"


def state_dir(name: str = DEFAULT_NAME, environ: Mapping[str, str] | None = None) -> Path:
    """State folder of the cluster called `name`.

    Raises:
        LocalClusterError: the name is not a short DNS label (it becomes part of the node's name and of cgroup paths).
    """
    if not _NAME.fullmatch(name):
        raise LocalClusterError(
            f"cluster name {name!r} is not a DNS label of at most 20 characters; "
            "use lower-case letters, digits and inner dashes, such as 'default'"
        )
    return state_root(environ) / name


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


@dataclass(frozen=True)
class Layout:
    """The folders and files inside one cluster's state folder."""

    root: Path

    @property
    def state_file(self) -> Path:
        """What was chosen once: ports, addresses, mode."""
        return self.root / "cluster.json"

    @property
    def lock_file(self) -> Path:
        """Held while a command changes the cluster; beside the folder, as `down` removes the folder."""
        return self.root.with_name(f".{self.root.name}.lock")

    @property
    def pki(self) -> Path:
        """Certificate authorities, certificates and keys."""
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def kubeconfigs(self) -> Path:
        """Kubeconfigs of the components, and those made for tests."""
        return self.root / "kubeconfigs"

    @property
    def config(self) -> Path:
        """Rendered configuration files of the components."""
        return self.root / "config"

    @property
    def records(self) -> Path:
        """One process record for each component that was started."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log file for each component."""
        return self.root / "logs"

    @property
    def credentials(self) -> Path:
        """The S3 server's root credential, readable by the owner alone."""
        return self.root / "s3-credentials.json"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens; short, as a Unix socket's path is at most 107 bytes."""
        return self.root / "containerd.sock"
