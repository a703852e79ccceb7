"""All pods that a cluster ever had while somebody looked, those that lived for a second among them."""

import codecs
import json
import subprocess
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.support.kubectl import Kubectl

_CHUNK = 1 << 16


@dataclass
class PodWatch:
    """Follows the pods of all namespaces by a watch, and remembers each as it was last."""

    kubectl: Kubectl
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By UID."""
    _process: subprocess.Popen[bytes] | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "PodWatch":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        if self._thread is not None:
            self._thread.join()

    def of(self, namespace: str, since: str, until: str) -> list[dict[str, Any]]:
        """Return the pods that were made in a namespace between two times (RFC 3339, seconds)."""
        made = ((pod, pod["metadata"]) for pod in list(self.pods.values()))
        return [
            pod for pod, meta in made if meta["namespace"] == namespace and since <= meta["creationTimestamp"] <= until
        ]

    def _run(self) -> None:
        while not self._stop.is_set():
            command = self.kubectl.command("get", "pods", "--all-namespaces", "--watch", "-o", "json")
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self._read(self._process)
            self._process.wait()
            self._stop.wait(0.5)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Read the objects that a kubectl prints one after the other."""
        assert process.stdout is not None
        decoder, characters, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")(), ""
        while data := process.stdout.read1(_CHUNK):  # type: ignore[attr-defined]
            text += characters.decode(data)
            while text := text.lstrip():
                try:
                    pod, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                self.pods[pod["metadata"]["uid"]] = pod


def gpus(pod: dict[str, Any]) -> int:
    """Return how many GPUs a pod asks for."""
    limits = (one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])
    return sum(int(one.get("nvidia.com/gpu", 0)) for one in limits)


def is_server(pod: dict[str, Any]) -> bool:
    """Say whether it is an LLM server's."""
    return "star.recsys.dev/server" in pod["metadata"].get("labels", {})
