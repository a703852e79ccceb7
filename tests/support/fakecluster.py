"""A cluster in memory for unit tests of reconcilers: objects by kind, namespace and name, on which nobody else acts.

It has what `star_operator.kube.cluster.Cluster` has, as far as reconcilers use it. Server-side apply is a deep merge;
there are no defaults, no admission and no garbage collection (but a Job's pods go with it): whatever needs these is an
integration test.
"""

import copy
from collections.abc import Mapping
from typing import Any

from star_operator.core.errors import Retryable, Taken
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster, Listing, NotFound
from star_operator.kube.indexes import selector
from star_operator.kube.resources import BY_GVK, POD, ResourceType

Place = tuple[str, str, str]


class FakeCluster(Cluster):
    """Objects in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[Place, KubeObject] = {}
        self.writes: list[str] = []
        """`<verb> <kind>/<name>` of every change, in order."""
        self.taken: dict[str, tuple[str, ...]] = {}
        """`<kind>/<name>` -> fields of it that somebody has changed with kubectl since they were applied."""
        self._count = 0
        self._versions = 0

    def add(self, obj: KubeObject) -> KubeObject:
        """Put an object there as a user would."""
        return self._put(_place(obj), obj)

    def of(self, kind: str) -> list[KubeObject]:
        """All objects of a kind."""
        return [obj for (found, _, _), obj in sorted(self.objects.items()) if found == kind]

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        return copy.deepcopy(self.objects.get((rtype.kind, namespace, name)))

    async def list_objects(
        self,
        rtype: ResourceType,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[KubeObject]:
        found = [obj for obj in self.of(rtype.kind) if namespace in (None, obj["metadata"].get("namespace", ""))]
        found = [obj for obj in found if all(_value(obj, path) == value for path, value in (fields or {}).items())]
        wanted = (labels or {}).items()
        return copy.deepcopy([obj for obj in found if wanted <= obj["metadata"].get("labels", {}).items()])

    async def snapshot(self, rtype: ResourceType, *, names_only: bool = False) -> Listing:
        return Listing(await self.list_objects(rtype, None, selector(rtype.kind)), self._versions)

    async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
        self.writes.append(f"apply {obj['kind']}/{obj['metadata']['name']}")
        return self._put(_place(obj), obj)

    async def claim(self, obj: KubeObject) -> KubeObject:
        fields = self.taken.pop(f"{obj['kind']}/{obj['metadata']['name']}", ())
        if fields:
            raise Taken("Apply failed with conflicts", fields, ("kubectl-edit",))
        return await self.apply(obj)

    async def apply_status(self, obj: KubeObject) -> KubeObject:
        there, version = self.objects.get(_place(obj)), obj["metadata"].get("resourceVersion")
        if there is None:
            raise NotFound("NotFound", f"there is no {obj['kind']} {obj['metadata']['name']}")
        if version not in (None, there["metadata"]["resourceVersion"]):
            raise Retryable("Conflict", "the object has been modified")
        there["status"] = copy.deepcopy(obj["status"])
        there["metadata"]["resourceVersion"] = self.next_version()
        return copy.deepcopy(there)

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        if _place(obj) in self.objects:
            raise Retryable("AlreadyExists", f"{obj['kind']} {obj['metadata']['name']} already exists")
        return copy.deepcopy(obj) if dry_run else await self.apply(obj)

    async def merge(
        self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject, *, uid: str | None = None
    ) -> KubeObject | None:
        there = self.objects.get((rtype.kind, namespace, name))
        if there is None or uid not in (None, there["metadata"]["uid"]):
            return None
        meta = dict(patch.get("metadata", {}))
        if meta.pop("resourceVersion", there["metadata"]["resourceVersion"]) != there["metadata"]["resourceVersion"]:
            raise Retryable("Conflict", "the object has been modified")
        self.writes.append(f"merge {rtype.kind}/{name}")
        return self._put((rtype.kind, namespace, name), {**patch, "metadata": meta} if meta else patch)

    async def delete(
        self,
        rtype: ResourceType,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        foreground: bool = False,
    ) -> bool:
        there = self.objects.get((rtype.kind, namespace, name))
        if there is not None and uid not in (None, there["metadata"]["uid"]):
            return False
        self.writes.append(f"delete {rtype.kind}/{name}")
        if rtype.kind == "Job":
            for pod in self.of(POD.kind):
                if pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") == name:
                    del self.objects[_place(pod)]
        return self.objects.pop((rtype.kind, namespace, name), None) is not None

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> bool:
        return await self.delete(POD, namespace, name, uid=uid)

    def next_version(self) -> str:
        """A resource version that is higher than all before."""
        self._versions += 1
        return str(self._versions)

    def _put(self, place: Place, obj: KubeObject) -> KubeObject:
        old = self.objects.get(place)
        if old is None:
            self._count += 1
            old = {"metadata": {"uid": f"uid-{self._count}", "generation": 1}}
        self.objects[place] = _merged(old, obj)
        given = obj.get("metadata", {}).get("resourceVersion", "")
        self.objects[place]["metadata"]["resourceVersion"] = given or self.next_version()
        self._versions = max(self._versions, int(given or 0))
        return copy.deepcopy(self.objects[place])


def _place(obj: KubeObject) -> Place:
    rtype = BY_GVK[obj["apiVersion"], obj["kind"]]
    return rtype.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    found = {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in found.items() if value is not None}


def _value(obj: KubeObject, path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part, {})
    return value
