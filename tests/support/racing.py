"""A namespace in which retention races with readers, pins and new runs: real code over a store and a cluster in memory.

Real are the retention's reconciler with all it decides, the sweep, and what a job does around its stage (reuse, fetch,
commit). Played are the API server, the kubelet, and the operator's part of a run: look the inputs up, make the
ConfigMap, write down what the pod said.
"""

import asyncio
import contextlib
import copy
import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from star_contracts.artifact import (
    MANIFEST_NAME,
    ArtifactKind,
    ArtifactRef,
    Manifest,
    Producer,
    artifact_uri,
    memo_uri,
    work_uri,
)
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import ImportModel, JobSpec, Store
from star_contracts.result import JobError, JobResult
from star_contracts.retention import SweepSpec
from star_jobs.errors import JobFailure
from star_jobs.runtime import JobContext, Outcome, run_job
from star_jobs.sweep.run import run_sweep
from star_operator.builders.retention import NAME, SWEEP_FILE
from star_operator.core.errors import Retryable
from star_operator.core.labels import OURS
from star_operator.core.objects import KubeObject
from star_operator.core.settings import RetentionSettings
from star_operator.core.times import timestamp
from star_operator.kube.resources import JOB, POD, STAR_TYPES, ResourceType
from star_operator.reconcilers.retention import RetentionReconciler, key_of
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster, Place
from tests.support.goldens import settings
from tests.support.interleave import Actor, Crashed
from tests.support.memorystore import MemoryStore, Objects
from tests.support.pipelines import SPEC
from tests.support.runs import owned
from tests.support.star import BASE_LLM, DATASET, star

ROOT = "s3://star/artifacts/team"
STORE = ROOT.rpartition("/")[0]
GRACE = 60
ROUNDS, QUIET = 60, 8
"""Passes after which it must have come to its end, and as many in a row that change nothing are one."""
GONE = {Reason.ARTIFACT_NOT_FOUND, Reason.BEING_DELETED}


