"""A pipeline in a cluster in memory: each pass is one of an operator that has just started."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from star_operator.core.errors import InvalidSpec
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.reconcilers.starpipeline import StarPipelineReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.pipelines import KINDS, SERVED, SPEC, artifact, body
from tests.support.star import DIGEST, star

RETRY = "star.recsys.dev/retry"


class World:
    """A pipeline and its reconciler; the stages' own reconcilers are played by hand."""

    def __init__(self, spec: dict[str, Any] | None = None, *others: dict[str, Any]) -> None:
        self.cluster = FakeCluster()
        self.context = Clock(self.cluster, settings(), Recorder(time.monotonic))
        pipeline = body(spec)
        pipeline["status"] = {}
        for obj in (pipeline, *others):
            self.cluster.add(obj)

    def passes(self, count: int = 3) -> None:
        for _ in range(count):
            reconciler = StarPipelineReconciler(self.context)
            asyncio.run(reconciler.reconcile(Key("StarPipeline", "team", "weekly")))
            self.context.time += timedelta(minutes=1)

    @property
    def writes(self) -> list[str]:
        """All changes but Events."""
        return [write for write in self.cluster.writes if "Event/" not in write]

    @property
    def pipeline(self) -> dict[str, Any]:
        return self.cluster.objects["StarPipeline", "team", "weekly"]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.pipeline["status"]
        return found

    @property
    def message(self) -> str:
        return next(c["message"] for c in self.status["conditions"] if c["type"] == "Ready")

    def stage(self, stage: str, phase: str, message: str = "so it is", **status: Any) -> None:
        """A stage's resource has this status."""
        found = self.cluster.objects[KINDS[stage], "team", f"weekly-{stage}"]
        ready = {"type": "Ready", "status": "False", "reason": "Running", "message": message}
        found["status"] = {"phase": phase, "conditions": [ready], **status}

    def all_done(self) -> None:
        for stage in KINDS:
            figures = {"metrics": {"hrAvg": 0.5}, "headline": "hrAvg 0.500"} if stage == "evaluation" else {}
            self.stage(stage, "Succeeded", artifact=artifact(name=stage), **figures)


def test_it_makes_the_chain_once_and_sums_it_up() -> None:
    world = World()
    world.passes()
    made = world.writes
    assert made == [f"apply {kind}/weekly-{stage}" for stage, kind in reversed(KINDS.items())]
    world.all_done()
    world.passes()
    assert world.status["phase"] == "Succeeded"
    assert world.status["checkpoint"] == {
        "checkpoint": "weekly-grpo", "uri": "s3://star/artifacts/grpo", "digest": artifact()["digest"]
    }  # fmt: skip
    assert world.status["headline"] == "hrAvg 0.500"
    assert world.status["progressText"] == "6/6 stages"
    assert world.writes == made


def test_a_stage_that_is_deleted_by_hand_is_made_again() -> None:
    world = World()
    world.passes()
    del world.cluster.objects["TeacherRun", "team", "weekly-teacher"]
    world.passes()
    assert world.cluster.writes.count("apply TeacherRun/weekly-teacher") == 2


def test_a_retry_is_begun_once_however_often_it_is_looked_at() -> None:
    world = World()
    world.passes()
    world.all_done()
    world.cluster.add(star("Checkpoint", "team", "weekly-sft", {"uri": "s3://star/x", "digest": DIGEST, "lineage": {}}))
    old = world.cluster.objects["SFTJob", "team", "weekly-sft"]["metadata"]["uid"]
    world.cluster.objects["Checkpoint", "team", "weekly-sft"]["spec"]["lineage"]["producerUid"] = old
    world.stage("sft", "Failed", "step train failed")
    world.passes()
    assert world.message == "stage sft failed: step train failed"
    world.pipeline["metadata"]["annotations"] = {RETRY: "sft"}
    world.passes(6)
    assert RETRY not in world.pipeline["metadata"].get("annotations", {})
    tries = {row["name"]: row["tries"] for row in world.status["stages"]}
    assert tries == {"dataset": 1, "verbalization": 1, "teacher": 1, "sft": 2, "grpo": 2, "evaluation": 2}
    assert world.cluster.objects["SFTJob", "team", "weekly-sft"]["metadata"]["uid"] != old
    assert world.cluster.writes.count("apply SFTJob/weekly-sft") == 2
    assert ("Checkpoint", "team", "weekly-sft") not in world.cluster.objects, "it was of the job that is gone"
    assert world.cluster.writes.count("apply RecDataset/weekly-dataset") == 1
    world.pipeline["metadata"]["annotations"] = {RETRY: "sft"}
    world.passes(6)
    assert {row["name"]: row["tries"] for row in world.status["stages"]}["sft"] == 3


