"""An upgrade of the operator, or of its settings, under what runs."""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from star_contracts.job import ModelSource
from star_operator.api.common import Compute, LLMServer, ModelRef
from star_operator.builders import llmserver
from star_operator.builders.keys import server_keys
from star_operator.builders.step import ServerPlan
from star_operator.core.keys import KeyRing
from star_operator.core.labels import ASKED_ANNOTATION, BUILD_ANNOTATION, LABEL_COMPONENT, LABEL_SERVER, LEADER
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.settings import Settings
from star_operator.kube.servers import release
from star_operator.policy.builds import SETTLE
from star_operator.reconcilers import evaluation
from star_operator.reconcilers.builds import acquire
from star_operator.reconcilers.stardeployment import StarDeploymentReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import CHECKPOINT, settings
from tests.support.star import DATASET, DIGEST, checkpoint, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World

NEW = "star/vllm:cpu-2"
DIGEST_OLD, DIGEST_NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def upgraded(**more: Any) -> Settings:
    """The settings of the next release of the chart: another vLLM."""
    old = settings()
    images = {name: images.model_copy(update={"vllm": NEW}) for name, images in old.images.items()}
    return old.model_copy(update={"images": images, **more})


def image(workload: KubeObject) -> str:
    found: str = workload["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


class TestSharedServers:
    """Under a run that uses it."""

    PLAN = ServerPlan(LLMServer(model=ModelRef(uri="hf://org/model@v1")), ModelSource(artifact=CHECKPOINT))

    def user(self, name: str) -> KubeObject:
        return {"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Evaluation", "name": name, "uid": f"uid-{name}"}

    def acquired(self, cluster: FakeCluster, found: Settings, name: str = "a") -> KubeObject:
        asyncio.run(acquire(cluster, self.PLAN, server_keys(NAMESPACE, self.PLAN, KeyRing()), self.user(name), found))
        [workload] = cluster.of("Deployment")
        return workload

    def test_it_keeps_its_image_while_it_is_used(self) -> None:
        cluster = FakeCluster()
        before = self.acquired(cluster, settings())
        config = cluster.of("ConfigMap")
        after = self.acquired(cluster, upgraded(ca_bundle=""), "b")
        assert (image(before), after["spec"]) == ("star/vllm:cpu-1", before["spec"])
        assert cluster.of("ConfigMap") == config

    def test_who_comes_to_an_idle_one_gets_the_new_image(self) -> None:
        cluster = FakeCluster()
        self.acquired(cluster, settings())
        asyncio.run(release(cluster, NAMESPACE, "uid-a", "2026-01-01T00:00:00Z"))
        assert image(self.acquired(cluster, upgraded(), "b")) == NEW
        assert image(self.acquired(cluster, settings(), "c")) == NEW, "and keeps it"

    def test_one_that_does_not_come_up_gets_it_at_once(self) -> None:
        cluster = FakeCluster()
        workload = self.acquired(cluster, settings())
        labels = {LABEL_SERVER: workload["metadata"]["name"], LABEL_COMPONENT: LEADER}
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        status = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": waiting}]}
        meta = {"name": "p", "namespace": NAMESPACE, "labels": labels}
        cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": status})
        assert image(self.acquired(cluster, upgraded())) == NEW

    def test_what_somebody_has_deleted_of_it_is_made_anew(self) -> None:
        cluster = FakeCluster()
        workload = self.acquired(cluster, settings())
        del cluster.objects["ConfigMap", NAMESPACE, workload["metadata"]["name"]]
        assert image(self.acquired(cluster, upgraded())) == "star/vllm:cpu-1"
        assert len(cluster.of("ConfigMap")) == 1
        del cluster.objects["Deployment", NAMESPACE, workload["metadata"]["name"]]
        assert image(self.acquired(cluster, upgraded())) == NEW

    def test_one_of_a_version_that_did_not_say_is_kept_as_well(self) -> None:
        cluster = FakeCluster()
        workload = self.acquired(cluster, settings())
        del workload["metadata"]["annotations"]
        assert image(self.acquired(cluster, upgraded())) == "star/vllm:cpu-1"


def test_a_running_job_keeps_its_image_and_what_it_is_told() -> None:
    dataset = star("RecDataset", NAMESPACE, "d", DATASET)
    dataset["status"] = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": DIGEST}}
    spec = {"dataset": {"name": "d"}, "llm": {"server": {"model": {"checkpoint": "c"}}}, "settings": {"tools": False}}
    run = World(evaluation.KIND, star("Evaluation", NAMESPACE, "r", spec), dataset, checkpoint(NAMESPACE, "c"))
    run.passes(1)
    run.pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    run.passes(2)
    before = [*run.cluster.of("Job"), *run.cluster.of("ConfigMap"), *run.cluster.of("Deployment")]
    texts = json.dumps([{**one, "metadata": None} for one in before])
    images = {
        name: one.model_copy(update={"jobs": "star/jobs:2", "vllm": NEW}) for name, one in settings().images.items()
    }
    run.context.settings = settings().model_copy(update={"images": images, "ca_bundle": "PEM"})
    run.passes(3)
    after = [*run.cluster.of("Job"), *run.cluster.of("ConfigMap"), *run.cluster.of("Deployment")]
    assert json.dumps([{**one, "metadata": None} for one in after]) == texts


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({}, "llm-3380154c90"),
        ({"tensor_parallel_size": 16, "compute": Compute(pool="h20", nodes=2, gpus_per_node=8)}, "llm-66ac90b635"),
    ],
)
def test_a_server_has_the_same_name_in_every_version(spec: dict[str, Any], name: str) -> None:
    """Else an upgrade starts a second one beside it under a running teacher. A new field of a server's spec is marked
    `Later`: while it has its default it is no part of the name."""
    plan = ServerPlan(LLMServer(model=ModelRef(uri="hf://org/model@v1"), **spec), ModelSource(hub="org/model@v1"))
    assert plan.name == name


