"""A node without a kubelet: an object with capacity and a heartbeat, so that the real scheduler places pods on it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from tests.support.kubectl import Kubectl

BEAT_SECONDS = 5.0
"""The node controller gives a node up after 50 s without one."""


@contextmanager
def fake_node(kubectl: Kubectl, name: str, capacity: Mapping[str, str]) -> Iterator[str]:
    """Have a ready node of this capacity for the length of a `with` block; pods bound to it stay Pending."""
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    kubectl.run("create", "-f", "-", stdin=json.dumps(body))
    stop = threading.Event()
    _beat(kubectl, name, capacity)
    thread = threading.Thread(target=_keep_beating, args=(kubectl, name, capacity, stop), daemon=True)
    thread.start()
    try:
        yield name
    finally:
        stop.set()
        thread.join(timeout=60)
        kubectl.run("delete", "node", name)


def _keep_beating(kubectl: Kubectl, name: str, capacity: Mapping[str, str], stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        _beat(kubectl, name, capacity)


def _beat(kubectl: Kubectl, name: str, capacity: Mapping[str, str]) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played", "lastHeartbeatTime": now}
    status = {"capacity": dict(capacity), "allocatable": dict(capacity), "conditions": [ready]}
    kubectl.run("patch", "node", name, "--subresource=status", "-p", json.dumps({"status": status}))
