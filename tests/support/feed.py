"""The watches of a cluster in memory: events of what has changed, a kind at a time, delivered when a test says so."""

import copy
from collections import defaultdict, deque
from typing import Any

from star_operator.core.objects import KubeObject
from star_operator.kube.cache import Cache
from star_operator.kube.indexes import CACHED, selector
from tests.support.fakecluster import FakeCluster, Place


class Feed:
    """Feeds a cache as kopf would: of each kind in order, kinds against each other as it comes."""

    def __init__(self, cluster: FakeCluster, cache: Cache) -> None:
        self._cluster, self._cache = cluster, cache
        self._last: dict[Place, KubeObject] = {}
        self._events: defaultdict[str, deque[tuple[str, KubeObject]]] = defaultdict(deque)

    def list_all(self) -> None:
        """List every kind, as at a start."""
        self.look()
        for kind in CACHED:
            found = [obj for obj in self._cluster.of(kind) if _is_watched(obj)]
            self._cache.listed(kind, copy.deepcopy(found), int(self._cluster.next_version()))

    def look(self) -> None:
        """Find what has changed, whoever did it; what a test changed in place gets a version of its own."""
        for place, obj in self._cluster.objects.items():
            if place[0] not in CACHED or not _is_watched(obj) or self._last.get(place) == obj:
                continue
            last = self._last.get(place)
            if last is not None and last["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
                obj["metadata"]["resourceVersion"] = self._cluster.next_version()
            if last is not None and last["metadata"]["uid"] != obj["metadata"]["uid"]:
                self._ended(place)
            self._last[place] = copy.deepcopy(obj)
            self._events[place[0]].append(("MODIFIED", self._last[place]))
        for place in set(self._last) - set(self._cluster.objects):
            self._ended(place)

    def waiting(self) -> list[str]:
        """Return the kinds whose watch has something to tell."""
        return sorted(kind for kind, events in self._events.items() if events)

    def deliver(self, kind: str) -> None:
        """Deliver the next event of a kind."""
        what, obj = self._events[kind].popleft()
        (self._cache.drop if what == "DELETED" else self._cache.put)(copy.deepcopy(obj))

    def deliver_all(self) -> None:
        """Deliver what there is."""
        self.look()
        for kind in self.waiting():
            while self._events[kind]:
                self.deliver(kind)

    def _ended(self, place: Place) -> None:
        last = copy.deepcopy(self._last.pop(place))
        last["metadata"]["resourceVersion"] = self._cluster.next_version()
        self._events[place[0]].append(("DELETED", last))


def _is_watched(obj: KubeObject) -> bool:
    labels: dict[str, Any] = obj["metadata"].get("labels") or {}
    return obj["kind"] in CACHED and selector(obj["kind"]).items() <= labels.items()