class SharedCluster(FakeCluster):
    """The cluster as one process sees it: versions, preconditions and garbage collection; each call is a turn."""

    def __init__(self, objects: dict[Place, KubeObject], turn: Callable[[], None]) -> None:
        super().__init__()
        self.objects, self._turn = objects, turn

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        self._turn()
        return await super().get(rtype, namespace, name)

    async def list_objects(
        self,
        rtype: ResourceType,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[KubeObject]:
        self._turn()
        wanted = (labels or {}).items()
        found = [obj for obj in self.of(rtype.kind) if wanted <= obj["metadata"].get("labels", {}).items()]
        # What is below is replaced and never changed here: a shallow copy is a snapshot, and a hundred times faster.
        return [{**obj, "metadata": dict(obj["metadata"])} for obj in found]

    async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
        self._turn()
        return await super().apply(obj)

    async def merge(self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject) -> KubeObject | None:
        self._turn()
        return await super().merge(rtype, namespace, name, patch)

    async def delete(
        self,
        rtype: ResourceType,
        namespace: str,
        name: str,
        *,
        version: str | None = None,
        uid: str | None = None,
        foreground: bool = False,
    ) -> bool:
        self._turn()
        found = self.objects.get((rtype.kind, namespace, name))
        if found is not None and version not in (None, found["metadata"]["resourceVersion"]):
            raise Retryable("Conflict", f"{rtype.kind} {name} has changed")
        if found is None:
            return False
        self._collect(found)
        return True

    def _collect(self, body: KubeObject) -> None:
        """Delete an object, and what belongs to it."""
        place = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        self.objects.pop(place, None)
        uid = body["metadata"]["uid"]
        for obj in list(self.objects.values()):
            owners = [one["uid"] for one in obj["metadata"].get("ownerReferences", ())]
            is_pod = body["kind"] == JOB.kind and obj["kind"] == POD.kind
            if uid in owners or (is_pod and obj["metadata"]["name"] == body["metadata"]["name"]):
                self._collect(obj)

    def _put(self, place: Place, obj: KubeObject) -> KubeObject:
        uid = self.objects[place]["metadata"]["uid"] if place in self.objects else f"uid-{len(UIDS)}-{place[2]}"
        UIDS.append(uid)
        super()._put(place, obj)
        meta = self.objects[place]["metadata"]
        meta |= {"uid": uid, "resourceVersion": str(len(UIDS))}
        return copy.deepcopy(self.objects[place])


UIDS: list[str] = []
"""Counts writes: versions and UIDs are never given twice."""


class Local(threading.local):
    """What a pod has for itself: its store's turns and its disk."""

    store: MemoryStore
    folder: Path


LOCAL = Local()


class Race:
    """One namespace."""

    def __init__(self, folder: Path, grace: int = GRACE) -> None:
        self.folder, self.grace = folder, grace
        self.pinned: set[Place] = set()
        self.objects, self.places = Objects(), dict[Place, KubeObject]()
        self.hands = SharedCluster(self.places, lambda: None)
        self.clock = Clock(self.hands, settings(), Recorder(lambda: 0.0))
        self.began, self.turned_away, self.passes = 0, 0, 0

    def at(self, seconds: float) -> datetime:
        self.clock.time += timedelta(seconds=seconds)
        return self.clock.time

    # The retention.

    def operate(self, passes: int) -> Callable[[Actor], None]:
        """The operator, started anew after each crash."""

        def work(actor: Actor) -> None:
            for _ in range(passes):
                actor.revive()
                self.look(SharedCluster(self.places, actor.turn))

        return work

    def look(self, cluster: SharedCluster) -> None:
        rules = RetentionSettings(keep_runs=1, keep_failed_runs=0, grace_period_seconds=self.grace)
        store = settings().store.model_copy(update={"uri": STORE, "secret_name": ""})
        chosen = settings().model_copy(update={"retention": rules, "store": store})
        context = Clock(cluster, chosen, Recorder(lambda: 0.0), time=self.clock.time)
        with contextlib.suppress(Retryable, Crashed):
            asyncio.run(RetentionReconciler(context).reconcile(key_of("team")))
        self.passes += 1

    def sweep(self, looks: int) -> Callable[[Actor], None]:
        """The kubelet, as far as it runs sweeps: a pod that dies is followed by another, twice."""

        def work(actor: Actor) -> None:
            for _ in range(looks):
                actor.revive()
                try:
                    actor.turn()
                    self.run_sweep(MemoryStore(self.objects, actor.turn))
                except Crashed:
                    continue

        return work

    def run_sweep(self, store: MemoryStore) -> None:
        job = self.places.get(("Job", "team", NAME))
        if job is None or job.get("status"):
            return
        text = self.places["ConfigMap", "team", NAME]["data"][SWEEP_FILE]
        uid = job["metadata"]["uid"]
        job["tries"] = job.get("tries", 0) + 1
        try:
            result = run_sweep(SweepSpec.model_validate_json(text), store, threading.Event())
        except Crashed:
            if job["tries"] > 2:
                self._job_ended(uid, "Failed", None)
            raise
        self._job_ended(uid, "Complete", result)

    def _job_ended(self, uid: str, how: str, result: JobResult | None) -> None:
        job = self.places.get(("Job", "team", NAME))
        if job is None or job["metadata"]["uid"] != uid:
            return
        job["status"] = {
            "conditions": [{"type": how, "status": "True", "lastTransitionTime": timestamp(self.clock.time)}]
        }
        if result is not None:
            ended = {"exitCode": 0, "message": result.termination_message()}
            status = {"phase": "Succeeded", "containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}
            pod: KubeObject = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": NAME, "namespace": "team"},
                "status": status,
            }
            pod["metadata"]["labels"] = dict(job["metadata"]["labels"])
            self.hands.add(pod)

    # Runs, and whoever else reads.

    def make(self, number: int, actor: Actor | None, work: str) -> None:
        """A run of the series: a dataset, and a teacher that reads it."""
        turn = actor.turn if actor is not None else lambda: None
        name = f"r{number}"
        pipeline = star("StarPipeline", "team", name, {**SPEC, "series": "weekly"})
        pipeline["metadata"]["creationTimestamp"] = f"2026-01-{number:02d}T00:00:00Z"
        turn()
        pipeline = self.hands.add({**pipeline, "status": {"phase": "Running"}})
        specs: dict[str, tuple[str, dict[str, Any]]] = {
            "dataset": ("RecDataset", DATASET),
            "teacher": ("TeacherRun", {"dataset": {"name": f"{name}-dataset"}, "llm": BASE_LLM}),
        }
        for stage, (kind, spec) in specs.items():
            turn()
            self.hands.add(
                {**owned(star(kind, "team", f"{name}-{stage}", spec), pipeline), "status": {"phase": "Pending"}}
            )
        done = [
            self.execute("RecDataset", f"{name}-dataset", "prepare", {}, turn, work),
            self.execute("TeacherRun", f"{name}-teacher", "collect", {"dataset": f"{name}-dataset"}, turn),
        ]
        turn()
        phase = "Succeeded" if all(done) else "Failed"
        pipeline = self.places["StarPipeline", "team", name]
        pipeline["status"] = {"phase": phase, "completionTime": f"2026-01-{number:02d}T01:00:00Z"}
        pipeline["metadata"]["resourceVersion"] += "0"

    def execute(
        self, kind: str, name: str, step: str, inputs: Mapping[str, str], turn: Callable[[], None], work: str = ""
    ) -> bool:
        """Run a resource to its end: its inputs by their names, one pod, its status."""
        refs: dict[str, ArtifactRef] = {}
        for role, source in inputs.items():
            turn()
            found = self.places.get(("RecDataset", "team", source), {}).get("status", {}).get("artifact")
            if found is None:
                return self._written(kind, name, None, turn)
            refs[role] = ArtifactRef(uri=found["uri"], digest=found["digest"])
        uid = self.places[kind, "team", name]["metadata"]["uid"]
        spec = self._spec(kind, name, uid, step, refs, work)
        turn()
        self.hands.add(self._config_map(kind, name, uid, spec))
        LOCAL.store = MemoryStore(self.objects, turn)
        LOCAL.folder = self.folder / uid
        try:
            result = run_job(spec, lambda _: self._stage(refs), threading.Event())
        except JobFailure as failure:
            if failure.reason not in GONE:
                raise
            self.turned_away += 1
            result = JobResult(error=JobError(error_class=failure.error_class, reason=failure.reason, message="gone"))
        return self._written(kind, name, result, turn)

    def _spec(self, kind: str, name: str, uid: str, step: str, refs: Mapping[str, ArtifactRef], work: str) -> JobSpec:
        inputs = {role: ref.digest for role, ref in refs.items()}
        work_hash = value_hash({"step": step, "inputs": inputs, "work": work})
        place = (STORE, "team", kind)
        key = value_hash({"work": work_hash, "uid": uid}).removeprefix("sha256:")[:8]
        return JobSpec(
            store=Store(),
            producer=Producer(kind=kind, namespace="team", name=name, uid=uid, step=step, work_hash=work_hash),
            output=artifact_uri(*place, name, 1, f"{step}-{key}"),
            work=work_uri(*place, name, step, work_hash),
            memo=memo_uri(*place, step, work_hash),
            inputs=inputs,
            stage=ImportModel(source="s3://star/raw/x"),
        )

    def _config_map(self, kind: str, name: str, uid: str, spec: JobSpec) -> KubeObject:
        owner = {"apiVersion": "x", "kind": kind, "name": name, "uid": uid, "controller": True}
        metadata = {"name": f"{name}-1", "namespace": "team", "labels": OURS, "ownerReferences": [owner]}
        data = {"job.json": json.dumps(spec.to_json_dict())}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def _stage(self, refs: Mapping[str, ArtifactRef]) -> Callable[[Any, JobContext], Outcome]:
        def run(_: Any, job: JobContext) -> Outcome:
            job.work.put("part", b"1")
            for ref in refs.values():
                self.read(job, ref)
            for rel in ("a", "b"):
                job.output.add_bytes(job.spec.producer.uid.encode(), rel)
            return Outcome(ArtifactKind.DATASET, dict(job.spec.inputs))

        return run

    def read(self, job: JobContext, ref: ArtifactRef) -> None:
        """Read an artifact; once its manifest was found no file of it may be missing."""
        try:
            job.fetch(ref)
        except JobFailure as failure:
            if failure.reason is Reason.BEING_DELETED or f"holds no {MANIFEST_NAME}" in failure.message:
                raise
            raise AssertionError(f"a reader that began lost a file: {failure.message}") from failure
        self.began += 1

    def _written(self, kind: str, name: str, result: JobResult | None, turn: Callable[[], None]) -> bool:
        turn()
        body = self.places.get((kind, "team", name))
        if body is None:
            return False
        artifact = result.artifact if result is not None else None
        status: dict[str, Any] = {"phase": "Succeeded" if artifact is not None else "Failed"}
        if artifact is not None:
            status["artifact"] = artifact.to_json_dict()
        status["completionTime"] = timestamp(self.clock.time)
        body["status"] = status
        body["metadata"]["resourceVersion"] += "0"
        return artifact is not None

    def evaluate(self, actor: Actor, name: str, dataset: str) -> None:
        """Somebody's own run, on whatever is there."""
        actor.turn()
        self.hands.add(
            {**star("TeacherRun", "team", name, {"dataset": {"name": dataset}, "llm": BASE_LLM}), "status": {}}
        )
        self.execute("TeacherRun", name, "collect", {"dataset": dataset}, actor.turn, work=name)

    def pin(self, actor: Actor, kind: str, name: str, why: str | None) -> None:
        actor.turn()
        patch = {"metadata": {"annotations": {"star.recsys.dev/pin": why}}}
        found = asyncio.run(self.hands.merge(STAR_TYPES[kind], "team", name, patch))
        place = (kind, "team", name)
        if found is not None and why is not None:
            self.pinned.add(place)
        self.pinned -= set() if why is not None else {place}

    # What must hold.

    def check(self, actor: str) -> None:
        """Nothing that a resource has is missing, what has a manifest is whole, and what is pinned is there."""
        assert self.pinned <= set(self.places), (
            f"after {actor}: {self.pinned - set(self.places)} was pinned and is gone"
        )
        for uri, (data, _) in list(self.objects.items()):
            if uri.endswith(f"/{MANIFEST_NAME}"):
                prefix = uri.rpartition("/")[0]
                for path in _files(data):
                    assert f"{prefix}/{path}" in self.objects, f"after {actor}: {prefix} looks whole and is not"
        for body in self.places.values():
            artifact = body.get("status", {}).get("artifact")
            if artifact:
                title = f"{body['kind']} {body['metadata']['name']}"
                found = self.objects.get(f"{artifact['uri']}/{MANIFEST_NAME}")
                assert found is not None, f"after {actor}: {title} has lost its artifact"

    def settle(self) -> None:
        """Let retention come to its end, with nobody else there and no crash."""
        before: list[object] = []
        while len(before) < ROUNDS and (len(before) < QUIET or len(set(before[-QUIET:])) > 1):
            self.look(self.hands)
            self.run_sweep(MemoryStore(self.objects))
            self.at(2 * GRACE)
            self.check("settling")
            before.append((frozenset(self.objects.items()), frozenset(self.places)))
        assert len(before) < ROUNDS, "it comes to no end"

    def leftovers(self) -> list[str]:
        """Objects of the store that nothing in the cluster accounts for."""
        bodies = list(self.places.values())
        prefixes = [body["status"]["artifact"]["uri"] for body in bodies if body.get("status", {}).get("artifact")]
        jobs = [json.loads(body["data"]["job.json"]) for body in bodies if "job.json" in body.get("data", {})]
        prefixes += [job[field] for job in jobs for field in ("output", "work")]
        memos = {uri for uri, (data, _) in self.objects.items() if "/memo/" in uri and self._leads(data)}
        return [uri for uri in self.objects if uri not in memos and uri.rpartition("/")[0] not in prefixes]

    def _leads(self, data: bytes) -> bool:
        return f"{ArtifactRef.model_validate_json(data).uri}/{MANIFEST_NAME}" in self.objects


@cache
def _files(manifest: bytes) -> tuple[str, ...]:
    return tuple(file.path for file in Manifest.model_validate_json(manifest).files)
