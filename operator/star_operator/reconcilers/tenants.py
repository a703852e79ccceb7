"""What a schedule looks at: its tenants, their overrides, and the runs that it started."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import PRIORITIES, RetrainSchedule
from star_operator.api.selectors import selects
from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.gpus import gpus_at_once
from star_operator.builders.retrainschedule import gpus_needed, patch_of, pipeline_spec, run_name
from star_operator.builders.starpipeline import plan
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import LABEL_SCHEDULE, PRIORITY_LABEL, RETRAIN_LABEL, TICK_ANNOTATION, label_value
from star_operator.core.objects import KubeObject
from star_operator.core.times import to_seconds
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, NAMESPACE, STAR_TYPES
from star_operator.policy.conditions import READY, find
from star_operator.policy.schedule.requests import Ended
from star_operator.policy.schedule.rows import Outcome
from star_operator.policy.schedule.types import Run, Tenant
from star_operator.policy.status import FINISHED

REMEMBERED = 4096
"""Specs whose GPUs are kept in memory: a run's never changes."""


@dataclass(frozen=True)
class Wanted:
    """What a tenant's run is to be."""

    spec: dict[str, Any] = field(default_factory=dict)
    gpus: int = 0
    fault: str = ""

    def fill(self, tenant: Tenant) -> Tenant:
        """Return the tenant with what its run needs."""
        return replace(tenant, gpus=self.gpus, fault=self.fault)


@dataclass(frozen=True)
class Seen:
    """The runs of a schedule."""

    bodies: list[KubeObject]
    runs: list[Run]
    outcomes: Mapping[str, Outcome]
    """By `namespace/name`."""


class Tenants:
    """Reads the cluster for schedules. What it keeps is a cache: a restart loses nothing."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._gpus: OrderedDict[str, int] = OrderedDict()
        self._wanted: OrderedDict[tuple[str, int, str, str], Wanted] = OrderedDict()
        self.bodies: dict[str, KubeObject] = {}
        """Namespaces as they were seen last."""

    async def of(self, schedule: RetrainSchedule) -> list[Tenant]:
        """Return the namespaces that opted in and are selected, by name; not those that are going."""
        listed = await self._cluster.list_objects(NAMESPACE, None, {RETRAIN_LABEL: "true"})
        self.bodies = {body["metadata"]["name"]: body for body in listed}
        return [
            Tenant(body["metadata"]["name"], body["metadata"]["uid"], _priority(body["metadata"]["labels"]))
            for _, body in sorted(self.bodies.items())
            if "deletionTimestamp" not in body["metadata"]
            and selects(schedule.spec.namespace_selector, body["metadata"]["labels"])
        ]

    async def runs(self, schedule: RetrainSchedule) -> Seen:
        """Return the runs that are there, also of namespaces that take no part any more."""
        labels = {LABEL_SCHEDULE: label_value(schedule.metadata.name)}
        found: list[tuple[KubeObject, Run]] = []
        outcomes: dict[str, Outcome] = {}
        for body in await self._cluster.list_objects(STAR_TYPES["StarPipeline"], None, labels):
            one = self._run(schedule.metadata.name, body)
            if one is not None:
                found.append((body, one))
                try:
                    status = StarPipeline.parse_status(body)
                except ValidationError:  # of another version; it must not stop the other tenants' runs
                    continue
                ready = find(status.conditions, READY)
                message = ready.message if ready is not None else ""
                outcomes[f"{one.namespace}/{one.name}"] = Outcome(status.phase, message)
        return Seen([body for body, _ in found], [one for _, one in found], outcomes)

    def _run(self, schedule: str, body: KubeObject) -> Run | None:
        """Return a StarPipeline as a run; None for one that only bears the label."""
        meta = body["metadata"]
        try:
            tick = to_seconds(meta.get("annotations", {}).get(TICK_ANNOTATION, ""))
        except ValueError:
            return None
        if meta["name"] != run_name(schedule, tick):
            return None
        live = body.get("status", {}).get("phase") not in FINISHED
        cancelling = bool(body["spec"].get("cancel"))
        return Run(meta["namespace"], meta["name"], tick, self._held(body) if live else 0, live, cancelling)

    def _held(self, body: KubeObject) -> int:
        """Return the GPUs of a run from its spec, which nobody can change, rather than from a label."""
        uid: str = body["metadata"]["uid"]
        if uid not in self._gpus:
            try:
                self._gpus[uid] = gpus_at_once(plan(StarPipeline.parse(body)))
            except (ValidationError, InvalidSpec):  # it will fail by itself
                self._gpus[uid] = 0
            if len(self._gpus) > REMEMBERED:
                self._gpus.popitem(last=False)
        return self._gpus[uid]

    async def wanted(self, schedule: RetrainSchedule, names: Collection[str], basic: Wanted) -> dict[str, Wanted]:
        """Return what runs of these namespaces are to be."""
        found = dict.fromkeys(names, basic)
        if schedule.spec.overrides is None or not names:
            return found
        fields = {"metadata.name": schedule.spec.overrides.name}
        for config_map in await self._cluster.list_objects(CONFIG_MAP, None, fields=fields):
            namespace = config_map["metadata"]["namespace"]
            if namespace in found:
                found[namespace] = self._overridden(schedule, config_map)
        return found

    def _overridden(self, schedule: RetrainSchedule, config_map: KubeObject) -> Wanted:
        meta = config_map["metadata"]
        key = schedule.metadata.uid, schedule.metadata.generation, meta["uid"], meta["resourceVersion"]
        if key not in self._wanted:
            try:
                spec = pipeline_spec(schedule, patch_of(config_map))
                self._wanted[key] = Wanted(spec, gpus_needed(schedule, spec))
            except InvalidSpec as error:
                self._wanted[key] = Wanted(fault=error.message)
            if len(self._wanted) > REMEMBERED:
                self._wanted.popitem(last=False)
        return self._wanted[key]

    def ended(self, bodies: Sequence[KubeObject]) -> list[Ended]:
        """Return the runs that have ended and are not being deleted."""
        return [
            Ended(
                body["metadata"]["namespace"],
                body["metadata"]["name"],
                to_seconds(body["metadata"]["annotations"][TICK_ANNOTATION]),
                succeeded=body["status"]["phase"] == Phase.SUCCEEDED,
            )
            for body in bodies
            if body.get("status", {}).get("phase") in FINISHED and "deletionTimestamp" not in body["metadata"]
        ]

    async def referred(self, ended: Sequence[Ended], bodies: Sequence[KubeObject]) -> list[Ended]:
        """Return the same, with those marked whose resources a StarDeployment names."""
        made = {
            (body["metadata"]["namespace"], body["metadata"]["name"]): {
                row.get("resource") for row in body.get("status", {}).get("stages", []) if row.get("resource")
            }
            for body in bodies
        }
        named: dict[str, set[str]] = {}
        for body in await self._cluster.list_objects(STAR_TYPES["StarDeployment"], None):
            spec, names = body["spec"], named.setdefault(body["metadata"]["namespace"], set())
            names.update(filter(None, (spec.get(role, {}).get("name") for role in ("dataset", "verbalization"))))
            names.update(filter(None, (spec.get("checkpoint", {}).get("checkpoint"),)))
        return [
            replace(one, referred=bool(made[one.namespace, one.name] & named.get(one.namespace, set())))
            for one in ended
        ]


def _priority(labels: Mapping[str, str]) -> int:
    text = labels.get(PRIORITY_LABEL, "")
    return int(text) if text.isdecimal() and int(text) in PRIORITIES else PRIORITIES[0]
