"""UIDs decide: what was meant for a resource never reaches the next one of its name. With a real API server."""

import asyncio
from collections.abc import Awaitable, Callable

from star_cli.local.controlplane import ControlPlane
from star_operator.api.meta import Phase
from star_operator.api.recdataset import RecDatasetStatus
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, STAR_TYPES, ResourceType
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.write import write_status
from tests.support.kubectl import Kubectl
from tests.support.star import DATASET, star

NOW = "2026-01-02T03:04:05Z"
DATASETS = STAR_TYPES["RecDataset"]
NEVER = "00000000-0000-0000-0000-000000000000"


def with_cluster(control_plane: ControlPlane, act: Callable[[Cluster], Awaitable[None]]) -> None:
    async def run() -> None:
        cluster = await Cluster.connect(str(control_plane.kubeconfig))
        try:
            await act(cluster)
        finally:
            await cluster.close()

    asyncio.run(run())


def running(message: str) -> RecDatasetStatus:
    return told(RecDatasetStatus(), Moment(NOW, 1), Phase.RUNNING, ConditionReason.RUNNING, message)


async def there(cluster: Cluster, rtype: ResourceType, namespace: str, name: str) -> KubeObject:
    body = await cluster.get(rtype, namespace, name)
    assert body is not None
    return body


def test_a_late_status_does_not_reach_the_next_resource_of_the_name(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    async def act(cluster: Cluster) -> None:
        first = await cluster.create(star("RecDataset", namespace, "late", DATASET))
        await cluster.delete(DATASETS, namespace, "late", uid=first["metadata"]["uid"])
        second = await cluster.create(star("RecDataset", namespace, "late", DATASET))
        await write_status(cluster, first, running("of the first"), NOW)
        assert not (await there(cluster, DATASETS, namespace, "late")).get("status", {}).get("conditions")
        changed = {"spec": {"suspend": True}}
        await cluster.merge(DATASETS, namespace, "late", changed, uid=second["metadata"]["uid"])
        await write_status(cluster, second, running("of the second"), NOW)
        assert (await there(cluster, DATASETS, namespace, "late"))["status"]["phase"] == "Running"
        await write_status(cluster, second, running("once more"), NOW)
        said = (await there(cluster, DATASETS, namespace, "late"))["status"]["conditions"]
        assert {one["message"] for one in said} == {"once more"}

    with_cluster(control_plane, act)


def test_patches_and_deletions_meant_for_one_object_leave_another_of_its_name_alone(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    async def act(cluster: Cluster) -> None:
        meta = {"name": "one", "namespace": namespace}
        await cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}})
        await cluster.create(star("RecDataset", namespace, "one", DATASET))
        for rtype in (CONFIG_MAP, DATASETS):
            body = await there(cluster, rtype, namespace, "one")
            patch = {"metadata": {"annotations": {"example.com/a": "b"}}}
            assert await cluster.merge(rtype, namespace, "one", patch, uid=NEVER) is None
            assert not await cluster.delete(rtype, namespace, "one", uid=NEVER)
            assert await there(cluster, rtype, namespace, "one") == body
            assert await cluster.merge(rtype, namespace, "one", patch, uid=body["metadata"]["uid"]) is not None
            assert await cluster.delete(rtype, namespace, "one", uid=body["metadata"]["uid"])

    with_cluster(control_plane, act)