@pytest.mark.bad_input
def test_a_retry_from_a_stage_that_there_is_not() -> None:
    world = World()
    world.passes()
    world.pipeline["metadata"]["annotations"] = {RETRY: "training"}
    world.passes()
    assert "names stage 'training'; this pipeline has dataset, verbalization, teacher" in world.message


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", [{}, {"cancel": True}])
def test_what_has_ended_is_told_once_that_it_is_not_begun_anew(spec: dict[str, Any]) -> None:
    world = World()
    world.passes()
    world.all_done()
    world.passes()
    assert world.status["phase"] == "Succeeded"
    world.pipeline["spec"] |= spec
    world.pipeline["metadata"]["annotations"] = {RETRY: "sft" if spec else "training"}
    world.passes(1)
    assert RETRY not in world.pipeline["metadata"].get("annotations", {})
    assert world.status["phase"] == "Succeeded"
    assert ("is not retried" if spec else "names stage 'training'") in world.message


def deployment(digest: str, **status: Any) -> dict[str, Any]:
    found = star("StarDeployment", "team", "live", {"checkpoint": {"digest": digest}, "dataset": {"name": "old"}})
    found["metadata"]["labels"] = {"star.recsys.dev/series": "weekly"}
    found["metadata"]["generation"] = 1
    found["status"] = {"phase": "Ready", "observedGeneration": 1, "servingDigest": digest, **status}
    return found


def test_the_deployment_is_moved_once_the_rest_is_done() -> None:
    world = World(SERVED, deployment(DIGEST))
    world.passes()
    assert world.cluster.objects["StarDeployment", "team", "live"]["spec"]["checkpoint"]["digest"] == DIGEST
    world.all_done()
    world.cluster.objects["StarDeployment", "team", "live"]["status"]["observedGeneration"] = 0
    world.passes(1)
    moved = world.cluster.objects["StarDeployment", "team", "live"]
    assert moved["spec"]["checkpoint"] == {"checkpoint": "weekly-grpo", "digest": artifact()["digest"]}
    assert moved["spec"]["dataset"] == {"name": "weekly-dataset"}
    world.passes(3)
    assert world.status["phase"] == "Running", "its status is still that of the model before"
    moved["status"]["observedGeneration"] = 1
    world.passes(1)
    assert world.status["phase"] == "Succeeded"
    assert world.cluster.writes.count("apply StarDeployment/live") == 1


@pytest.mark.parametrize(("managers", "replicas"), [([], 1), ([{"manager": "hpa", "subresource": "scale"}], 5)])
def test_moving_a_deployment_leaves_its_copies_to_whoever_scales_it(managers: list[Any], replicas: int) -> None:
    live = deployment(DIGEST)
    live["spec"]["server"] = {"replicas": 5}
    live["metadata"]["managedFields"] = managers
    world = World(SERVED, live)
    world.passes()
    world.all_done()
    world.passes()
    assert world.cluster.objects["StarDeployment", "team", "live"]["spec"]["server"]["replicas"] == replicas


