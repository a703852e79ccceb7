"""What happens in a cluster and in a repository, and when it was seen; the API is watched, not polled."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from tests.support.kubectl import eventually

Body = dict[str, Any]
TIP_SECONDS = 0.005
"""How often a branch's end is looked at."""


@dataclass(frozen=True)
class Sighting:
    """One version of a resource."""

    at: float
    """Seconds of `time.monotonic`."""
    kind: str
    """Its plural."""
    namespace: str
    body: Body

    @property
    def status(self) -> Body:
        found: Body = self.body.get("status", {})
        return found


class Watched:
    """Everything that was seen, in order."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._seen: list[Sighting] = []

    def follow(self, group: str, version: str, plural: str, stop: threading.Event) -> None:
        """Watch one kind in all namespaces until told to stop."""
        custom = client.CustomObjectsApi(config.new_client_from_config(str(self._kubeconfig)))
        while not stop.is_set():
            try:
                listing = (custom.list_cluster_custom_object, group, version, plural)
                for event in watch.Watch().stream(*listing, timeout_seconds=60):
                    if stop.is_set():
                        return
                    body = event["object"]
                    namespace = body["metadata"].get("namespace", "")
                    self._seen.append(Sighting(time.monotonic(), plural, namespace, body))
            except client.ApiException as error:
                if error.status != 410:
                    raise
            except Exception:  # the API server ends before the watch does
                if not stop.is_set():
                    raise

    def all(self, kind: str, namespace: str, holds: Callable[[Sighting], bool]) -> list[Sighting]:
        """The sightings of a kind and namespace of which something holds, in order."""
        return [one for one in list(self._seen) if (one.kind, one.namespace) == (kind, namespace) and holds(one)]

    def wait(
        self, kind: str, namespace: str, holds: Callable[[Sighting], bool], what: str, seconds: float = 240.0
    ) -> Sighting:
        """The first sighting of which something holds, waited for."""
        eventually(lambda: bool(self.all(kind, namespace, holds)), what, seconds)
        return self.all(kind, namespace, holds)[0]


@contextmanager
def watching(kubeconfig: Path, kinds: dict[str, tuple[str, str]]) -> Iterator[Watched]:
    """Watch kinds, given as plural -> (group, version), for the length of a `with` block."""
    seen, stop = Watched(kubeconfig), threading.Event()
    for plural, (group, version) in kinds.items():
        threading.Thread(target=seen.follow, args=(group, version, plural, stop), daemon=True).start()
    try:
        yield seen
    finally:
        stop.set()


class Tip:
    """Where a branch ended when: its file in the server's own bare repository, looked at all the time."""

    def __init__(self, repository: Path, branch: str = "main") -> None:
        self._file = repository / "refs" / "heads" / branch
        self._moves: dict[str, float] = {}

    def follow(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(TIP_SECONDS):
            try:
                commit = self._file.read_text().strip()
            except FileNotFoundError:  # packed, or not pushed yet
                continue
            if commit not in self._moves:
                self._moves[commit] = time.monotonic()

    def reached(self, commit: str, seconds: float = 240.0) -> float:
        """When the branch ended at a commit first."""
        eventually(lambda: commit in self._moves, f"the branch ends at {commit}", seconds)
        return self._moves[commit]


@contextmanager
def watching_tip(repository: Path, branch: str = "main") -> Iterator[Tip]:
    """Look at a branch for the length of a `with` block."""
    tip, stop = Tip(repository, branch), threading.Event()
    thread = threading.Thread(target=tip.follow, args=(stop,), daemon=True)
    thread.start()
    try:
        yield tip
    finally:
        stop.set()
        thread.join(timeout=10)
