"""What a schedule looks at: its tenants, their overrides, and the runs that it started."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from star_operator.api.retrainschedule import PRIORITIES, RetrainSchedule
from star_operator.api.selectors import selects
from star_operator.builders.retrainschedule import gpus_needed, patch_of, pipeline_spec
from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import PRIORITY_LABEL, RETRAIN_LABEL
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, NAMESPACE
from star_operator.policy.schedule.types import Tenant

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


class Tenants:
    """Reads the cluster for schedules. What it keeps is a cache: a restart loses nothing."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
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


def _priority(labels: Mapping[str, str]) -> int:
    text = labels.get(PRIORITY_LABEL, "")
    return int(text) if text.isdecimal() and int(text) in PRIORITIES else PRIORITIES[0]
