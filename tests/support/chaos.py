"""Kills in mid-run: a teacher's worker pod and the operator, while trajectories are being made.

Runs beside the chain in a thread of its own. It remembers which finished trajectories it saw at the kills, so that a
test can tell whether any of them was made again.
"""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from star_cli.local.objectstore import Credentials
from tests.support.kubectl import Kubectl
from tests.support.pace import stretched

WORKERS = "star.recsys.dev/kind=teacherrun,star.recsys.dev/step=generate"
OPERATOR = "app.kubernetes.io/name=star-operator"
ENOUGH = 3
"""Finished trajectories to wait for before the kills: there must be something to lose."""
DEADLINE_SECONDS = 1500.0


@dataclass
class Disturbance:
    """What was killed, and what was finished by then."""

    kubectl: Kubectl
    namespace: str
    s3: Any
    killed: list[str] = field(default_factory=list)
    before: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Finished trajectories at the time of the kills: key -> (ETag, last modified)."""
    error: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        """Begin to watch for the moment."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Give up watching."""
        self._stop.set()

    def read(self, uri: str) -> bytes:
        """Return an object of the demo's store."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def empty_store(self) -> None:
        """Delete all that the store has of the namespace."""
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket="star", Prefix=f"{self.namespace}/"):
            for entry in page.get("Contents", []):
                self.s3.delete_object(Bucket="star", Key=entry["Key"])

    def finished(self) -> dict[str, tuple[str, str]]:
        """Return the trajectories in the work area now."""
        found = {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="star", Prefix=f"{self.namespace}/teacherrun/")
        for page in pages:
            for entry in page.get("Contents", []):
                if "/work/generate-" in entry["Key"] and "/trajectories/" in entry["Key"]:
                    found[entry["Key"]] = (entry["ETag"], entry["LastModified"].isoformat())
        return found

    def _run(self) -> None:
        deadline = time.monotonic() + stretched(DEADLINE_SECONDS)
        while not self._stop.wait(2.0):
            if time.monotonic() > deadline:
                self.error = "the moment for the kills never came"
                return
            try:
                running = self._running(WORKERS, self.namespace)
                if running and len(self.finished()) >= ENOUGH:
                    self._kill(running[0], self.namespace)
                    self._kill(self._running(OPERATOR, "star-system")[0], "star-system")
                    self.before = self.finished()
                    return
            except (RuntimeError, IndexError) as error:
                self.error = str(error)

    def _running(self, selector: str, namespace: str) -> list[str]:
        listing = json.loads(self.kubectl.run("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))
        return [pod["metadata"]["name"] for pod in listing["items"] if pod["status"].get("phase") == "Running"]

    def _kill(self, pod: str, namespace: str) -> None:
        self.kubectl.run("delete", "pod", pod, "-n", namespace, "--grace-period=0", "--force", "--wait=false")
        self.killed.append(f"{namespace}/{pod}")


def disturbance(kubectl: Kubectl, namespace: str, endpoint: str, credentials: Credentials) -> Disturbance:
    """Prepare the kills for a namespace whose store is at `endpoint`."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    return Disturbance(kubectl, namespace, client)
