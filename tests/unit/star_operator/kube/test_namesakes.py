"""Children of a resource are those of its UID, whatever labels and names say."""

from typing import Any

import pytest

from star_contracts.names import LABEL_ATTEMPT, LABEL_KIND, LABEL_NAME, LABEL_STEP
from star_operator.core.errors import Waiting
from star_operator.core.labels import OURS
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.namesakes import require_no_strangers
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import JOB
from tests.support.fakecluster import FakeCluster

LABELS = {**OURS, LABEL_KIND: "sftjob", LABEL_NAME: "s", LABEL_ATTEMPT: "1", LABEL_STEP: "train"}
SPEC: dict[str, Any] = {"containers": [{"name": "main"}]}


def job(name: str, owner: str | None) -> KubeObject:
    owners = [{"kind": "SFTJob", "name": "s", "uid": owner, "controller": True}] if owner else []
    meta = {"name": name, "namespace": "ns", "labels": LABELS, "ownerReferences": owners}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {}}


def pod(name: str, job_uid: str) -> KubeObject:
    labels = {**LABELS, "batch.kubernetes.io/controller-uid": job_uid, "batch.kubernetes.io/job-name": "s-sft-1-train"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "spec": SPEC,
    }


async def test_a_job_of_an_earlier_one_and_its_pods_are_no_part_of_the_run() -> None:
    cluster = FakeCluster()
    old = cluster.add(job("s-sft-1-train", "old"))
    cluster.add(pod("left", old["metadata"]["uid"]))
    view = await observe_run(cluster, "SFTJob", "ns", "s", "new")
    assert (view.jobs, view.pods) == ((), ())
    assert [(one.kind, one.name) for one in view.strangers] == [("Job", "s-sft-1-train"), ("Pod", "left")]


async def test_the_same_job_is_the_earlier_ones_own() -> None:
    cluster = FakeCluster()
    old = cluster.add(job("s-sft-1-train", "old"))
    cluster.add(pod("left", old["metadata"]["uid"]))
    view = await observe_run(cluster, "SFTJob", "ns", "s", "old")
    assert (len(view.jobs), len(view.pods), view.strangers) == (1, 1, ())


@pytest.mark.parametrize("owner", ["old", None])
async def test_what_is_in_the_way_is_deleted_and_waited_for_whether_it_has_an_owner_or_is_an_orphan(
    owner: str | None,
) -> None:
    cluster = FakeCluster()
    cluster.add(job("s-sft-1-train", owner))
    view = await observe_run(cluster, "SFTJob", "ns", "s", "new")
    with pytest.raises(Waiting, match="Job s-sft-1-train is of an earlier SFTJob s") as waiting:
        await require_no_strangers(cluster, "SFTJob", "ns", "s", view)
    assert waiting.value.reason is ConditionReason.NAMESAKE_LEFT
    assert await cluster.get(JOB, "ns", "s-sft-1-train") is None
    await require_no_strangers(cluster, "SFTJob", "ns", "s", await observe_run(cluster, "SFTJob", "ns", "s", "new"))


async def test_a_pod_whose_job_is_gone_says_nothing_for_a_job_of_ones_own() -> None:
    cluster = FakeCluster()
    cluster.add(pod("left", "uid-of-a-job-that-is-gone"))
    alone = await observe_run(cluster, "SFTJob", "ns", "s", "new")
    assert [one.name for one in alone.pods] == ["left"], "it could be of one's own last attempt, which is waited for"
    cluster.add(job("s-sft-1-train", "new"))
    beside = await observe_run(cluster, "SFTJob", "ns", "s", "new")
    assert beside.pods == (), "what it made is somebody else's"
    assert [one.name for one in beside.strangers] == ["left"]
