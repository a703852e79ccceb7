"""Passes over a namespace in a cluster in memory: the sweep's Job is played by hand."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from star_contracts.result import ErrorClass, JobError, JobResult
from star_contracts.retention import SweepSpec
from star_operator.builders.retention import NAME, SWEEP_FILE
from star_operator.core.errors import Retryable
from star_operator.core.settings import RetentionSettings
from star_operator.kube.cache import Cache
from star_operator.kube.cached import CachedCluster
from star_operator.kube.indexes import indexed
from star_operator.reconcilers.retention import RetentionReconciler, key_of
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.feed import Feed
from tests.support.goldens import settings
from tests.support.runs import Body, made, run, serving
from tests.support.star import star

RULES = RetentionSettings(keep_runs=1, grace_period_seconds=60)


@pytest.fixture(autouse=True, params=["live", "cached"])
def _reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is passed by an operator that reads live, and by one that reads through a cache."""
    monkeypatch.setattr(World, "cached", request.param == "cached")


class World:
    """A namespace and its retention."""

    cached = False

    def __init__(self, *bodies: Body, rules: RetentionSettings = RULES) -> None:
        self.cluster = FakeCluster()
        store = settings().store.model_copy(update={"secret_name": "", "uri": "s3://star"})
        chosen = settings().model_copy(update={"retention": rules, "store": store})
        self.context = Clock(self.cluster, chosen, Recorder(time.monotonic))
        for body in bodies:
            self.cluster.add(body)

    def passes(self, count: int = 1) -> None:
        for _ in range(count):
            if self.cached:
                cache = Cache(indexed)
                Feed(self.cluster, cache).list_all()
                self.context.cluster = CachedCluster(self.cluster, cache)
            asyncio.run(RetentionReconciler(self.context).reconcile(key_of("team")))

    @property
    def job(self) -> Body | None:
        return self.cluster.objects.get(("Job", "team", NAME))

    @property
    def spec(self) -> SweepSpec:
        text = self.cluster.objects["ConfigMap", "team", NAME]["data"][SWEEP_FILE]
        return SweepSpec.model_validate_json(text)

    def job_ends(self, how: str = "Complete", error: str = "", side_car: bool = False, **metrics: float) -> None:
        job = self.cluster.objects["Job", "team", NAME]
        if not side_car:
            job["status"] = {"conditions": [{"type": how, "status": "True", "reason": "Ended"}]}
        failed = JobError(error_class=ErrorClass.TERMINAL, reason="StoreRefused", message=error) if error else None
        ended = {
            "exitCode": 65 if error else 0,
            "message": JobResult(metrics=metrics, error=failed).termination_message(),
        }
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": NAME}
        beside = [{"name": "mesh", "state": {"running": {}}}] if side_car else []
        containers = [{"name": "main", "state": {"terminated": ended}}, *beside]
        status = {"phase": "Running" if side_car else "Succeeded", "containerStatuses": containers}
        metadata = {"name": f"{NAME}-x", "namespace": "team", "labels": labels}
        self.cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})

    def names(self, kind: str) -> set[str]:
        return {body["metadata"]["name"] for body in self.cluster.of(kind)}


def test_first_it_marks_then_it_deletes_and_the_pipeline_last() -> None:
    world = World(*run(1), *run(2))
    world.passes(2)
    assert world.job is not None
    assert {letting.digest for letting in world.spec.let_go} == {
        made("r1", stage)["digest"] for stage in ("dataset", "verbalization", "teacher", "sft", "grpo", "evaluation")
    }
    assert {letting.grace_seconds for letting in world.spec.let_go} == {60}
    assert world.names("TeacherRun") == {"r1-teacher", "r2-teacher"}
    world.job_ends(waiting=6, nextSeconds=60)
    world.passes()
    assert world.job is None
    assert world.names("TeacherRun") == {"r2-teacher"}
    assert world.names("StarPipeline") == {"r1", "r2"}, "its children are only being deleted"
    world.passes()
    assert world.names("StarPipeline") == {"r2"}
    assert world.job is None
    assert world.context.queue.later == pytest.approx(61)
    world.context.time += timedelta(seconds=62)
    world.passes()
    assert world.job is not None
    assert not world.spec.let_go
    assert made("r2", "grpo")["digest"] in world.spec.kept
    assert made("r1", "grpo")["digest"] not in world.spec.kept
    world.job_ends(swept=6)
    world.passes(3)
    assert world.job is None


@pytest.mark.case("side-car")
def test_a_sweep_ends_beside_a_side_car_that_does_not() -> None:
    world = World(*run(1), *run(2))
    world.passes(2)
    world.job_ends(side_car=True, waiting=6, nextSeconds=60)
    world.passes()
    assert (world.job, world.cluster.of("Pod")) == (None, []), "nothing goes on"
    assert world.names("TeacherRun") == {"r2-teacher"}


@pytest.mark.case("side-car")
def test_a_sweep_that_failed_beside_a_side_car_is_told() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    world.job_ends(side_car=True, error="the store refuses")
    world.passes()
    assert (world.job, world.cluster.of("Pod")) == (None, [])
    assert world.names("TeacherRun") == {"r1-teacher", "r2-teacher"}
    assert any("the store refuses" in event["message"] for event in world.cluster.of("Event"))


def test_what_is_about_to_go_is_not_condemned_while_it_is_there() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    assert made("r1", "teacher")["digest"] in world.spec.kept
    assert made("r1", "teacher")["digest"] not in world.spec.recorded


