"""Whether there is what a schedule's trigger asks for: new data at the source, or a metric under its threshold.

New data is looked for by a RecDataset of the run's own template. It reads the source's inventory first, and where that
is the one of an artifact that is there, nothing else: it ends in seconds. Where it is another one the data is prepared,
and the run, whose dataset is of equal work, finds that done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from star_operator.api.chain import INFO, StageName
from star_operator.api.meta import API_VERSION, Phase
from star_operator.api.retrainschedule import RetrainSchedule, TriggerType
from star_operator.builders.names import common_labels
from star_operator.builders.retrainschedule import deployment_of, owners, run_name
from star_operator.core.errors import InvalidSpec, Refused, Retryable
from star_operator.core.labels import LABEL_SCHEDULE, TICK_ANNOTATION, label_value
from star_operator.core.objects import KubeObject
from star_operator.core.times import of_seconds, to_seconds
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.schedule.types import Memory, News, Tenant
from star_operator.reconcilers.schedruns import Seen
from star_operator.reconcilers.tenants import Wanted

DATASET = INFO[StageName.DATASET].kind
EXISTS = "AlreadyExists"


@dataclass(frozen=True)
class Found:
    """Tenants with their news, and since when each one's metric is under its threshold."""

    tenants: list[Tenant]
    under: Mapping[str, int | None]


