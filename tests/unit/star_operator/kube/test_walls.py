"""A namespace's policies stand before its first pods, whoever makes these."""

import asyncio

import pytest

from star_operator.core.errors import Refused
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube import walls as module
from star_operator.kube.cache import Cache
from star_operator.kube.cached import CachedCluster
from star_operator.kube.indexes import indexed
from star_operator.kube.walls import MAKES_PODS, Walls
from tests.support.fakecluster import FakeCluster

API = {"Job": "batch/v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1", "ConfigMap": "v1", "Service": "v1"}


def policies(namespace: str) -> list[KubeObject]:
    meta = {"namespace": namespace, "name": "star-pods"}
    return [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta}]


def obj(kind: str, name: str = "x", namespace: str = "team") -> KubeObject:
    return {"apiVersion": API[kind], "kind": kind, "metadata": {"namespace": namespace, "name": name}}


def walled(cluster: FakeCluster, seconds: float = 300) -> CachedCluster:
    return CachedCluster(cluster, Cache(indexed), Walls(policies, seconds))


@pytest.mark.parametrize("kind", sorted(MAKES_PODS))
@pytest.mark.parametrize("verb", ["apply", "claim"])
def test_they_stand_before_what_has_pods(kind: str, verb: str) -> None:
    cluster = FakeCluster()
    asyncio.run(getattr(walled(cluster), verb)(obj(kind)))
    assert cluster.writes == ["apply NetworkPolicy/star-pods", f"apply {kind}/x"]


def test_what_has_no_pods_needs_none() -> None:
    cluster = FakeCluster()
    for kind in ("ConfigMap", "Service"):
        asyncio.run(walled(cluster).apply(obj(kind)))
    assert cluster.writes == ["apply ConfigMap/x", "apply Service/x"]


def test_once_a_namespace_and_again_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    cluster = FakeCluster()
    found = walled(cluster)
    for name, at, namespace in (("a", 1.0, "team"), ("b", 2.0, "team"), ("c", 3.0, "other"), ("d", 302.0, "team")):
        now = at
        asyncio.run(found.apply(obj("Job", name, namespace)))
    policy = "apply NetworkPolicy/star-pods"
    assert cluster.writes == [policy, "apply Job/a", "apply Job/b", policy, "apply Job/c", policy, "apply Job/d"]


def test_without_them_there_are_no_pods() -> None:
    class Refusing(FakeCluster):
        async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
            if obj["kind"] == "NetworkPolicy":
                raise Refused(ConditionReason.RIGHT_MISSING, "no right")
            return await super().apply(obj, manager=manager)

    cluster = Refusing()
    found = walled(cluster)
    for _ in range(2):
        with pytest.raises(Refused):
            asyncio.run(found.apply(obj("Job")))
    assert cluster.writes == []