def test_what_was_pinned_after_it_was_looked_at_stays() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    world.job_ends()
    delete = world.cluster.delete

    async def delete_what_has_not_changed(rtype: Any, namespace: str, name: str, **options: Any) -> bool:
        if name == "r1-teacher":
            raise Retryable("Conflict", "it has changed")
        return await delete(rtype, namespace, name, **options)

    world.cluster.delete = delete_what_has_not_changed  # type: ignore[method-assign]
    world.passes()
    assert world.names("TeacherRun") == {"r1-teacher", "r2-teacher"}
    assert world.names("RecDataset") == {"r2-dataset"}


def test_a_sweep_that_failed_is_told_and_tried_again_later() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    world.job_ends("Failed", "the store ignores conditions of writes")
    world.passes(3)
    assert world.names("TeacherRun") == {"r1-teacher", "r2-teacher"}
    assert world.job is None
    (event,) = world.cluster.of("Event")
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "r2")
    assert event["message"].endswith("could not be deleted from the store: the store ignores conditions of writes")
    world.context.time += timedelta(seconds=601)
    world.passes()
    assert world.job is not None


def test_a_sweep_whose_answer_is_lost_is_followed_by_another() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    first = world.spec.sweep
    world.job_ends()
    for pod in world.cluster.of("Pod"):
        pod["status"] = {}
    world.passes(2)
    assert world.job is not None
    assert world.spec.sweep != first


def test_prefixes_that_other_namespaces_name_are_spared() -> None:
    live = serving("r1")
    live["metadata"]["namespace"] = "prod"
    live["spec"]["checkpoint"] = {"uri": made("r1", "grpo")["uri"], "digest": made("r1", "grpo")["digest"]}
    world = World(*run(1), *run(2), live)
    world.passes()
    assert world.spec.used == {made("r1", "grpo")["uri"]}


def test_what_pods_that_may_run_are_told_is_spared_and_what_ended_ones_were_told_is_not() -> None:
    running = star("TeacherRun", "team", "mine", {"dataset": {"name": "gone"}})
    running = {**running, "status": {"phase": "Running"}}
    running["metadata"]["uid"] = "uid-mine"
    told = {"mine": ("uid-mine", "r1/dataset"), "r1-teacher": ("uid-TeacherRun-r1-teacher", "r1/verbalization")}
    maps = []
    for name, (uid, read) in told.items():
        owners = [{"uid": uid, "kind": "TeacherRun", "name": name, "controller": True}]
        labels = {"app.kubernetes.io/managed-by": "star-operator"}
        metadata = {"name": f"{name}-1", "namespace": "team", "labels": labels, "ownerReferences": owners}
        data = {"fetch.json": json.dumps({"artifact": made("r1", read.partition("/")[2])})}
        maps.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    world = World(*run(1), *run(2), running, *maps)
    world.passes()
    assert world.spec.used == {made("r1", "dataset")["uri"]}
    assert made("r1", "dataset")["digest"] not in {letting.digest for letting in world.spec.let_go}
    assert made("r1", "verbalization")["digest"] in {letting.digest for letting in world.spec.let_go}


def test_nothing_goes_where_retention_is_switched_off() -> None:
    world = World(*run(1), *run(2), rules=RetentionSettings(enabled=False, keep_runs=1))
    world.passes(3)
    assert not world.cluster.writes


def test_jobs_of_pipelines_go_after_their_time_and_those_of_others_stay() -> None:
    mine = star("TeacherRun", "team", "mine", {"dataset": {"name": "r1-dataset"}})
    mine = {**mine, "status": {"phase": "Succeeded"}}
    mine["metadata"]["uid"] = "uid-mine"
    jobs = []
    for name, uid, hour in (
        ("old", "uid-TeacherRun-r1-teacher", 0),
        ("new", "uid-TeacherRun-r1-teacher", 2),
        ("its", "uid-mine", 0),
    ):
        owners = [{"uid": uid, "kind": "TeacherRun", "name": name, "controller": True}]
        labels = {"app.kubernetes.io/managed-by": "star-operator"}
        metadata = {"name": name, "namespace": "team", "labels": labels, "ownerReferences": owners}
        at = datetime(2026, 1, 1, hour, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"completionTime": at}
        jobs.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}, "status": status})
    rules = RULES.model_copy(update={"finished_job_seconds": 7200})
    world = World(*run(1), mine, *jobs, rules=rules)
    world.context.time += timedelta(hours=2)
    world.passes()
    assert world.names("Job") == {"new", "its"}


@pytest.mark.bad_input
@pytest.mark.parametrize("data", [{}, {SWEEP_FILE: "{}"}, {SWEEP_FILE: "no JSON"}])
def test_a_sweeps_config_map_that_somebody_changed_deletes_nothing(data: dict[str, str]) -> None:
    world = World(*run(1), *run(2))
    world.passes()
    world.cluster.objects["ConfigMap", "team", NAME]["data"] = data
    world.job_ends()
    world.passes()
    assert world.names("TeacherRun") == {"r1-teacher", "r2-teacher"}
    world.passes(2)
    assert world.job is not None, "it is begun anew"


def test_the_job_has_the_namespaces_credentials_and_no_token_of_the_clusters() -> None:
    world = World(*run(1), *run(2))
    world.passes()
    assert world.job is not None
    pod = world.job["spec"]["template"]["spec"]
    assert world.job["spec"]["podReplacementPolicy"] == "Failed", "two sweeps never run at once"
    assert pod["automountServiceAccountToken"] is False
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "work", "shm", "star"]
    assert pod["containers"][0]["command"] + pod["containers"][0]["args"] == ["star-job", "sweep"]
