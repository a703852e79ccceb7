"""kubectl for tests: what a person would type, with deadlines instead of sleeps.

What tests poll is read in this process: a kubectl takes a tenth of a second of a core, and polls would take both.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.kubeapi import KubeApi


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(Binaries().ensure("kubectl")), "--kubeconfig", str(kubeconfig)]
        self._reader = Reader(kubeconfig)

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command and return what it prints; its error output is in the exception's message."""
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line, for a process that goes on while the test does."""
        return [*self._command, *arguments]

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Server-side apply of some objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", "--server-side", "-f", "-", stdin=json.dumps(items))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object. Raises RuntimeError when there is none."""
        found = self._reader.read(kind, namespace, name)
        if found is None:
            raise RuntimeError(f'{kind} "{name}" not found in namespace {namespace}')
        return found

    def list(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, or of several with commas between them, with these labels."""
        query = f"?labelSelector={quote(selector)}" if selector else ""
        listed = (self._reader.read(one, namespace, query=query) for one in kind.split(","))
        return [item for found in listed if found is not None for item in found["items"]]


class Reader:
    """Reads objects by what kubectl calls their kinds: plural, singular or short names, in any case."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._api: KubeApi | None = None
        self._places: dict[str, tuple[str, bool]] = {}
        """Name of a kind -> (URL path of its group and version, with its plural; whether it is namespaced)."""

    def read(self, kind: str, namespace: str, name: str = "", query: str = "") -> dict[str, Any] | None:
        """The object, or the listing without a name; None when there is none. Raises RuntimeError for other answers."""
        self._api = self._api or KubeApi(self._kubeconfig, timeout=60)
        try:
            group, plural, namespaced = self._place(self._api, kind)
            inside = f"/namespaces/{namespace}" if namespaced else ""
            return self._api.get(f"{group}{inside}/{plural}{'/' if name else ''}{name}{query}")
        except LocalClusterError as error:
            raise RuntimeError(str(error)) from error

    def _place(self, api: KubeApi, kind: str) -> tuple[str, str, bool]:
        wanted = kind.lower().partition(".")[0]
        if wanted not in self._places:
            self._places = _discover(api)
        if wanted not in self._places:
            raise RuntimeError(f"the API server has no {kind}")
        path, namespaced = self._places[wanted]
        group, _, plural = path.rpartition("/")
        return group, plural, namespaced


def _discover(api: KubeApi) -> dict[str, tuple[str, bool]]:
    groups = (api.get("/apis") or {})["groups"]
    found: dict[str, tuple[str, bool]] = {}
    for version in ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]:
        for one in (api.get(version) or {}).get("resources", []):
            if "/" in one["name"]:
                continue
            for name in (one["name"], one["singularName"], one["kind"].lower(), *one.get("shortNames", ())):
                found.setdefault(name, (f"{version}/{one['name']}", one["namespaced"]))
    return found


def eventually(check: Callable[[], bool], what: str, seconds: float = 150.0) -> None:
    """Poll until `check` holds; the deadline passing is a failure that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.3)