def test_a_pipeline_that_is_done_does_not_move_the_deployment_back() -> None:
    world = World(SERVED, deployment(DIGEST))
    world.passes()
    world.all_done()
    world.passes()
    world.cluster.objects["StarDeployment", "team", "live"]["spec"]["checkpoint"] = {"digest": DIGEST}
    world.passes()
    assert world.cluster.writes.count("apply StarDeployment/live") == 1


def test_a_retry_moves_the_deployment_to_what_it_makes() -> None:
    world = World(SERVED, deployment(DIGEST))
    world.passes()
    world.all_done()
    world.passes()
    assert world.status["phase"] == "Succeeded"
    world.pipeline["metadata"]["annotations"] = {RETRY: "grpo"}
    world.passes(5)
    world.stage("grpo", "Succeeded", artifact=artifact("2", "grpo"))
    world.stage("evaluation", "Succeeded", artifact=artifact(name="evaluation"), metrics={"hrAvg": 0.6})
    world.passes()
    assert world.status["phase"] == "Succeeded"
    live = world.cluster.objects["StarDeployment", "team", "live"]["spec"]["checkpoint"]
    assert live["digest"] == artifact("2")["digest"]


def test_a_retry_takes_the_verdict_back() -> None:
    world = World()
    world.passes()
    world.stage("sft", "Failed", "step train failed")
    world.passes()
    assert "Failed" in {c["type"] for c in world.status["conditions"]}
    world.pipeline["metadata"]["annotations"] = {RETRY: "sft"}
    world.passes(2)
    assert "Failed" not in {c["type"] for c in world.status["conditions"]}


@pytest.mark.bad_input
def test_a_stage_that_is_refused_is_so_before_anything_has_begun() -> None:
    class Strict(FakeCluster):
        async def apply(self, obj: dict[str, Any], *, manager: str = "") -> dict[str, Any]:
            if obj["kind"] == "SFTJob":
                raise InvalidSpec(ConditionReason.INVALID_OBJECT, "spec.hyperparameters: must be a multiple")
            return await super().apply(obj, manager=manager)

    world = World()
    strict = Strict()
    strict.objects = world.cluster.objects
    world.cluster = world.context.cluster = strict
    world.passes()
    assert (world.status["phase"], world.message) == ("Failed", "spec.hyperparameters: must be a multiple")
    assert world.writes == ["apply Evaluation/weekly-evaluation", "apply GRPOJob/weekly-grpo"]


@pytest.mark.bad_input
def test_a_spoiled_annotation_of_a_stage_stops_nothing() -> None:
    world = World()
    world.passes()
    world.cluster.objects["TeacherRun", "team", "weekly-teacher"]["metadata"]["annotations"] = {
        "star.recsys.dev/try": "two"
    }
    world.all_done()
    world.passes()
    assert world.status["phase"] == "Succeeded"


@pytest.mark.bad_input
def test_a_deployment_of_others_is_not_taken_over() -> None:
    other = deployment(DIGEST)
    del other["metadata"]["labels"]
    world = World(SERVED, other)
    world.passes()
    world.all_done()
    world.passes()
    assert "is not of series weekly: set deployment.use.name" in world.message
    assert other["spec"]["checkpoint"] == {"digest": DIGEST}


@pytest.mark.bad_input
def test_what_is_used_and_is_not_there_is_waited_for() -> None:
    world = World({**SPEC, "dataset": {"use": {"name": "amazon"}}})
    world.passes()
    assert world.status["phase"] == "Waiting"
    assert "spec.dataset.use names RecDataset amazon, which does not exist" in world.message
    assert world.context.queue.later is not None  # type: ignore[attr-defined]


