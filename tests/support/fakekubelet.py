"""A fake kubelet: there is no node in these tests, so it plays one by writing pod statuses as a kubelet would.

Everything else is real: etcd, kube-apiserver, the Job and Deployment controllers, garbage collection. A script decides
how each pod goes; without one every job pod succeeds with an artifact made up from its spec, and every server is ready.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config

from star_contracts.artifact import ArtifactRef, Inventory
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import JobSpec, LookUp
from star_contracts.names import LABEL_KIND, LABEL_STEP
from star_contracts.proofs import (
    ATTEST_SPEC_PATH,
    CARD,
    PAGE,
    PROVENANCE,
    VERDICTS,
    VERIFY_SPEC_PATH,
    AttestSpec,
    VerifySpec,
)
from star_contracts.result import ErrorClass, ExitCode, JobError, JobResult
from star_contracts.retention import SweepSpec
from star_operator.builders.probe import PROBE_FILE
from star_operator.builders.retention import SWEEP_FILE

ATTEST_FILE, VERIFY_FILE = ATTEST_SPEC_PATH.rpartition("/")[2], VERIFY_SPEC_PATH.rpartition("/")[2]
POLL_SECONDS = 0.1
OURS = "app.kubernetes.io/managed-by=star-operator"
RUNNING = "running"
ASKING = "asking"
CREATING = "ContainerCreating"
GROUP = "star.recsys.dev/group"

Script = Callable[[JobSpec, dict[str, Any]], JobResult | str]
"""(job spec, pod) -> how the pod ends, or RUNNING or ASKING to leave it running for now.

