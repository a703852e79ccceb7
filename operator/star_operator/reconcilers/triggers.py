"""Whether there is what a schedule's trigger asks for: new data at the source, or a metric under its threshold.

New data is looked for by a Job in the tenant's namespace (builders/probe.py), which lists the source's files and reads
none. Its inventory is held against the one that the dataset of the last run that succeeded was made from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from star_operator.api.chain import INFO, StageName
from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import RetrainSchedule, TriggerType
from star_operator.builders.probe import Probe, probe_config, probe_job
from star_operator.builders.retrainschedule import deployment_of
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.labels import PROBE
from star_operator.core.objects import KubeObject
from star_operator.core.times import to_seconds
from star_operator.core.views import RunView
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import CONFIG_MAP, JOB, STAR_TYPES
from star_operator.kube.secrets import require_store_secret
from star_operator.policy.errand import Begin, GoingOn, look
from star_operator.policy.schedule.drift import measured
from star_operator.policy.schedule.types import Memory, News, Tenant
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.errand import end_side_cars
from star_operator.reconcilers.schedruns import Seen, side_by_side
from star_operator.reconcilers.tenants import Wanted

DATASET = INFO[StageName.DATASET].kind


@dataclass(frozen=True)
class Found:
    """Tenants with their news, and since when each one's metric is under its threshold."""

    tenants: list[Tenant]
    under: Mapping[str, int | None]
    probes: Sequence[Probe] = ()
    """What looks at sources."""


class Triggers:
    """Asks for tenants of whom a tick is due."""

    def __init__(self, context: Context) -> None:
        self._cluster, self._settings = context.cluster, context.settings

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
        found: dict[str, Tenant] = {tenant.namespace: tenant for tenant in tenants}
        probes: list[Probe] = []

        async def ask(namespace: str, tick: int) -> None:
            one = wanted[namespace]
            template = one.spec.get(str(StageName.DATASET), {}).get("template")
            if one.fault:
                return  # it is told instead
            if template is None:
                news, detail = News.UNKNOWN, "its overrides leave dataset.template out, whose source is looked at"
            else:
                probe = Probe(schedule, namespace, tick, template)
                probes.append(probe)
                news, detail = await self._new_data(probe, seen)
            found[namespace] = replace(found[namespace], news=news, detail=detail)

        await side_by_side(partial(ask, namespace, tick) for namespace, tick in due.items())
        return Found(list(found.values()), {}, probes)

    async def _drifted(self, schedule: RetrainSchedule, tenants: list[Tenant], now: int) -> Found:
        drift, name = schedule.spec.trigger.drift, deployment_of(schedule)
        assert drift is not None
        listed = await self._cluster.list_objects(STAR_TYPES[INFO[StageName.DEPLOYMENT].kind], None)
        deployed = {body["metadata"]["namespace"]: body for body in listed if body["metadata"]["name"] == name}
        since = {row.namespace: row.under_since for row in schedule.status.tenants}
        found: list[Tenant] = []
        under: dict[str, int | None] = {}
        for tenant in tenants:
            value = measured(drift, deployed.get(tenant.namespace), now)
            begun = since.get(tenant.namespace)
            if isinstance(value, str):
                found.append(replace(tenant, news=News.UNKNOWN, detail=f"StarDeployment {name} {value}"))
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

    async def _new_data(self, probe: Probe, seen: Seen) -> tuple[News, str]:
        """Return whether the source has another version than the one of the last run that succeeded."""
        name, namespace = probe.name, probe.namespace
        job = await self._cluster.get(JOB, namespace, name)
        if job is None:
            try:
                await require_store_secret(self._cluster, namespace, self._settings.store.secret_name)
                job = await self._cluster.apply(probe_job(probe, self._settings))
                await self._cluster.apply(probe_config(probe, job, self._settings))
            except (InvalidSpec, Refused, Waiting) as error:
                return News.UNKNOWN, f"the Job that looks at the source cannot be made: {error.message}"
            return News.UNKNOWN, f"Job {name} looks at the source"
        view = await observe_run(self._cluster, PROBE, namespace, name)
        found = next((pod.result.source for pod in view.pods if pod.result is not None and pod.result.source), None)
        if found is not None:
            return (News.NO if found.digest == await self._last_data(namespace, seen) else News.YES), ""
        await end_side_cars(self._cluster, namespace, view, name, PROBE)
        if not isinstance(look(view, name, PROBE), Begin | GoingOn):
            return News.UNKNOWN, f"Job {name}, which looks at the source, failed: {_why(view)}"
        if await self._cluster.get(CONFIG_MAP, namespace, name) is None:  # an operator died in between
            await self._cluster.apply(probe_config(probe, job, self._settings))
        waits = next((pod.trouble.message for pod in view.pods if pod.trouble is not None), "")
        return News.UNKNOWN, f"Job {name} looks at the source{f': {waits}' if waits else ''}"

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
        digest: str = (dataset or {}).get("status", {}).get("source", {}).get("digest", "")
        return digest

    async def tidy_up(self, probes: Iterable[Probe], memory: Memory) -> None:
        """Delete what looked at sources for times that are decided. What is left over goes by itself."""
        for probe in probes:
            known = memory.tenants.get(probe.namespace)
            if known is None or probe.tick <= known.decided:
                await self._cluster.delete(JOB, probe.namespace, probe.name)


def _why(view: RunView) -> str:
    errors = [pod.result.error.message for pod in view.pods if pod.result is not None and pod.result.error is not None]
    job = next(iter(view.jobs))
    return (errors or [job.message or job.reason or "its answer is lost"])[-1]
