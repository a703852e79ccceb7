"""One run-to-completion resource in a cluster in memory, with the Job controller and the kubelet played by hand."""

import asyncio
import time
from datetime import timedelta
from typing import Any

from star_contracts.result import JobResult
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.reconcilers.run import RunKind, RunReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings

NAMESPACE = "team"
STORE_SECRET = settings().store.secret_name


class World:
    """A resource, its reconciler, and what it refers to."""

    def __init__(self, kind: RunKind[Any], resource: KubeObject, *others: KubeObject) -> None:
        self.cluster = FakeCluster()
        self.queue = Recorder(time.monotonic)
        self.context = Clock(self.cluster, settings(), self.queue)
        self._kind = kind
        self._key = Key(resource["kind"], NAMESPACE, resource["metadata"]["name"])
        data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
        secret = {"name": STORE_SECRET, "namespace": NAMESPACE}
        for obj in (resource, *others, {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data}):
            self.cluster.add(obj)

    def passes(self, count: int = 4) -> None:
        """Reconcile some times, each time by an operator that has just started: each pass takes one decision."""
        for _ in range(count):
            asyncio.run(RunReconciler(self._kind, self.context).reconcile(self._key))
            self.context.time += timedelta(minutes=10)

    @property
    def status(self) -> dict[str, Any]:
        """The resource's status."""
        found: dict[str, Any] = self.cluster.objects[self._key.kind, NAMESPACE, self._key.name].get("status", {})
        return found

    def ends(self, result: JobResult | None, **ended: Any) -> None:
        """The running Job ends, its pod with this result in its termination message."""
        failed = result is None or result.error is not None
        condition = {"type": "Failed", "reason": "PodFailurePolicy"} if failed else {"type": "Complete"}
        state = {"terminated": {"message": result.termination_message() if result else "Killed", **ended}}
        phase = "Failed" if failed else "Succeeded"
        self.pod({"phase": phase, "containerStatuses": [{"name": "main", "state": state}], "conditions": []})
        job = self._running()
        job["status"] = {"conditions": [{**condition, "status": "True"}]}

    def pod(self, status: dict[str, Any], index: int = 0) -> None:
        """The running Job has a pod with this status."""
        job = self._running()
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        self.cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"{job['metadata']['name']}-{index}", "namespace": NAMESPACE, "labels": labels},
                "spec": {"containers": [{"name": "main"}]},
                "status": status,
            }
        )

    def _running(self) -> KubeObject:
        """The one Job that has not ended, or the only one there is."""
        jobs = self.cluster.of("Job")
        [job] = jobs if len(jobs) == 1 else [job for job in jobs if "conditions" not in job.get("status", {})]
        return job
