"""Files of a Go module's own archive: what a program built from it reads when it runs, and manifests beside it."""

import json
import subprocess
from pathlib import Path

from star_cli.host.search import find
from star_cli.local.versions import TOOLS


def module_folder(path: str, version: str) -> Path:
    """Where the module's files are, downloaded and checked by Go where they are not there yet. Read-only."""
    command = [str(find(TOOLS["go"])), "mod", "download", "-json", f"{path}@v{version}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr or done.stdout
    return Path(json.loads(done.stdout)["Dir"])