class Triggers:
    """Asks for tenants of whom a tick is due."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def news(
        self,
        schedule: RetrainSchedule,
        tenants: list[Tenant],
        due: Mapping[str, int],
        wanted: Mapping[str, Wanted],
        seen: Seen,
        now: int,
    ) -> Found:
        """Return the tenants, with what is known of their triggers."""
        match schedule.spec.trigger.type:
            case TriggerType.SCHEDULE:
                return Found(tenants, {})
            case TriggerType.DRIFT:
                return await self._drifted(schedule, tenants, now)
        found = []
        for tenant in tenants:
            tick = due.get(tenant.namespace)
            if tick is not None:
                news, detail = await self._new_data(schedule, tenant.namespace, tick, wanted[tenant.namespace], seen)
                tenant = replace(tenant, news=news, detail=detail)
            found.append(tenant)
        return Found(found, {})

    async def _drifted(self, schedule: RetrainSchedule, tenants: list[Tenant], now: int) -> Found:
        drift, name = schedule.spec.trigger.drift, deployment_of(schedule)
        assert drift is not None
        listed = await self._cluster.list_objects(STAR_TYPES[INFO[StageName.DEPLOYMENT].kind], None)
        metrics: dict[str, dict[str, float]] = {
            body["metadata"]["namespace"]: body.get("status", {}).get("metrics", {})
            for body in listed
            if body["metadata"]["name"] == name
        }
        since = {row.namespace: row.under_since for row in schedule.status.tenants}
        found: list[Tenant] = []
        under: dict[str, int | None] = {}
        for tenant in tenants:
            value = metrics.get(tenant.namespace, {}).get(drift.metric)
            begun = since.get(tenant.namespace)
            if value is None:
                detail = f"StarDeployment {name} has no metric {drift.metric} in its status"
                found.append(replace(tenant, news=News.UNKNOWN, detail=detail))
                under[tenant.namespace] = None
            elif value >= drift.below:
                found.append(replace(tenant, news=News.NO))
                under[tenant.namespace] = None
            else:
                first = to_seconds(begun) if begun is not None else now
                long_enough = now - first >= drift.for_seconds
                found.append(replace(tenant, news=News.YES if long_enough else News.NO))
                under[tenant.namespace] = first
        return Found(found, under)

    async def _new_data(
        self, schedule: RetrainSchedule, namespace: str, tick: int, wanted: Wanted, seen: Seen
    ) -> tuple[News, str]:
        """Return whether the source has another version than the one of the last run that succeeded."""
        template = wanted.spec.get(str(StageName.DATASET), {}).get("template")
        if wanted.fault:
            return News.YES, ""  # the fault is told instead
        if template is None:
            return News.UNKNOWN, "its overrides leave dataset.template out, whose source is looked at"
        probe = _probe(schedule, namespace, tick, template)
        name: str = probe["metadata"]["name"]
        body = await self._cluster.get(STAR_TYPES[DATASET], namespace, name)
        if body is None:
            try:
                await self._cluster.create(probe)
            except (InvalidSpec, Refused) as error:
                return News.UNKNOWN, f"the API server refuses the RecDataset that looks at the source: {error.message}"
            except Retryable as error:
                if error.reason != EXISTS:
                    raise
        status = (body or {}).get("status", {})
        if status.get("phase") == Phase.FAILED:
            ready: dict[str, Any] = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
            return News.UNKNOWN, f"RecDataset {name}, which looks at the source, failed: {ready.get('message', '')}"
        if status.get("phase") != Phase.SUCCEEDED:
            return News.UNKNOWN, f"RecDataset {name} looks at the source"
        last = await self._last_data(namespace, seen)
        return (News.NO if last and last == status.get("artifact", {}).get("digest") else News.YES), ""

    async def _last_data(self, namespace: str, seen: Seen) -> str:
        """Return the digest of the dataset of a tenant's last run that succeeded; empty when there is none."""
        done = [
            (one.tick, seen.bodies[namespace, one.name])
            for one in seen.runs
            if one.namespace == namespace
            and seen.bodies.get((namespace, one.name), {}).get("status", {}).get("phase") == Phase.SUCCEEDED
        ]
        last = max(done, key=lambda one: one[0], default=(0, KubeObject()))[1]
        rows: list[dict[str, Any]] = last.get("status", {}).get("stages", [])
        name = next((row["resource"] for row in rows if row["stage"] == StageName.DATASET), "")
        dataset = await self._cluster.get(STAR_TYPES[DATASET], namespace, name) if name else None
        digest: str = (dataset or {}).get("status", {}).get("artifact", {}).get("digest", "")
        return digest

    async def tidy_up(self, schedule: RetrainSchedule, memory: Memory) -> None:
        """Delete what looked at sources for times that are decided."""
        if schedule.spec.trigger.type is not TriggerType.NEW_DATA:
            return
        labels = {LABEL_SCHEDULE: label_value(schedule.metadata.name)}
        for body in await self._cluster.list_objects(STAR_TYPES[DATASET], None, labels):
            meta = body["metadata"]
            tick, known = _tick_of(schedule, meta), memory.tenants.get(meta["namespace"])
            if tick is not None and (known is None or tick <= known.decided):
                await self._cluster.delete(STAR_TYPES[DATASET], meta["namespace"], meta["name"])


def _tick_of(schedule: RetrainSchedule, meta: dict[str, Any]) -> int | None:
    """Return the time that a probe is for; None for a RecDataset that a tenant gave the label to."""
    try:
        tick = to_seconds(meta.get("annotations", {}).get(TICK_ANNOTATION, ""))
    except ValueError:
        return None
    return tick if meta["name"] == _probe_name(schedule, tick) else None


def _probe_name(schedule: RetrainSchedule, tick: int) -> str:
    return f"{run_name(schedule.metadata.name, tick)}-probe"


def _probe(schedule: RetrainSchedule, namespace: str, tick: int, template: dict[str, Any]) -> KubeObject:
    name = schedule.metadata.name
    return {
        "apiVersion": API_VERSION,
        "kind": DATASET,
        "metadata": {
            "name": _probe_name(schedule, tick),
            "namespace": namespace,
            "labels": common_labels(DATASET.lower()) | {LABEL_SCHEDULE: label_value(name)},
            "annotations": {TICK_ANNOTATION: of_seconds(tick)},
            "ownerReferences": owners(schedule),
        },
        "spec": template,
    }