As with a real kubelet, a pod with a readiness probe is ready while it asks for its model, any other while it runs.
"""


Pods = list[dict[str, Any]]
Program = Callable[[client.CoreV1Api, dict[str, Any]], JobResult]
"""(API, pod) -> what it answered."""
Stuck = Callable[[dict[str, Any]], str]
"""pod -> the waiting message of a container that cannot be configured, or nothing for a pod that starts."""


def succeed(spec: JobSpec, pod: dict[str, Any]) -> JobResult:
    """The artifact a job would have written: its digest follows from the work. A look-up finds none."""
    if isinstance(spec.stage, LookUp):
        return JobResult()
    return JobResult(
        artifact=ArtifactRef(uri=spec.output, digest=value_hash({"work": spec.producer.work_hash})),
        bytes=1,
        metrics={"hrAvg": 0.5, "loss": 1.0, "kept": 2.0, "trajectories": 3.0},
    )


def swept(spec: SweepSpec) -> JobResult:
    """The answer of a sweep that marks all it is told to, and deletes what it was told before."""
    waiting = len(spec.let_go)
    due = {"nextSeconds": float(max(one.grace_seconds for one in spec.let_go))} if waiting else {}
    return JobResult(metrics={"marked": waiting, "swept": 0, "waiting": waiting, "held": 0, **due})


def attested(spec: AttestSpec) -> JobResult:
    """The answer of a Job that has written a proof, which nothing signs."""
    files = {name: value_hash(name) for name in (CARD, PAGE, PROVENANCE, VERDICTS)}
    digest = value_hash(spec.facts)
    return JobResult(artifact=ArtifactRef(uri=spec.output, digest=digest), metrics={"signed": 0}, files=files)


def holds(spec: VerifySpec) -> JobResult:
    """The answer of a Job that has found everything to be as its digest says."""
    return JobResult(metrics={"verdicts": int(spec.verdict is not None)})


def while_asking(stage: str) -> Script:
    """A script: pods of this stage ask for their model and work for ever, all others end well at once."""
    return lambda spec, pod: ASKING if spec.stage.stage == stage else succeed(spec, pod)


class FakeKubelet:
    """Plays the kubelet for every pod of the operator."""

    def __init__(self, kubeconfig: Path) -> None:
        self._core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self.script: Script = succeed
        self.verified: Callable[[VerifySpec], JobResult] = holds
        """The answer of a Job that verifies a checkpoint."""
        self.started: Counter[str] = Counter()
        """How often a pod of each (namespace/job) was started."""
        self.pods: Counter[str] = Counter()
        """How many pods of each namespace/name there have been."""
        self.stuck: Stuck = lambda pod: ""
        self.ignored: Callable[[dict[str, Any]], bool] = lambda pod: False
        """Pods that no kubelet has taken yet."""
        self.side_car: Callable[[dict[str, Any]], bool] = lambda pod: False
        """Job pods that go on when their main container has ended: somebody gave them one that never does."""
        self.source = Inventory(digest=value_hash("week 1"), objects=1, bytes=1)
        """What probes find, and preparations were made from."""
        self.programs: dict[str, Program] = {}
        """Kind of the owner, in small letters -> what its job pods run in place of being played."""
        self.sweeps: list[SweepSpec] = []
        """What sweeps of retention were told."""
        self.errors: list[str] = []
        self._seen: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> None:
        """Play until stopped."""
        while not self._stop.wait(POLL_SECONDS):
            try:
                pods = self._core.list_pod_for_all_namespaces(label_selector=OURS, _preload_content=False)
                found = json.loads(pods.data)["items"]
                for pod in found:
                    self._play(pod, found)
            except client.ApiException as error:
                if error.status not in (404, 409):
                    self.errors.append(str(error))
            except Exception as error:  # shown at the end of the test that it happened in
                self.errors.append(repr(error))

    def stop(self) -> None:
        """Stop playing."""
        self._stop.set()

    def _play(self, pod: dict[str, Any], pods: Pods) -> None:
        status, meta = pod.get("status", {}), pod["metadata"]
        if status.get("phase") not in (None, "Pending", "Running"):
            return
        if "deletionTimestamp" in meta:
            self._end_deleted(pod)
            return
        if self.ignored(pod):
            return
        uid, namespace = meta["uid"], meta["namespace"]
        new = uid not in self._seen
        self._seen.add(uid)
        self.pods[f"{namespace}/{meta['name']}"] += new
        if why := self.stuck(pod):
            self._write(pod, "Pending", _stuck(why), ready=False)
            return
        if LABEL_STEP not in meta["labels"]:
            self._play_server(pod, pods)
            return
        if any("terminated" in container["state"] for container in status.get("containerStatuses", [])):
            return
        job = meta["labels"].get("batch.kubernetes.io/job-name", "")
        self.started[f"{namespace}/{job}"] += new
        program = self.programs.get(meta["labels"].get(LABEL_KIND, ""))
        if program is not None:
            self._end(pod, program(self._core, pod))
            return
        config_map: Any = self._core.read_namespaced_config_map(job, namespace)
        if SWEEP_FILE in config_map.data:
            self.sweeps.append(SweepSpec.model_validate_json(config_map.data[SWEEP_FILE]))
            self._end(pod, swept(self.sweeps[-1]))
            return
        if PROBE_FILE in config_map.data:
            self._end(pod, JobResult(source=self.source))
            return
        if ATTEST_FILE in config_map.data:
            self._end(pod, attested(AttestSpec.model_validate_json(config_map.data[ATTEST_FILE])))
            return
        if VERIFY_FILE in config_map.data:
            self._end(pod, self.verified(VerifySpec.model_validate_json(config_map.data[VERIFY_FILE])))
            return
        outcome = self.script(JobSpec.model_validate_json(config_map.data["job.json"]), pod)
        if isinstance(outcome, str):
            ready = outcome == ASKING or "readinessProbe" not in pod["spec"]["containers"][0]
            if status.get("phase") != "Running" or _is_ready(pod) != ready:
                self._write(pod, "Running", {"running": {"startedAt": _now()}}, ready=ready)
            return
        self._end(pod, outcome)

    def _end(self, pod: dict[str, Any], outcome: JobResult) -> None:
        code = int(outcome.exit_code())
        ended = {
            "exitCode": code,
            "message": outcome.termination_message(),
            "reason": "Completed" if not code else "Error",
        }
        phase = "Running" if self.side_car(pod) else "Failed" if code else "Succeeded"
        self._write(pod, phase, {"terminated": ended}, ready=False)

    def _end_deleted(self, pod: dict[str, Any]) -> None:
        """A job's pod that is told to stop says so and ends; until its end is counted a finalizer keeps it."""
        if LABEL_STEP not in pod["metadata"]["labels"]:
            return
        error = JobError(error_class=ErrorClass.RETRYABLE, reason=Reason.INTERRUPTED, message="told to stop")
        ended = {"exitCode": int(ExitCode.RETRYABLE), "message": JobResult(error=error).termination_message()}
        self._write(pod, "Failed", {"terminated": {**ended, "reason": "Error"}}, ready=False)

    def _play_server(self, pod: dict[str, Any], pods: Pods) -> None:
        """A server is ready at once; the pods of a group are when all of them run and none has formed before."""
        if pod.get("status", {}).get("phase") != "Running":
            alone = GROUP not in pod["metadata"]["labels"]
            self._write(pod, "Running", {"running": {"startedAt": _now()}}, ready=alone)
            return
        peers = _group_of(pod, pods)
        arguments = pod["spec"]["containers"][0].get("args", [])
        size = int(arguments[arguments.index("--nnodes") + 1]) if "--nnodes" in arguments else 0
        running = [peer for peer in peers if peer["status"].get("phase") == "Running"]
        if len(peers) == len(running) == size and not any(_is_ready(peer) for peer in peers):
            for peer in peers:
                self._write(peer, "Running", peer["status"]["containerStatuses"][0]["state"], ready=True)

    def _write(self, pod: dict[str, Any], phase: str, state: dict[str, Any], *, ready: bool) -> None:
        meta = pod["metadata"]
        name = pod["spec"]["containers"][0]["name"]
        known = {"image": "none", "imageID": "none", "restartCount": 0}
        containers = [{**known, "name": name, "ready": ready, "state": state}]
        if phase == "Running" and LABEL_STEP in meta["labels"] and self.side_car(pod):
            goes_on = {"running": {"startedAt": _now()}}
            containers.append({**known, "name": "side-car", "ready": True, "state": goes_on})
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": _now()}
        body: dict[str, Any] = {"status": {"phase": phase, "conditions": [condition], "containerStatuses": containers}}
        if "startTime" not in pod.get("status", {}):
            body["status"]["startTime"] = _now()
        pod["status"] = {**pod.get("status", {}), **body["status"]}
        self._core.patch_namespaced_pod_status(meta["name"], meta["namespace"], body)


def _group_of(pod: dict[str, Any], pods: Pods) -> Pods:
    labels, namespace = pod["metadata"]["labels"], pod["metadata"]["namespace"]
    keys = (GROUP, "star.recsys.dev/server")
    return [
        other
        for other in pods
        if other["metadata"]["namespace"] == namespace
        and all(other["metadata"]["labels"].get(key) == labels.get(key) for key in keys)
    ]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _stuck(message: str) -> dict[str, Any]:
    """A waiting state: `ContainerCreating` says no more than that, anything else is what configuring it met."""
    if message == CREATING:
        return {"waiting": {"reason": CREATING}}
    return {"waiting": {"reason": "CreateContainerConfigError", "message": message}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
