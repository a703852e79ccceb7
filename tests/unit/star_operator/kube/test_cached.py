"""Reads through the cache: own writes are seen at once, what is not held is read live, and stale reads do no harm."""

import asyncio
import contextlib
import random
from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.base import value_hash
from star_contracts.result import JobResult
from star_operator.core.errors import Retryable, StarError
from star_operator.core.labels import OURS
from star_operator.core.objects import KubeObject
from star_operator.kube.cache import Cache
from star_operator.kube.cached import CachedCluster
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import DIGEST, MEASURED, indexed
from star_operator.kube.resources import CONFIG_MAP, JOB, STAR_TYPES
from star_operator.reconcilers import recdataset, verbalization
from star_operator.reconcilers.run import RunKind
from tests.support.fakecluster import FakeCluster
from tests.support.feed import Feed
from tests.support.star import DATASET, checkpoint, star
from tests.support.star import DIGEST as SOME_DIGEST
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World


class Counting(FakeCluster):
    """Counts reads."""

    reads = 0

    async def get(self, *args: Any) -> KubeObject | None:
        self.reads += 1
        return await super().get(*args)

    async def list_objects(self, *args: Any, **kwargs: Any) -> list[KubeObject]:
        self.reads += 1
        return await super().list_objects(*args, **kwargs)


def job(name: str, **labels: str) -> KubeObject:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "ns", "labels": {**OURS, **labels}},
        "spec": {},
    }


def cached() -> tuple[Counting, CachedCluster, Feed]:
    live, cache = Counting(), Cache(indexed)
    return live, CachedCluster(live, cache), Feed(live, cache)


async def test_what_is_not_listed_yet_or_never_held_is_read_live() -> None:
    live, cluster, feed = cached()
    live.add(job("a"))
    live.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "ns"}})
    assert len(await cluster.list_objects(JOB, "ns")) == 1
    feed.list_all()
    reads = live.reads
    assert len(await cluster.list_objects(JOB, "ns")) == 1
    assert await cluster.get(JOB, "ns", "a") is not None
    assert live.reads == reads
    assert await cluster.get(CONFIG_MAP, "ns", "m") is not None
    assert live.reads == reads + 1


async def test_labels_fields_and_indexes_select_as_the_api_server_does() -> None:
    live, cluster, feed = cached()
    server, other = "star.recsys.dev/server", "star.recsys.dev/component"
    for name, labels in (("a", {server: "s"}), ("b", {server: "s", other: "vllm"}), ("c", {other: "vllm"})):
        live.add(job(name, **labels))
    for name, model in (("n", {"checkpoint": "c"}), ("d", {"uri": "s3://x", "digest": SOME_DIGEST}), ("x", None)):
        spec = {"dataset": {"name": "d"}} | ({"llm": {"server": {"model": model}}} if model else {})
        live.add(star("Evaluation", "ns", name, spec))
    feed.list_all()
    for labels in ({server: "s"}, {server: "s", other: "vllm"}, {other: "vllm"}, {server: "t"}, {}):
        for namespace in ("ns", None, "elsewhere"):
            assert await cluster.list_objects(JOB, namespace, labels) == await live.list_objects(JOB, namespace, labels)
    assert [
        one["metadata"]["name"] for one in await cluster.list_objects(JOB, None, fields={"metadata.name": "b"})
    ] == ["b"]
    for index, value in ((MEASURED, "c"), (DIGEST, SOME_DIGEST), (MEASURED, "none")):
        rtype = STAR_TYPES["Evaluation"]
        assert await cluster.list_by(rtype, "ns", index, value) == await live.list_by(rtype, "ns", index, value)


async def test_a_write_is_seen_before_any_watch_tells_of_it() -> None:
    _, cluster, feed = cached()
    feed.list_all()
    await cluster.apply(job("a"))
    assert await cluster.get(JOB, "ns", "a") is not None
    await cluster.merge(JOB, "ns", "a", {"spec": {"suspend": True}})
    found = await cluster.get(JOB, "ns", "a")
    assert found is not None
    assert found["spec"]["suspend"]
    feed.look()
    await cluster.delete(JOB, "ns", "a", foreground=True)
    going = await cluster.get(JOB, "ns", "a")
    assert going is not None
    assert "deletionTimestamp" in going["metadata"], "being deleted until a watch says it is gone"
    feed.deliver_all()
    assert await cluster.get(JOB, "ns", "a") is None


async def test_what_is_deleted_is_what_was_shown_and_no_successor_of_its_name() -> None:
    live, cluster, feed = cached()
    live.add(job("a"))
    feed.list_all()
    await live.delete(JOB, "ns", "a")
    live.add(job("a"))
    assert not await cluster.delete(JOB, "ns", "a")
    assert len(live.of("Job")) == 1, "the next one of the name stays"
    feed.deliver_all()
    assert await cluster.delete(JOB, "ns", "a")


