"""Whose a shared server is: one write each time it changes hands, and a new decision where somebody was quicker."""

import pytest

from star_operator.core.errors import Retryable
from star_operator.core.labels import LABEL_SERVER, OURS
from star_operator.core.objects import KubeObject
from star_operator.kube.resources import ResourceType
from star_operator.kube.servers import IDLE_SINCE, Hands, join, mark_idle, release, uses_any
from tests.support.fakecluster import FakeCluster

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"


def user(name: str) -> KubeObject:
    return {"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Evaluation", "name": name, "uid": f"uid-{name}"}


def service() -> KubeObject:
    meta = {"name": "llm-1", "namespace": "n", "labels": {**OURS, LABEL_SERVER: "llm-1"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 8000}]}}


def hands(cluster: FakeCluster) -> Hands:
    return Hands.of(cluster.objects["Service", "n", "llm-1"])


class Racing(FakeCluster):
    """Others are quicker than a write of ours, so many times."""

    def __init__(self, others: list[KubeObject]) -> None:
        super().__init__()
        self.others = others

    async def merge(
        self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject, *, uid: str | None = None
    ) -> KubeObject | None:
        if self.others:
            await join(FakeView(self), service(), self.others.pop())
        return await super().merge(rtype, namespace, name, patch, uid=uid)


class FakeView(FakeCluster):
    """Another operator's way to the same cluster."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.__dict__ = cluster.__dict__


async def test_each_change_of_hands_is_one_write() -> None:
    cluster = FakeCluster()
    assert (await join(cluster, service(), user("a")))[1]
    assert not (await join(cluster, service(), user("b")))[1]
    assert not (await join(cluster, service(), user("b")))[1], "who uses it already writes nothing"
    assert await uses_any(cluster, "n", ["llm-0", "llm-1"], "uid-a")
    assert await release(cluster, "n", "uid-a", NOW) == []
    assert await release(cluster, "n", "uid-b", NOW) == ["llm-1"]
    assert hands(cluster) == Hands((), NOW)
    assert await release(cluster, "n", "uid-b", LATER) == []
    assert (await join(cluster, service(), user("a")))[1]
    assert hands(cluster) == Hands((user("a"),))
    assert cluster.writes == ["apply Service/llm-1", *["merge Service/llm-1"] * 4]


async def test_who_comes_and_who_goes_at_the_same_time_are_both_counted() -> None:
    cluster = Racing([])
    await join(cluster, service(), user("a"))
    cluster.others = [user("c"), user("b")]
    assert await release(cluster, "n", "uid-a", NOW) == [], "b came in between, and c"
    assert hands(cluster) == Hands((user("b"), user("c")))
    await release(cluster, "n", "uid-b", NOW)
    await release(cluster, "n", "uid-c", NOW)
    cluster.others = [user("d")]
    assert not (await join(cluster, service(), user("a")))[1], "d was quicker"
    assert hands(cluster) == Hands((user("d"), user("a")))


async def test_who_is_never_quick_enough_tries_again_later() -> None:
    cluster = Racing([])
    await join(cluster, service(), user("a"))
    cluster.others = [user(str(number)) for number in range(9)]
    with pytest.raises(Retryable, match="it is tried again"):
        await release(cluster, "n", "uid-a", NOW)


class Removing(FakeCluster):
    """Removes the server as idle before a write reaches it."""

    async def merge(
        self, rtype: ResourceType, namespace: str, name: str, patch: KubeObject, *, uid: str | None = None
    ) -> KubeObject | None:
        self.objects.clear()
        return await super().merge(rtype, namespace, name, patch, uid=uid)


async def test_a_server_that_goes_while_it_is_asked_for_is_asked_for_again_and_fails_nobody() -> None:
    cluster = Removing()
    cluster.add({**service(), "metadata": {**service()["metadata"], "annotations": {IDLE_SINCE: NOW}}})
    with pytest.raises(Retryable, match="was removed as idle just now; it is made anew"):
        await join(cluster, service(), user("a"))
    assert (await join(cluster, service(), user("a")))[1]


async def test_a_server_that_is_being_deleted_is_not_used() -> None:
    cluster = FakeCluster()
    cluster.add({**service(), "metadata": {**service()["metadata"], "deletionTimestamp": NOW}})
    with pytest.raises(Retryable, match="it is made anew"):
        await join(cluster, service(), user("a"))


async def test_two_who_make_the_same_server_share_it() -> None:
    """The cache of one does not know yet what the other has made."""

    class Late(FakeCluster):
        late = True

        async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
            late, self.late = self.late, False
            return None if late else await super().get(rtype, namespace, name)

    cluster = Late()
    await join(FakeView(cluster), service(), user("a"))
    assert not (await join(cluster, service(), user("b")))[1]
    assert hands(cluster) == Hands((user("a"), user("b")))


async def test_a_server_without_users_that_does_not_say_since_when_is_marked() -> None:
    """As earlier versions could leave one."""
    cluster = FakeCluster()
    anchor = cluster.add(service())
    await mark_idle(cluster, anchor, NOW)
    assert hands(cluster) == Hands((), NOW)
    await mark_idle(cluster, cluster.objects["Service", "n", "llm-1"], LATER)
    assert hands(cluster) == Hands((), NOW)
    await join(cluster, service(), user("a"))
    await mark_idle(cluster, anchor, LATER)
    assert hands(cluster) == Hands((user("a"),)), "somebody came in between"


async def test_a_service_of_one_resource_is_left_alone() -> None:
    cluster = FakeCluster()
    own = service()
    own["metadata"]["labels"] |= {"star.recsys.dev/kind": "stardeployment"}
    anchor = cluster.add({**own, "metadata": {**own["metadata"], "ownerReferences": [user("a")]}})
    assert await release(cluster, "n", "uid-a", NOW) == []
    anchor["metadata"]["ownerReferences"] = []
    await mark_idle(cluster, anchor, NOW)
    assert cluster.writes == []