def test_a_variants_stage_takes_over_from_the_same_variant_or_from_what_was_shared() -> None:
    done = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    last = []
    for name, variant, day in (("shared", "", 1), ("of-large", "large", 2), ("of-other", "other", 3)):
        run = star("TeacherRun", "team", f"last-{name}", {"dataset": {"name": "d"}, "llm": {"endpoint": _ENDPOINT}})
        labels = {"star.recsys.dev/series": "weekly"} | ({"star.recsys.dev/variant": variant} if variant else {})
        run["metadata"]["labels"] = labels
        last.append(run | {"status": {**done, "completionTime": f"2026-01-0{day}T00:00:00Z"}})
    patch = {"teacher": {"passes": 2}}
    spec = {**SPEC, "variants": {"plain": {}, "large": patch, "small": patch}}
    world = World(spec, *last)
    world.passes()
    assert world.status["previousTeacher"] == "last-shared"
    assert world.status["previousOfVariants"] == {"teacher/large": "last-of-large", "teacher/small": "last-shared"}
    previous = {run["metadata"]["name"]: run["spec"].get("previous") for run in world.cluster.of("TeacherRun")}
    assert previous["weekly-teacher"] == {"name": "last-shared"}
    assert previous["weekly-teacher-large"] == {"name": "last-of-large"}
    assert previous["weekly-teacher-small"] == {"name": "last-shared"}


def test_the_incumbent_and_the_run_before_are_decided_once() -> None:
    serving = deployment(DIGEST)
    serving["status"]["revisions"] = [{"name": "b", "uri": "s3://star/models/b", "digest": DIGEST, "weight": 100}]
    last = star("Verbalization", "team", "last", {"dataset": {"name": "d"}, "llm": {"endpoint": _ENDPOINT}})
    last["metadata"]["labels"] = {"star.recsys.dev/series": "weekly"}
    last["status"] = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    run = star("TeacherRun", "team", "last-teacher", last["spec"]) | {"status": last["status"]}
    run["metadata"]["labels"] = last["metadata"]["labels"]
    world = World({**SERVED, "baseModel": "Incumbent"}, serving, last, run)
    world.passes(1)
    assert world.status["incumbent"] == {"checkpoint": "", "uri": "s3://star/models/b", "digest": DIGEST}
    assert (world.status["previous"], world.status["previousTeacher"]) == ("last", "last-teacher")
    assert world.writes == []
    serving["status"]["servingDigest"] = ""
    world.passes()
    made = world.cluster.objects["SFTJob", "team", "weekly-sft"]["spec"]["model"]
    assert made == {"uri": "s3://star/models/b", "digest": DIGEST}


_ENDPOINT = {"url": "http://llm.example.com:8000/v1", "model": "m"}


def test_cancelling_ends_what_runs_and_is_final() -> None:
    world = World()
    world.passes()
    world.stage("dataset", "Succeeded", artifact=artifact())
    world.pipeline["spec"]["cancel"] = True
    world.passes(4)
    assert world.status["phase"] == "Failed"
    assert [write for write in world.cluster.writes if write.startswith("delete")] == [
        f"delete {kind}/weekly-{stage}" for stage, kind in KINDS.items() if stage != "dataset"
    ]
    assert ("RecDataset", "team", "weekly-dataset") in world.cluster.objects


def test_a_student_whose_record_tells_its_work_is_the_model_of_the_run_and_goes_with_a_retry() -> None:
    world = World()
    world.passes()
    world.all_done()
    made, name = artifact(name="sft"), "weekly-sft-sft-000000000000"
    job = world.cluster.objects["SFTJob", "team", "weekly-sft"]
    job["status"]["checkpoint"] = name
    world.stage("grpo", "Succeeded", artifact=artifact(name="grpo"), checkpoint="weekly-grpo-grpo-1")
    world.passes()
    assert world.status["checkpoint"]["checkpoint"] == "weekly-grpo-grpo-1"
    for record, uid in (("weekly-sft", "of-a-job-before"), (name, job["metadata"]["uid"])):
        spec = {"uri": made["uri"], "digest": made["digest"], "lineage": {"producerUid": uid}}
        world.cluster.add(star("Checkpoint", "team", record, spec))
    world.pipeline["metadata"]["annotations"] = {RETRY: "sft"}
    world.passes(5)
    assert {one["metadata"]["name"] for one in world.cluster.of("Checkpoint")} == {"weekly-sft"}
    assert "delete SFTJob/weekly-sft" in world.writes
