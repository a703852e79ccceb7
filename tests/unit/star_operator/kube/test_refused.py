"""Pods that admission refuses: the sentence of whoever refused them, from conditions and Events."""

from typing import Any

import pytest

from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.observe import observe_run
from star_operator.kube.serverview import view_server
from tests.support.fakecluster import FakeCluster

LONG_AGO = "2026-01-01T00:00:00Z"
SERVER = {"star.recsys.dev/server": "llm-1"}
RUN = {"star.recsys.dev/kind": "teacherrun", "star.recsys.dev/name": "t", "star.recsys.dev/step": "run"}
SENTENCES = [
    'pods "llm-1-x" is forbidden: failed quota: team: must specify limits.memory for: main',
    'pods "llm-1-x" is forbidden: maximum memory usage per Container is 2Gi, but limit is 4Gi',
    'pods "llm-1-x" is forbidden: violates PodSecurity "restricted:latest": seccompProfile',
    'admission webhook "policy.example.com" denied the request: images must come from our registry',
    'pods "llm-1-x" is forbidden: error looking up service account team/x: serviceaccount "x" not found',
]


def workload(kind: str, version: str, **more: Any) -> KubeObject:
    meta = {"name": "llm-1", "namespace": "team", "labels": SERVER, "creationTimestamp": LONG_AGO}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def event(about: KubeObject, message: str, reason: str = "FailedCreate") -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "team"},
        "involvedObject": {"uid": about["metadata"]["uid"]},
        "type": "Warning",
        "reason": reason,
        "message": message,
    }


@pytest.mark.case("quota-server")
@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_server_whose_pods_are_refused_says_who_refused_them(kind: str, sentence: str) -> None:
    cluster = FakeCluster()
    if kind == "Deployment":
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": sentence}
        cluster.add(workload(kind, "apps/v1", spec={"replicas": 1}, status={"conditions": [condition]}))
    else:
        added = cluster.add(workload(kind, "apps/v1", spec={"replicas": 1}, status={"replicas": 0}))
        cluster.add(event(added, sentence))
    view = await view_server(cluster, "team", "llm-1")
    assert view.trouble is not None
    assert (view.trouble.reason, view.trouble.waits) == (ConditionReason.PODS_REFUSED, True)
    assert view.trouble.message == f"{kind} llm-1 cannot make its pods: {sentence}"


@pytest.mark.parametrize("made", [0, 1])
async def test_a_job_that_lacks_some_of_its_pods_says_who_refused_them(made: int) -> None:
    cluster = FakeCluster()
    labels = {**RUN, "batch.kubernetes.io/job-name": "j"}
    meta = {"name": "j", "namespace": "team", "labels": RUN}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"completions": 2}}
    added = cluster.add({**job, "status": {"startTime": LONG_AGO}})
    for index in range(made):
        pod = {"name": f"j-{index}", "namespace": "team", "labels": labels}
        cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": [{"name": "main"}]}})
    cluster.add(event(added, SENTENCES[0]))
    [seen] = (await observe_run(cluster, "TeacherRun", "team", "t")).jobs
    assert seen.trouble is not None
    assert seen.trouble.message == f"Job j cannot make its pods: {SENTENCES[0]}"


async def test_whatever_keeps_a_pod_from_starting_is_told() -> None:
    cluster = FakeCluster()
    labels = {**RUN, "batch.kubernetes.io/job-name": "j"}
    meta = {"name": "j-0", "namespace": "team", "labels": labels}
    status = {"phase": "Pending", "startTime": LONG_AGO}
    spec = {"containers": [{"name": "main"}]}
    added = cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})
    cluster.add(event(added, "network plugin is not ready: cni config uninitialized", "NetworkNotReady"))
    earlier = event(added, "0/1 nodes are available", "FailedScheduling")
    cluster.add({**earlier, "metadata": {"name": "z", "namespace": "team"}})
    [seen] = (await observe_run(cluster, "TeacherRun", "team", "t")).pods
    assert seen.trouble is not None
    assert seen.trouble.message.endswith("network plugin is not ready: cni config uninitialized")


async def test_a_deployment_that_may_not_even_make_its_replica_set_says_so() -> None:
    cluster = FakeCluster()
    text = 'replicasets.apps "llm-1-x" is forbidden: exceeded quota: objects'
    condition = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": text}
    cluster.add(workload("Deployment", "apps/v1", spec={"replicas": 1}, status={"conditions": [condition]}))
    view = await view_server(cluster, "team", "llm-1")
    assert view.trouble is not None
    assert text in view.trouble.message


async def test_a_server_whose_volume_cannot_be_mounted_says_so() -> None:
    cluster = FakeCluster()
    meta = {"name": "llm-1-x", "namespace": "team", "labels": {**SERVER, "star.recsys.dev/component": "vllm"}}
    status = {"phase": "Pending", "startTime": LONG_AGO}
    added = cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})
    cluster.add(event(added, 'MountVolume.SetUp failed for volume "star": configmap "llm-1" not found', "FailedMount"))
    view = await view_server(cluster, "team", "llm-1")
    assert view.trouble is not None
    assert view.trouble.message.endswith('configmap "llm-1" not found')


async def test_a_server_that_answers_but_lacks_a_copy_says_why() -> None:
    cluster = FakeCluster()
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": SENTENCES[0]}
    cluster.add(workload("Deployment", "apps/v1", spec={"replicas": 2}, status={"conditions": [condition]}))
    labels = {**SERVER, "star.recsys.dev/component": "vllm"}
    meta = {"name": "llm-1-x", "namespace": "team", "labels": labels}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})
    view = await view_server(cluster, "team", "llm-1")
    assert (view.ready, view.ready_replicas) == (True, 1)
    assert view.trouble is not None
    assert SENTENCES[0] in view.trouble.message


async def test_a_server_whose_pod_was_evicted_says_so_while_the_next_one_starts() -> None:
    cluster = FakeCluster()
    labels = {**SERVER, "star.recsys.dev/component": "vllm"}
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. "}
    for name, status in (("a", evicted), ("b", {"phase": "Pending"})):
        meta = {"name": name, "namespace": "team", "labels": labels}
        cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})
    view = await view_server(cluster, "team", "llm-1")
    assert view.trouble is not None
    assert view.trouble.message == "pod a: Evicted: The node was low on resource: memory."
    assert not view.trouble.waits
