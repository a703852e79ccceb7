"""Why a Job is not admitted, read from the Workload that Kueue makes of it."""

from typing import Any

import pytest

from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import NotFound
from star_operator.kube.kueue import not_admitted
from tests.support.fakecluster import FakeCluster

LONG_AGO = "2026-01-01T00:00:00Z"


def job(**spec: Any) -> dict[str, Any]:
    labels = {"kueue.x-k8s.io/queue-name": "gpu"}
    meta = {"name": "j", "namespace": "team", "uid": "uid-j", "labels": labels, "creationTimestamp": LONG_AGO}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"suspend": True, **spec}}


def workload(message: str, reason: str = "Inadmissible", status: str = "False") -> dict[str, Any]:
    meta = {"name": "job-j", "namespace": "team", "labels": {"kueue.x-k8s.io/job-uid": "uid-j"}}
    condition = {"type": "QuotaReserved", "status": status, "reason": reason, "message": message}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": meta,
        "status": {"conditions": [condition]},
    }


@pytest.mark.case("queue-corrected")
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("LocalQueue gpu doesn't exist", ConditionReason.QUEUE_MISSING),
        ("ClusterQueue tenants doesn't exist", ConditionReason.QUEUE_MISSING),
        ("ClusterQueue tenants is inactive", ConditionReason.QUEUED),
        ("couldn't assign flavors to pod set main: insufficient unused quota", ConditionReason.QUEUED),
    ],
)
async def test_what_kueue_says_is_told(message: str, reason: ConditionReason) -> None:
    cluster = FakeCluster()
    cluster.add(workload(message))
    found = await not_admitted(cluster, job())
    assert found is not None
    assert found.reason is reason
    assert found.message.startswith(message)
    assert ("correct spec.compute.queueName" in found.message) == (reason is ConditionReason.QUEUE_MISSING)


@pytest.mark.case("queue-corrected")
async def test_without_kueue_nobody_admits_it_and_that_is_said() -> None:
    class WithoutKueue(FakeCluster):
        async def list_objects(self, *_: Any, **__: Any) -> Any:
            raise NotFound("NotFound", "the server could not find the requested resource")

    found = await not_admitted(WithoutKueue(), job())
    assert found is not None
    assert found.reason is ConditionReason.QUEUE_MISSING
    assert found.message.startswith("no queue gpu: this cluster has no Kueue")


async def test_a_kueue_that_does_not_take_the_job_is_told_of_after_a_while() -> None:
    found = await not_admitted(FakeCluster(), job())
    assert found is not None
    assert "Kueue has not taken Job j" in found.message
    young = job()
    del young["metadata"]["creationTimestamp"]
    assert await not_admitted(FakeCluster(), young) is None


async def test_what_is_admitted_or_in_no_queue_is_not_asked_about() -> None:
    cluster = FakeCluster()
    cluster.add(workload("Quota reserved in ClusterQueue tenants", status="True"))
    assert await not_admitted(cluster, job()) is None
    assert await not_admitted(FakeCluster(), job(suspend=False)) is None
