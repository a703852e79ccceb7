"""A shared server that is used again in the moment in which it is removed as idle."""

import asyncio

import pytest

from star_operator.core.errors import InvalidSpec, Retryable
from star_operator.core.labels import OURS
from star_operator.core.objects import KubeObject
from star_operator.kube.servers import IDLE_SINCE, acquire, idle_since, release
from tests.support.fakecluster import FakeCluster

USER = {"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Evaluation", "name": "e", "uid": "uid-e"}
META = {"name": "llm-1", "namespace": "n", "labels": {**OURS, "app.kubernetes.io/name": "vllm"}}


def server() -> list[KubeObject]:
    return [{"apiVersion": "v1", "kind": "Service", "metadata": {**META}, "spec": {"ports": [{"port": 8000}]}}]


def anchor(cluster: FakeCluster) -> KubeObject:
    return cluster.objects["Service", "n", "llm-1"]


class Removing(FakeCluster):
    """Removes the server once it has been applied, as the idle server's reconciler may at that moment."""

    async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
        if "spec" not in obj and ("Service", "n", "llm-1") not in self.objects:
            raise InvalidSpec("Invalid", 'Service "llm-1" is invalid: spec.ports: Required value')
        found = await super().apply(obj, manager=manager)
        self.objects.clear()
        return found


def test_a_server_that_goes_while_it_is_asked_for_is_asked_for_again_and_fails_nobody() -> None:
    with pytest.raises(Retryable, match="was removed as idle just now; it is made anew"):
        asyncio.run(acquire(Removing(), server(), "llm-1", USER))


def test_a_server_that_goes_before_its_mark_is_taken_off_is_asked_for_again_as_well() -> None:
    cluster = Removing()
    cluster.add({**server()[0], "metadata": {**META, "annotations": {IDLE_SINCE: "2026-01-01T00:00:00Z"}}})
    with pytest.raises(Retryable, match="it is made anew"):
        asyncio.run(acquire(cluster, server(), "llm-1", USER))


def test_a_server_that_is_used_again_is_not_idle_and_keeps_no_old_mark() -> None:
    cluster = FakeCluster()
    asyncio.run(acquire(cluster, server(), "llm-1", USER))
    assert asyncio.run(release(cluster, "n", "uid-e", "2026-01-01T00:00:00Z")) == ["llm-1"]
    assert idle_since(anchor(cluster)) == "2026-01-01T00:00:00Z"
    asyncio.run(acquire(cluster, server(), "llm-1", USER))
    assert idle_since(anchor(cluster)) is None
    assert IDLE_SINCE not in anchor(cluster)["metadata"].get("annotations", {})
