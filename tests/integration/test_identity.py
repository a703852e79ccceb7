"""UIDs decide: what was meant for a resource never reaches the next one of its name. With a real API server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from star_cli.local.controlplane import ControlPlane
from star_contracts.artifact import ArtifactRef
from star_contracts.job import JobSpec
from star_contracts.result import JobResult
from star_operator.api.meta import Phase
from star_operator.api.recdataset import RecDatasetStatus
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, STAR_TYPES, ResourceType
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.write import write_status
from tests.support.fakekubelet import RUNNING, FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, chain, star, status, wait_phase

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


def recreate(kubectl: Kubectl, resource: KubeObject, *how: str) -> None:
    """Delete a resource and create it anew at once, as `kubectl replace --force` would."""
    meta = resource["metadata"]
    kubectl.run("delete", resource["kind"], meta["name"], "-n", meta["namespace"], *how)
    kubectl.apply(resource)


def test_a_chain_whose_teacher_and_student_are_created_anew_is_recorded_as_it_was_trained(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    """B's digest never stands on what was trained on A, and the second student is in nobody's way."""
    letters = {"teacher": "a", "student": "c"}
    held = True

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        kind = spec.producer.kind
        if kind == "SFTJob" and held:
            return RUNNING
        letter = letters.get({"TeacherRun": "teacher", "SFTJob": "student"}.get(kind, ""))
        done = succeed(spec, pod)
        if letter is None or done.artifact is None:
            return done
        return done.model_copy(update={"artifact": ArtifactRef(uri=done.artifact.uri, digest="sha256:" + letter * 64)})

    kubelet.script = script
    parts = {one["kind"]: one for one in chain(namespace) if one["kind"] != "GRPOJob"}
    kubectl.apply(*parts.values())
    eventually(lambda: kubelet.started[f"{namespace}/sft-sft-1-train"] == 1, "the student trains")
    letters["teacher"] = "e"
    recreate(kubectl, parts["TeacherRun"])
    wait_phase(kubectl, "teacherrun", namespace, "t", "Succeeded")
    assert status(kubectl, "teacherrun", namespace, "t")["artifact"]["digest"] == "sha256:" + "e" * 64
    held = False
    wait_phase(kubectl, "sftjob", namespace, "sft", "Succeeded")
    first = kubectl.get("checkpoint", "sft", namespace)["spec"]
    assert first["lineage"]["inputs"]["trajectories"] == "sha256:" + "a" * 64
    letters["student"] = "f"
    recreate(kubectl, parts["SFTJob"])
    name = f"sft-sft-{'f' * 12}"
    eventually(lambda: status(kubectl, "sftjob", namespace, "sft").get("checkpoint") == name, "it is recorded too")
    second = kubectl.get("checkpoint", name, namespace)["spec"]
    assert second["lineage"]["inputs"]["trajectories"] == "sha256:" + "e" * 64
    assert kubectl.get("checkpoint", "sft", namespace)["spec"] == first
