"""What servers rely on of a real API server: writes at a version, owners beside server-side apply, workloads kept."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from star_cli.local.controlplane import ControlPlane
from star_contracts.job import ModelSource
from star_operator.api.common import Compute, LLMServer, ModelRef
from star_operator.builders.builds import kept
from star_operator.builders.keys import server_keys
from star_operator.builders.llmserver import server_objects
from star_operator.builders.step import ServerPlan
from star_operator.core.keys import KeyRing
from star_operator.core.objects import KubeObject
from star_operator.core.settings import Settings
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import BY_GVK, SERVICE, ResourceType
from star_operator.kube.servers import Hands, join, release
from star_operator.reconcilers.builds import acquire
from tests.support.goldens import CHECKPOINT, settings
from tests.support.kubectl import Kubectl

GROUP = {"tensor_parallel_size": 16, "compute": Compute(pool="h20", nodes=2, gpus_per_node=8)}
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    found = await Cluster.connect(str(control_plane.kubeconfig))
    yield found
    await found.close()


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    name = f"servers-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    return name


def plan(**spec: Any) -> ServerPlan:
    return ServerPlan(LLMServer(model=ModelRef(uri="hf://org/model@v1"), **spec), ModelSource(artifact=CHECKPOINT))


def user(name: str) -> KubeObject:
    return {"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Evaluation", "name": name, "uid": str(uuid.uuid4())}


def upgraded() -> Settings:
    images = {name: one.model_copy(update={"vllm": "star/vllm:2"}) for name, one in settings().images.items()}
    return settings().model_copy(update={"images": images})


async def live(cluster: Cluster, obj: KubeObject) -> KubeObject:
    rtype, meta = BY_GVK[obj["apiVersion"], obj["kind"]], obj["metadata"]
    found = await cluster.get(rtype, meta["namespace"], meta["name"])
    assert found is not None
    return found


class Stale(Cluster):
    """Shows Services as they were once."""

    shown: KubeObject

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        return self.shown

    @property
    def live(self) -> Cluster:
        return self._real

    def __init__(self, real: Cluster, shown: KubeObject) -> None:
        super().__init__(real._api)
        self._real, self.shown = real, shown


async def test_users_of_a_server_come_and_go_in_one_write_each(cluster: Cluster, namespace: str) -> None:
    found, first, second, third = plan(), user("a"), user("b"), user("c")
    await acquire(cluster, found, server_keys(namespace, found, KeyRing()), first, settings())
    anchor = await cluster.get(SERVICE, namespace, found.name)
    assert anchor is not None
    assert Hands.of(anchor).users == (first,)
    await acquire(cluster, found, server_keys(namespace, found, KeyRing()), second, settings())
    await join(Stale(cluster, anchor), anchor, third)
    now = await cluster.get(SERVICE, namespace, found.name)
    assert now is not None
    assert Hands.of(now).users == (first, second, third), "what is behind is decided anew"
    for one in (first, second, third):
        idle = await release(cluster, namespace, one["uid"], NOW)
        assert idle == ([found.name] if one is third else [])
    now = await cluster.get(SERVICE, namespace, found.name)
    assert now is not None
    assert Hands.of(now) == Hands((), NOW)
    _, was_idle = await join(cluster, anchor, first)
    assert was_idle
    await acquire(cluster, found, server_keys(namespace, found, KeyRing()), first, upgraded())
    now = await cluster.get(SERVICE, namespace, found.name)
    assert now is not None
    assert Hands.of(now) == Hands((first,))
    assert now["spec"]["clusterIP"] == anchor["spec"]["clusterIP"]


async def test_a_server_of_the_same_name_that_was_made_anew_is_joined_as_it_is(
    cluster: Cluster, namespace: str
) -> None:
    found = plan()
    await acquire(cluster, found, server_keys(namespace, found, KeyRing()), user("a"), settings())
    anchor = await cluster.get(SERVICE, namespace, found.name)
    assert anchor is not None
    await cluster.delete(SERVICE, namespace, found.name)
    again, second = user("b"), user("c")
    await join(cluster, {**anchor, "metadata": _plain(anchor), "spec": {"ports": [{"port": 8000}]}}, again)
    await join(Stale(cluster, anchor), anchor, second)
    now = await cluster.get(SERVICE, namespace, found.name)
    assert now is not None
    assert Hands.of(now).users == (again, second)


@pytest.mark.parametrize("spec", [{}, GROUP], ids=["single", "group"])
async def test_a_workload_that_is_kept_is_scaled_and_no_more(
    cluster: Cluster, namespace: str, spec: dict[str, Any]
) -> None:
    found = plan(**spec)
    for obj in server_objects(namespace, found, [], settings()):
        await cluster.apply(obj)
    wanted = [
        obj for obj in server_objects(namespace, found, [], upgraded()) if obj["kind"] in ("Deployment", "StatefulSet")
    ]
    for obj in wanted:
        before = await live(cluster, obj)
        assert before["spec"]["template"]["spec"]["containers"][0]["image"] != "star/vllm:2"
        await cluster.claim(kept(before, obj))
        same = await live(cluster, obj)
        assert (same["spec"], same["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
        more = {**obj, "spec": {**obj["spec"], "replicas": 3}}
        await cluster.claim(kept(same, more))
        scaled = await live(cluster, obj)
        assert scaled["spec"] == {**before["spec"], "replicas": 3}
        assert (
            scaled["metadata"]["annotations"]["star.recsys.dev/build"]
            == before["metadata"]["annotations"]["star.recsys.dev/build"]
        )
        await cluster.claim(kept(scaled, more))
        again = await live(cluster, obj)
        assert again["metadata"]["resourceVersion"] == scaled["metadata"]["resourceVersion"], "written once"
        await cluster.claim(more)
        moved = await live(cluster, obj)
        fresh = {**obj, "metadata": {**obj["metadata"], "name": f"{obj['metadata']['name']}-fresh"}}
        if obj["kind"] == "Deployment":
            made = await cluster.apply({**fresh, "spec": more["spec"]})
            assert moved["spec"] == made["spec"], "nothing of before is left"


def _plain(obj: KubeObject) -> KubeObject:
    return {key: obj["metadata"][key] for key in ("namespace", "name", "labels")}
