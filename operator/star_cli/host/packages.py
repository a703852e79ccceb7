"""Debian packages: everything that is missing in one run of apt-get, with the machine's own sources and proxies."""

import os
import subprocess
from collections.abc import Sequence

_TAIL = 10
_LISTS_SECONDS = 300
_INSTALL_SECONDS = 1200


class PackagesError(RuntimeError):
    """apt-get could not install the packages; the message has its own words."""


def install_packages(packages: Sequence[str]) -> None:
    """Install packages as root. An `update` that fails is only told where the installation fails too.

    Raises:
        PackagesError: what apt-get said.
    """
    # needrestart of Ubuntu would ask, or restart services of the machine
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    update = _apt(("update",), env, _LISTS_SECONDS)
    install = _apt(("install", "--yes", "--no-install-recommends", *packages), env, _INSTALL_SECONDS)
    if install:
        said = "\n".join(text for text in (update, install) if text)
        raise PackagesError(f"apt-get could not install {' '.join(packages)}; it said:\n{said}")


def _apt(arguments: Sequence[str], env: dict[str, str], seconds: int) -> str:
    """Run apt-get; the end of what it said where it failed, else nothing."""
    command = ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else "\n".join((done.stderr or done.stdout).splitlines()[-_TAIL:])