class Fleet:
    """StarDeployments in namespaces of their own, and a kubelet that replaces one pod of each at a time."""

    def __init__(self, *namespaces: str, **spec: Any) -> None:
        self.cluster = FakeCluster()
        self.context = Clock(self.cluster, settings(), Recorder(time.monotonic))
        self.keys = [Key("StarDeployment", namespace, "live") for namespace in namespaces]
        self.order = list(self.keys)
        self.bad = ""
        """An image that does not come up."""
        for namespace in namespaces:
            data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
            meta = {"name": settings().store.secret_name, "namespace": namespace}
            self.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
            dataset = star("RecDataset", namespace, "d", DATASET)
            dataset["status"] = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": DIGEST}}
            self.cluster.add(dataset)
            for name, digest in (("old", DIGEST_OLD), ("new", DIGEST_NEW)):
                self.cluster.add(star("Checkpoint", namespace, name, {"uri": f"s3://star/{name}", "digest": digest}))
            common = {"dataset": {"name": "d"}, "checkpoint": {"checkpoint": "old"}, "server": {"replicas": 2}}
            self.cluster.add(star("StarDeployment", namespace, "live", common | spec))
        self.passes(4)
        assert {self.status(namespace)["phase"] for namespace in namespaces} == {"Ready"}

    def passes(self, count: int = 1, seconds: float = 1) -> None:
        for _ in range(count):
            self.kubelet()
            for key in self.order:
                asyncio.run(StarDeploymentReconciler(self.context).reconcile(key))
            self.context.time += timedelta(seconds=seconds)

    def upgrade(self, found: Settings | None = None) -> None:
        """Another operator starts, and looks at all there is."""
        self.context = Clock(self.cluster, found or upgraded(), Recorder(time.monotonic), time=self.context.time)

    def kubelet(self) -> None:
        for workload in [*self.cluster.of("Deployment"), *self.cluster.of("StatefulSet")]:
            if LABEL_SERVER not in workload["metadata"]["labels"]:
                workload["status"] = {"readyReplicas": 1}
                continue
            self._rolls(workload)

    def _rolls(self, workload: KubeObject) -> None:
        """One pod at a time, the next when that is ready, as with maxUnavailable 1."""
        meta, wanted, made = workload["metadata"], workload["spec"]["replicas"], image(workload)
        names = [f"{meta['name']}-{number}" for number in range(wanted)]
        pods = {name: self.cluster.objects.get(("Pod", meta["namespace"], name)) for name in names}
        runs = {name: pod["spec"]["image"] for name, pod in pods.items() if pod is not None}
        outdated = [name for name, there in runs.items() if there != made]
        if outdated and not any(there == self.bad for there in runs.values()):
            runs[outdated[0]] = made
        for name in names:
            self._pod(workload, name, runs.get(name, made))
        ready = sum(runs.get(name, made) != self.bad for name in names)
        updated = sum(runs.get(name, made) == made for name in names)
        counts = {"replicas": wanted, "updatedReplicas": updated, "readyReplicas": ready}
        workload["status"] = {"observedGeneration": meta["generation"], **counts}

    def _pod(self, workload: KubeObject, name: str, made: str) -> None:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(made != self.bad)}]}
        meta = {"name": name, "namespace": workload["metadata"]["namespace"], "labels": labels}
        self.cluster.add(
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"image": made}, "status": status}
        )

    def status(self, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects["StarDeployment", namespace, "live"]["status"]
        return found

    def images(self, namespace: str) -> list[str]:
        """Of a deployment's server pods."""
        return [pod["spec"]["image"] for pod in self.cluster.of("Pod") if pod["metadata"]["namespace"] == namespace]

    def outdated(self, namespace: str) -> str:
        """The reason of the condition Outdated."""
        found = [one["reason"] for one in self.status(namespace)["conditions"] if one["type"] == "Outdated"]
        return found[0] if found else ""

    def moved(self) -> list[str]:
        """Namespaces whose servers are asked to be of the new image."""
        servers = (one for one in self.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"])
        return [one["metadata"]["namespace"] for one in servers if image(one) == NEW]

    def annotate(self, namespace: str, value: str) -> None:
        meta = self.cluster.objects["StarDeployment", namespace, "live"]["metadata"]
        meta["annotations"] = {"star.recsys.dev/update-servers": value}


SETTLED = SETTLE.total_seconds()


class TestServing:
    def test_one_deployment_after_the_other_moves_in_the_order_of_their_names(self) -> None:
        fleet = Fleet("a", "b", "c")
        fleet.order.reverse()
        fleet.upgrade()
        fleet.passes(3)
        assert fleet.moved() == []
        assert {fleet.outdated(one) for one in "abc"} == {"UpdateWaiting"}
        assert {fleet.status(one)["phase"] for one in "abc"} == {"Ready"}
        fleet.passes(1, seconds=SETTLED)
        for number, name in enumerate("abc"):
            for _ in range(12):
                if name in fleet.moved():
                    break
                fleet.passes(1)
            assert fleet.moved() == list("abc")[: number + 1]
            for other in "abc"[:number]:
                assert (fleet.status(other)["phase"], fleet.outdated(other)) == ("Ready", "")
                assert set(fleet.images(other)) == {NEW}
        fleet.passes(4)
        assert {(fleet.status(one)["phase"], fleet.outdated(one)) for one in "abc"} == {("Ready", "")}

    def test_one_that_moves_says_so_and_is_seen_again_by_another_operator(self) -> None:
        fleet = Fleet("a", "b")
        fleet.upgrade()
        fleet.passes(2, seconds=SETTLED)
        fleet.passes(1)
        assert fleet.outdated("a") == "Updating"
        fleet.order.reverse()
        fleet.upgrade()
        fleet.passes(1)
        assert (fleet.moved(), fleet.outdated("b")) == (["a"], "UpdateWaiting")
        assert "its servers are replaced by those of the present build" in ready_message(fleet.status("a"))

    def test_a_build_that_does_not_come_up_stops_at_the_first(self) -> None:
        fleet = Fleet("a", "b")
        fleet.bad = NEW
        fleet.upgrade()
        fleet.passes(2, seconds=SETTLED)
        fleet.passes(20, seconds=SETTLED)
        assert (fleet.moved(), fleet.outdated("b")) == (["a"], "UpdateWaiting")
        assert sorted(fleet.images("a")) == ["star/vllm:cpu-1", NEW]
        assert (fleet.status("a")["phase"], fleet.status("b")["phase"]) == ("Degraded", "Ready")
        assert "1 of 2 servers are ready" in ready_message(fleet.status("a"))

    def test_the_builders_own_code_is_no_other_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fleet = Fleet("a", "b")
        before = [one["spec"] for one in fleet.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"]]
        monkeypatch.setattr(llmserver, "PRE_STOP_SECONDS", 7)
        fleet.upgrade(settings())
        fleet.passes(3)
        after = [one["spec"] for one in fleet.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"]]
        assert after == before
        assert fleet.outdated("a") == "UpdateWaiting"

    def test_what_a_person_changes_is_made_at_once_and_brings_the_new_build(self) -> None:
        fleet = Fleet("a", "b")
        fleet.upgrade()
        fleet.passes(2)
        fleet.cluster.objects["StarDeployment", "b", "live"]["spec"]["server"] = {"replicas": 2, "maxModelLen": 512}
        fleet.passes(4)
        assert (fleet.moved(), fleet.outdated("b")) == (["b"], "")

    def test_to_scale_is_not_to_move(self) -> None:
        fleet = Fleet("a", "b")
        fleet.upgrade()
        fleet.passes(2)
        fleet.cluster.objects["StarDeployment", "b", "live"]["spec"]["server"] = {"replicas": 3}
        fleet.passes(3)
        assert fleet.moved() == []
        assert fleet.images("b") == ["star/vllm:cpu-1"] * 3

    def test_the_next_checkpoint_brings_the_new_build(self) -> None:
        fleet = Fleet("a")
        fleet.upgrade()
        fleet.cluster.objects["StarDeployment", "a", "live"]["spec"]["checkpoint"] = {"checkpoint": "new"}
        fleet.passes(1)
        servers = [one for one in fleet.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"]]
        assert [image(one) for one in servers] == ["star/vllm:cpu-1", NEW]
        assert fleet.outdated("a") == "UpdateHeld"

    def test_a_person_can_have_it_now_or_never(self) -> None:
        fleet = Fleet("a", "b")
        fleet.annotate("a", "never")
        fleet.annotate("b", "now")
        fleet.upgrade()
        fleet.passes(4)
        assert (fleet.moved(), fleet.outdated("a"), fleet.outdated("b")) == (["b"], "UpdateHeld", "")
        fleet.passes(4, seconds=SETTLED)
        assert fleet.moved() == ["b"]

    def test_one_server_alone_on_gpus_is_not_interrupted(self) -> None:
        gpu = {"replicas": 1, "tensorParallelSize": 1, "compute": {"pool": "h20", "gpusPerNode": 1}}
        fleet = Fleet("a", server=gpu)
        fleet.upgrade()
        fleet.passes(4, seconds=SETTLED)
        assert (fleet.moved(), fleet.outdated("a"), fleet.status("a")["phase"]) == ([], "UpdateHeld", "Ready")

    def test_what_is_suspended_has_nothing_to_lose(self) -> None:
        fleet = Fleet("a")
        fleet.cluster.objects["StarDeployment", "a", "live"]["spec"]["suspend"] = True
        fleet.passes(2)
        fleet.upgrade()
        fleet.passes(1)
        assert (fleet.moved(), fleet.outdated("a")) == (["a"], "")

    def test_none_by_itself(self) -> None:
        fleet = Fleet("a")
        fleet.upgrade(upgraded(server_updates=0))
        fleet.passes(4, seconds=SETTLED)
        assert (fleet.moved(), fleet.outdated("a")) == ([], "UpdateHeld")

    def test_one_of_a_version_that_did_not_say_waits_as_well_and_is_watched_from_then_on(self) -> None:
        fleet = Fleet("a", "b")
        for one in fleet.cluster.of("Deployment"):
            for annotation in (ASKED_ANNOTATION, BUILD_ANNOTATION):
                one["metadata"].get("annotations", {}).pop(annotation, None)
        fleet.upgrade()
        fleet.passes(2)
        assert (fleet.moved(), fleet.outdated("b")) == ([], "UpdateWaiting")
        fleet.cluster.objects["StarDeployment", "b", "live"]["spec"]["server"] = {"replicas": 2, "maxModelLen": 512}
        fleet.passes(4)
        assert fleet.moved() == ["b"]

    def test_one_that_cannot_be_looked_after_any_more_gives_its_turn_back(self) -> None:
        fleet = Fleet("a", "b")
        fleet.upgrade()
        fleet.passes(2, seconds=SETTLED)
        fleet.passes(1)
        assert fleet.outdated("a") == "Updating"
        server = {"replicas": 2, "compute": {"pool": "nowhere"}}
        fleet.cluster.objects["StarDeployment", "a", "live"]["spec"]["server"] = server
        fleet.passes(5)
        assert (fleet.status("a")["phase"], fleet.outdated("a")) == ("Failed", "")
        assert "b" in fleet.moved()

    @pytest.mark.parametrize("asked", [True, False], ids=["a person", "an upgrade"])
    def test_copies_of_several_nodes_are_made_anew_one_after_the_other(self, asked: bool) -> None:
        group = {"replicas": 2, "tensorParallelSize": 16, "compute": {"pool": "h20", "nodes": 2, "gpusPerNode": 8}}
        fleet = Fleet("a", server=group)
        fleet.upgrade()
        if asked:
            fleet.cluster.objects["StarDeployment", "a", "live"]["spec"]["server"] = {**group, "maxModelLen": 512}
        seen = []
        for _ in range(8):
            fleet.passes(1, seconds=SETTLED)
            seen.append([image(one) == NEW for one in fleet.cluster.of("StatefulSet")])
        assert seen[-1] == [True] * 4
        assert [True, True, False, False] in seen, "leader and worker of the first copy, while the second one serves"

    def test_one_that_is_deleted_gives_its_turn_back(self) -> None:
        fleet = Fleet("a", "b")
        fleet.upgrade()
        fleet.passes(2, seconds=SETTLED)
        fleet.passes(1)
        assert fleet.outdated("a") == "Updating"
        del fleet.cluster.objects["StarDeployment", "a", "live"]
        fleet.passes(4)
        assert "b" in fleet.moved()
