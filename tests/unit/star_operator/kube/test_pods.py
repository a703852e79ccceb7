"""Annotations on pods that others made: written once, and again only when they differ."""

import asyncio

from star_operator.core.views import Trouble
from star_operator.kube.pods import annotate_pods, why_not_started
from tests.support.fakecluster import FakeCluster

LABELS = {"star.recsys.dev/component": "gateway"}


def cluster(*names: str) -> FakeCluster:
    made = FakeCluster()
    for name in names:
        metadata = {"name": name, "namespace": "n", "labels": LABELS}
        made.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "main"}]}})
    return made


def annotate(where: FakeCluster, digest: str) -> list[str]:
    where.writes.clear()
    asyncio.run(annotate_pods(where, "n", LABELS, {"star.recsys.dev/config": digest}))
    return where.writes


def test_each_pod_is_patched_when_the_configuration_changes_and_only_then() -> None:
    where = cluster("a", "b")
    assert annotate(where, "one") == ["merge Pod/a", "merge Pod/b"]
    assert annotate(where, "one") == []
    assert annotate(where, "two") == ["merge Pod/a", "merge Pod/b"]


def test_pods_of_others_are_left_alone() -> None:
    where = cluster("a")
    where.objects["Pod", "n", "a"]["metadata"]["labels"] = {}
    assert annotate(where, "one") == []


def test_the_first_pod_with_trouble_speaks_for_all() -> None:
    where = cluster("a", "b")
    status = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no nodes"}]}
    where.objects["Pod", "n", "b"]["status"] = status
    found = asyncio.run(why_not_started(where, where.of("Pod")))
    assert found == Trouble(
        "Unschedulable", "pod b waits for a node: a place wanted on any node; the scheduler says: no nodes"
    )
