"""A fake kubelet: there is no node in these tests, so it plays one by writing pod statuses as a kubelet would.

Everything else is real: etcd, kube-apiserver, the Job and Deployment controllers, garbage collection. A script decides
how each pod goes; without one every job pod succeeds with an artifact made up from its spec, and every server is ready.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.job import JobSpec
from star_contracts.names import LABEL_STEP
from star_contracts.result import JobResult

POLL_SECONDS = 0.1
OURS = "app.kubernetes.io/managed-by=star-operator"
RUNNING = "running"

Script = Callable[[JobSpec, dict[str, Any]], JobResult | str]
"""(job spec, pod) -> how the pod ends, or RUNNING to leave it running for now."""


def succeed(spec: JobSpec, pod: dict[str, Any]) -> JobResult:
    """The artifact a job would have written: its digest follows from the work."""
    return JobResult(
        artifact=ArtifactRef(uri=spec.output, digest=value_hash({"work": spec.producer.work_hash})),
        bytes=1,
        metrics={"hrAvg": 0.5, "loss": 1.0, "kept": 2.0, "trajectories": 3.0},
    )


class FakeKubelet:
    """Plays the kubelet for every pod of the operator."""

    def __init__(self, kubeconfig: Path) -> None:
        self._core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self.script: Script = succeed
        self.started: Counter[str] = Counter()
        """How often a pod of each (namespace/job) was started."""
        self.errors: list[str] = []
        self._seen: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> None:
        """Play until stopped."""
        while not self._stop.wait(POLL_SECONDS):
            try:
                pods = self._core.list_pod_for_all_namespaces(label_selector=OURS, _preload_content=False)
                for pod in json.loads(pods.data)["items"]:
                    self._play(pod)
            except client.ApiException as error:
                if error.status not in (404, 409):
                    self.errors.append(str(error))
            except Exception as error:  # shown at the end of the test that it happened in
                self.errors.append(repr(error))

    def stop(self) -> None:
        """Stop playing."""
        self._stop.set()

    def _play(self, pod: dict[str, Any]) -> None:
        status = pod.get("status", {})
        if status.get("phase") not in (None, "Pending", "Running") or "deletionTimestamp" in pod["metadata"]:
            return
        if LABEL_STEP not in pod["metadata"]["labels"]:
            if status.get("phase") != "Running":
                self._write(pod, "Running", {"running": {}}, ready=True)
            return
        uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        job = pod["metadata"]["labels"].get("batch.kubernetes.io/job-name", "")
        if uid not in self._seen:
            self._seen.add(uid)
            self.started[f"{namespace}/{job}"] += 1
        config_map: Any = self._core.read_namespaced_config_map(job, namespace)
        outcome = self.script(JobSpec.model_validate_json(config_map.data["job.json"]), pod)
        if isinstance(outcome, str):
            if status.get("phase") != "Running":
                self._write(pod, "Running", {"running": {}}, ready=True)
            return
        code = int(outcome.exit_code())
        ended = {
            "exitCode": code,
            "message": outcome.termination_message(),
            "reason": "Completed" if not code else "Error",
        }
        self._write(pod, "Failed" if code else "Succeeded", {"terminated": ended}, ready=False)

    def _write(self, pod: dict[str, Any], phase: str, state: dict[str, Any], *, ready: bool) -> None:
        meta = pod["metadata"]
        name = pod["spec"]["containers"][0]["name"]
        container = {
            "name": name,
            "image": "none",
            "imageID": "none",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        body = {"status": {"phase": phase, "conditions": [condition], "containerStatuses": [container]}}
        self._core.patch_namespaced_pod_status(meta["name"], meta["namespace"], body)


@contextmanager
def fake_kubelet(kubeconfig: Path) -> Iterator[FakeKubelet]:
    """Run a fake kubelet for the length of a `with` block."""
    kubelet = FakeKubelet(kubeconfig)
    thread = threading.Thread(target=kubelet.run, daemon=True)
    thread.start()
    try:
        yield kubelet
    finally:
        kubelet.stop()
        thread.join(timeout=10)
