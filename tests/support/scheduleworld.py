"""A schedule in a cluster in memory: each pass is one of an operator that has just started."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.reconcilers.retrainschedule import RetrainScheduleReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.pipelines import SPEC
from tests.support.star import star

MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
GPUS = {"compute": {"pool": "h20", "gpusPerNode": 2}}
SMALL: dict[str, Any] = {
    **SPEC,
    "sft": {"template": {**SPEC["sft"]["template"], **GPUS}},
}
"""Two GPUs at once."""


class Busy(FakeCluster):
    """Refuses runs in some namespaces, and dies after so many of them."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: dict[str, Exception] = {}
        self.dies_after: int | None = None

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        meta = obj["metadata"]
        if meta["namespace"] in self.refuses:
            raise self.refuses[meta["namespace"]]
        if (obj["kind"], meta["namespace"], meta["name"]) in self.objects:
            raise Retryable("AlreadyExists", "it is there")
        if dry_run:
            return obj
        if obj["kind"] == "Event":
            return await super().create(obj)
        if self.dies_after == 0:
            raise KeyboardInterrupt
        if self.dies_after is not None:
            self.dies_after -= 1
        return await super().create(obj)


class World:
    """A schedule, its tenants, and the reconciler; the pipelines' own reconciler is played by hand."""

    def __init__(self, tenants: int = 3, name: str = "nightly", **spec: Any) -> None:
        self.name = name
        self.cluster = Busy()
        self.context = Clock(self.cluster, settings(), Recorder(time.monotonic))
        self.context.time = MIDNIGHT - timedelta(hours=1)
        schedule = star("RetrainSchedule", "", name, {"schedule": "0 0 * * *", "pipeline": SMALL, **spec})
        del schedule["metadata"]["namespace"]
        self.cluster.add(schedule)
        for n in range(tenants):
            self.namespace(f"team-{n}")
        self.look()
        self.context.time = MIDNIGHT

    def namespace(self, name: str, **labels: str) -> None:
        meta = {"name": name, "labels": {"star.recsys.dev/retrain": "true", **labels}}
        self.cluster.add({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

    def look(self, after: float = 0) -> None:
        self.context.time += timedelta(seconds=after)
        asyncio.run(RetrainScheduleReconciler(self.context).reconcile(Key("RetrainSchedule", "", self.name)))

    @property
    def schedule(self) -> dict[str, Any]:
        return self.cluster.objects["RetrainSchedule", "", self.name]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.schedule["status"]
        return found

    @property
    def message(self) -> str:
        found: str = next(c["message"] for c in self.status["conditions"] if c["type"] == "Ready")
        return found

    @property
    def runs(self) -> list[str]:
        return sorted(f"{namespace}/{name}" for kind, namespace, name in self.cluster.objects if kind == "StarPipeline")

    def pipeline(self, run: str) -> dict[str, Any]:
        namespace, name = run.split("/")
        return self.cluster.objects["StarPipeline", namespace, name]

    def row(self, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = next(row for row in self.status["tenants"] if row["namespace"] == namespace)
        return found

    def end(self, run: str, phase: str = "Succeeded", **status: Any) -> None:
        namespace, name = run.split("/")
        ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "all stages are done"}
        found = self.cluster.objects["StarPipeline", namespace, name]
        found["status"] = {"phase": phase, "conditions": [ready], **status}

    def events(self, namespace: str) -> list[str]:
        found = [event for event in self.cluster.of("Event") if event["metadata"]["namespace"] == namespace]
        return [f"{event['reason']}: {event['message']}" for event in found]

    def annotate(self, key: str, value: str) -> None:
        self.schedule["metadata"]["annotations"] = {key: value}
