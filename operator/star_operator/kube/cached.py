"""The cluster as reconcilers see it: reads come from the cache, writes go to the API server and into the cache.

What the cache does not hold (ConfigMaps, Secrets, Events), and a kind that was not listed yet, is read live. `live` is
for whoever must know what is there this moment. A delete is of the very object that was shown under the name: where
another has it meanwhile, that one stays.
"""

# ruff: noqa: D102 - what the methods do is said in `Cluster`
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from star_contracts.names import FIELD_MANAGER
from star_operator.core.objects import KubeObject, identity
from star_operator.core.times import timestamp
from star_operator.kube.cache import Cache, Entry
from star_operator.kube.cluster import Cluster, Listing, NotFound
from star_operator.kube.indexes import CACHED, LABELS, selector
from star_operator.kube.resources import POD, ResourceType
from star_operator.kube.walls import Walls


class CachedCluster(Cluster):
    """A cluster that is read through a cache."""

    def __init__(self, live: Cluster, cache: Cache, walls: Walls | None = None) -> None:
        self._live = live
        self._cache = cache
        self._walls = walls

    @property
    def live(self) -> Cluster:
        return self._live

    async def close(self) -> None:
        await self._live.close()

    # Reads.

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        if not self._cache.knows(rtype.kind):
            return await self._live.get(rtype, namespace, name)
        entry = self._cache.entry(rtype.kind, namespace, name)
        return self._cache.read(entry) if entry is not None else None

    async def list_objects(
        self,
        rtype: ResourceType,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[KubeObject]:
        wanted = dict(labels or {})
        if not self._cache.knows(rtype.kind) or set(fields or {}) - {"metadata.name"}:
            return await self._live.list_objects(rtype, namespace, labels, fields)
        found = self._with_labels(rtype, namespace, wanted)
        if fields:
            found = (entry for entry in found if entry.place.name == fields["metadata.name"])
        return [self._cache.read(entry) for entry in found]

    async def list_by(self, rtype: ResourceType, namespace: str | None, index: str, value: str) -> list[KubeObject]:
        if not self._cache.knows(rtype.kind):
            return await self._live.list_by(rtype, namespace, index, value)
        return [self._cache.read(entry) for entry in self._cache.find(rtype.kind, namespace, index, value)]

    async def snapshot(self, rtype: ResourceType, *, names_only: bool = False) -> Listing:
        return await self._live.snapshot(rtype, names_only=names_only)

    def _with_labels(self, rtype: ResourceType, namespace: str | None, wanted: dict[str, str]) -> Iterator[Entry]:
        index = next((label for label in LABELS if label in wanted), None)
        entries: Iterable[Entry] = (
            self._cache.find(rtype.kind, namespace, index, wanted[index])
            if index is not None
            else self._cache.entries(rtype.kind, namespace)
        )
        return (entry for entry in entries if wanted.items() <= entry.labels.items())

    # Writes.

    async def apply(self, obj: KubeObject, *, manager: str = FIELD_MANAGER) -> KubeObject:
        if self._walls is not None:
            await self._walls.stand(self._live, obj)
        return self._took(await self._live.apply(obj, manager=manager))

    async def claim(self, obj: KubeObject) -> KubeObject:
        if self._walls is not None:
            await self._walls.stand(self._live, obj)
        return self._took(await self._live.claim(obj))

    async def apply_status(self, obj: KubeObject) -> KubeObject:
        _, kind, namespace, name = identity(obj)
        entry = self._cache.entry(kind, namespace, name)
        try:
            return self._took(await self._live.apply_status(obj))
        except NotFound:
            self._missed(entry)
            raise

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        made = await self._live.create(obj, dry_run=dry_run)
        return made if dry_run else self._took(made)

    async def merge(
        self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject, *, uid: str | None = None
    ) -> KubeObject | None:
        entry = self._shown(rtype, namespace, name, uid)
        merged = await self._live.merge(rtype, namespace, name, patch, uid=uid)
        if merged is None:
            self._missed(entry)
            return None
        return self._took(merged)

    async def replace(self, obj: KubeObject) -> KubeObject:
        return self._took(await self._live.replace(obj))

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
        entry = self._shown(rtype, namespace, name, uid)
        uid = uid or (entry.uid if entry is not None else None)
        call = self._live.delete(rtype, namespace, name, uid=uid, version=version, foreground=foreground)
        return await self._gone(entry, call)

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int) -> bool:
        entry = self._shown(POD, namespace, name, uid)
        return await self._gone(entry, self._live.delete_pod(namespace, name, uid=uid, grace_seconds=grace_seconds))

    async def _gone(self, entry: Entry | None, call: Awaitable[bool]) -> bool:
        was_there = await call
        if entry is not None and was_there:
            self._cache.going(entry, timestamp(datetime.now(UTC)))
        if not was_there:
            self._missed(entry)
        return was_there

    def _shown(self, rtype: ResourceType, namespace: str, name: str, uid: str | None) -> Entry | None:
        entry = self._cache.entry(rtype.kind, namespace, name)
        return entry if entry is not None and uid in (None, entry.uid) else None

    def _took(self, obj: KubeObject) -> KubeObject:
        kind = obj["kind"]
        if kind in CACHED and selector(kind).items() <= (obj["metadata"].get("labels") or {}).items():
            self._cache.put(obj)
        return obj

    def _missed(self, entry: Entry | None) -> None:
        if entry is not None:
            self._cache.missing(entry)
