"""Programs that are on this machine already: on PATH, or where their packages put them, in a version that fits."""

import os
import shutil
import subprocess
from pathlib import Path

from star_cli.local.versions import Tool

_PROBE_SECONDS = 20
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(tool: Tool) -> Path | None:
    """The program on this machine in a version that fits, or None."""
    for folder in _search_path(tool):
        path = shutil.which(tool.name, path=folder)
        if path is not None and _fits(tool, path):
            return Path(path)
    return None


def _search_path(tool: Tool) -> list[str]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not tool.on_path:
        return list(tool.directories)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    folders = [*([assets] if assets else []), *tool.directories, *path, *_SYSTEM_DIRECTORIES]
    return list(dict.fromkeys(folder for folder in folders if folder))


def _fits(tool: Tool, path: str) -> bool:
    if not tool.accept:
        return True
    try:
        probe = subprocess.run(
            [path, *tool.version_command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tool.accepts(probe.stdout + probe.stderr)
