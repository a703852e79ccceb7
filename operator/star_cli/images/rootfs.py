"""A Debian root file system to stand on where no image registry is in reach, made by mmdebstrap.

It takes packages from where this machine's own apt takes Debian's; neither sources nor apt settings are left in it.
mmdebstrap(1), https://manpages.debian.org/mmdebstrap
"""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from star_cli.images.content import HASH_LENGTH
from star_cli.images.errors import ImagesError
from star_cli.images.hostconfig import CODENAME, host_apt_settings, host_debian_sources

_PYTHON = "python3"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
_KEPT = ("/usr/share/doc/*/copyright",)
_FORGET_SOURCES = 'rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap'


def reference(registry: str, packages: Sequence[str]) -> str:
    """Reference of the root file system's image: its tag follows from what is in it."""
    content = "\n".join((CODENAME, _PYTHON, *packages, *_LEFT_OUT, *_KEPT, _FORGET_SOURCES))
    return f"{registry}/star/rootfs:{CODENAME}-{hashlib.sha256(content.encode()).hexdigest()[:HASH_LENGTH]}"


def command(packages: Sequence[str], sources: Sequence[str], apt_config: Path, target: Path) -> list[str]:
    """`mmdebstrap` for a minimal Debian with Python and `packages`, into the archive `target`.

    Args:
        packages: Debian packages beside Python.
        sources: one-line apt sources; none: mmdebstrap's own default.
        apt_config: apt settings that hold while it runs.
        target: `*.tar`.
    """
    options = ["--variant=minbase", "--quiet", f"--include={','.join((_PYTHON, *packages))}"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    options += [f"--dpkgopt=path-include={pattern}" for pattern in _KEPT]
    options += [f"--aptopt={line}" for line in apt_config.read_text().splitlines() if line]
    options += [f"--customize-hook={_FORGET_SOURCES}"]
    return ["mmdebstrap", *options, CODENAME, str(target), *sources]


def make(packages: Sequence[str], folder: Path, certificates: Path) -> Path:
    """Make the archive in `folder`. Returns its path. Takes about a minute.

    Raises:
        ImagesError: mmdebstrap is missing or fails.
    """
    if not shutil.which("mmdebstrap"):
        raise ImagesError(
            "no base image: name one with --base-image (Debian 12 with Python 3.11, such as "
            "python:3.11-slim-bookworm), or install mmdebstrap, with which one is made here: apt-get install mmdebstrap"
        )
    target = folder / "rootfs.tar"
    settings = folder / "apt.conf"
    settings.write_text(host_apt_settings(str(certificates)))
    done = subprocess.run(
        command(packages, host_debian_sources(CODENAME), settings, target), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImagesError(f"mmdebstrap failed; is Debian's archive in reach? It said:\n{done.stderr.strip()[-1500:]}")
    return target