async def test_a_status_is_written_to_the_resource_that_was_shown_and_one_that_is_gone_is_forgotten() -> None:
    live, cluster, feed = cached()
    rtype = STAR_TYPES["RecDataset"]
    live.add(star("RecDataset", "ns", "a", DATASET))
    feed.list_all()
    shown = await cluster.get(rtype, "ns", "a")
    assert shown is not None
    await live.delete(rtype, "ns", "a")
    with pytest.raises(StarError):
        await cluster.apply_status({**shown, "status": {"phase": "Running"}})
    assert await cluster.get(rtype, "ns", "a") is None
    live.add(star("RecDataset", "ns", "a", DATASET))
    with pytest.raises(Retryable):
        await cluster.apply_status({**shown, "status": {"phase": "Succeeded"}})


class Played:
    """A run whose operator reads through a cache that is fed late, and whose pods end as a script says."""

    def __init__(self, kind: RunKind[Any], body: KubeObject, *others: KubeObject, seed: int) -> None:
        self.world, self.random = World(kind, body, *others), random.Random(seed)
        self.live: FakeCluster = self.world.cluster
        self.cache = Cache(indexed)
        self.feed = Feed(self.live, self.cache)
        self.cluster: Cluster = CachedCluster(self.live, self.cache)
        self.world.context.cluster = self.cluster
        self.feed.list_all()

    def play(self, steps: int = 300) -> None:
        """Passes, events of one watch or another, and pods that go on, in any order; then all is told."""
        for _ in range(steps):
            self.feed.look()
            kinds = self.feed.waiting()
            act = self.random.choice(["pass", "pods", *kinds, *kinds])
            if act == "pass":
                self.one_pass()
            elif act == "pods":
                self.pods_go_on()
            else:
                self.feed.deliver(act)
            if self.world.status.get("phase") in ("Succeeded", "Failed"):
                return

    def one_pass(self) -> None:
        with contextlib.suppress(Retryable):  # it is tried again
            self.world.passes(1)

    def pods_go_on(self) -> None:
        for made in self.live.of("Job"):
            if "conditions" in made.get("status", {}):
                continue
            meta = made["metadata"]
            labels = {**meta["labels"], "batch.kubernetes.io/controller-uid": meta["uid"]}
            artifact = ArtifactRef(uri=f"s3://star/{meta['name']}", digest=value_hash(meta["uid"]))
            state = {
                "terminated": {"exitCode": 0, "message": JobResult(artifact=artifact, bytes=1).termination_message()}
            }
            for index in range(made["spec"].get("completions", 1)):
                self.live.add(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {"name": f"{meta['name']}-{index}", "namespace": NAMESPACE, "labels": labels},
                        "spec": {"containers": [{"name": "main"}]},
                        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "main", "state": state}]},
                    }
                )
            made["status"] = {
                "succeeded": made["spec"].get("completions", 1),
                "conditions": [{"type": "Complete", "status": "True"}],
            }
            return


@pytest.mark.parametrize("seed", range(40))
def test_a_run_whose_watches_are_late_makes_each_job_once_and_loses_no_result(seed: int) -> None:
    done = star("RecDataset", NAMESPACE, "d", DATASET)
    done["status"] = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": SOME_DIGEST}}
    spec = {"dataset": {"name": "d"}, "llm": {"endpoint": {"url": "http://llm.example/v1", "model": "m"}}, "shards": 2}
    run = Played(
        verbalization.KIND, star("Verbalization", NAMESPACE, "v", spec), done, checkpoint(NAMESPACE), seed=seed
    )
    run.play()
    assert run.world.status["phase"] == "Succeeded", run.world.status
    assert run.world.status["attempt"] == 1
    jobs = [write for write in run.live.writes if write.startswith("apply Job/")]
    assert len(jobs) == len(set(jobs)), "each Job is made once"


@pytest.mark.parametrize("seed", range(40))
def test_a_run_that_is_created_anew_while_watches_are_late_takes_nothing_of_the_one_before(seed: int) -> None:
    body = star("RecDataset", NAMESPACE, "a", DATASET)
    run = Played(recdataset.KIND, body, seed=seed)
    rtype = STAR_TYPES["RecDataset"]
    run.play(run.random.randrange(5, 40))
    asyncio.run(run.live.delete(rtype, NAMESPACE, "a"))
    if run.random.random() < 0.5:  # with --cascade=orphan: nobody collects what it made
        for made in run.live.of("Job"):
            del made["metadata"]["ownerReferences"]
    old = {value_hash(made["metadata"]["uid"]) for made in run.live.of("Job")}
    run.live.add(star("RecDataset", NAMESPACE, "a", DATASET))
    run.play(600)
    assert run.world.status["phase"] == "Succeeded", run.world.status
    assert run.world.status["artifact"]["digest"] not in old
