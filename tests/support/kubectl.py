"""kubectl for tests: what a person would type, with deadlines instead of sleeps."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from star_cli.local.binaries import Binaries


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(Binaries().ensure("kubectl")), "--kubeconfig", str(kubeconfig)]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command and return what it prints; its error output is in the exception's message."""
        done = subprocess.run([*self._command, *arguments], input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Server-side apply of some objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", "--server-side", "-f", "-", stdin=json.dumps(items))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self.run("get", kind, name, "-n", namespace, "-o", "json"))
        return found


def eventually(check: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Poll until `check` holds; the deadline passing is a failure that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.3)
