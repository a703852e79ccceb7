"""Before GPUs are held for a step, a small pod looks whether its work is done; and what a training job records."""

from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.job import JobSpec, LookUp, TrainSFT
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.api.meta import Phase
from star_operator.core.objects import KubeObject
from star_operator.reconcilers import sftjob
from tests.support.star import BASE_LLM, DATASET, DIGEST, checkpoint, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World

MADE = ArtifactRef(uri="s3://star/team/sftjob/s/1/train-x", digest="sha256:" + "c" * 64)
FOUND = JobResult(artifact=MADE, bytes=1, metrics={"loss": 1.0}, reused=True)
TRAINED = FOUND.model_copy(update={"reused": False})
NOTHING = JobResult()
LOST = JobResult(error=JobError(error_class=ErrorClass.RETRYABLE, reason="StoreUnreachable", message="no answer"))
GPUS = {"pool": "h20", "nodes": 2, "gpusPerNode": 8, "queueName": "research", "resources": {"memory": "1Ti"}}


def done(kind: str, name: str, spec: dict[str, Any]) -> KubeObject:
    artifact = {"uri": f"s3://star/{name}", "digest": DIGEST}
    return star(kind, NAMESPACE, name, spec) | {"status": {"phase": "Succeeded", "artifact": artifact}}


def world(compute: dict[str, Any] | None = None, **more: Any) -> World:
    """An SFTJob whose inputs are there."""
    spec = {"model": {"checkpoint": "base"}, "trajectories": {"name": "t"}, "compute": compute or GPUS, **more}
    teacher = {"dataset": {"name": "d"}, "llm": BASE_LLM, "agents": {"tools": False}}
    others = (done("RecDataset", "d", DATASET), done("TeacherRun", "t", teacher), checkpoint(NAMESPACE))
    return World(sftjob.KIND, star("SFTJob", NAMESPACE, "s", spec), *others)


def jobs(run: World) -> list[str]:
    return [job["metadata"]["name"] for job in run.cluster.of("Job")]


def specs(run: World) -> dict[str, JobSpec]:
    maps = run.cluster.of("ConfigMap")
    return {found["metadata"]["name"]: JobSpec.model_validate_json(found["data"]["job.json"]) for found in maps}


def test_the_look_up_is_a_small_pod_without_gpus_and_queue_that_is_told_of_the_same_work() -> None:
    run = world()
    run.passes(2)
    [job] = run.cluster.of("Job")
    assert job["metadata"]["name"] == "s-sft-1-train-look-up"
    assert (job["spec"]["completions"], job["spec"]["suspend"]) == (1, False)
    [main] = job["spec"]["template"]["spec"]["containers"]
    assert main["image"] == "star/jobs:cpu-1"
    assert "nvidia.com/gpu" not in str(job)
    assert "nodeSelector" not in job["spec"]["template"]["spec"], "the pool without GPUs"
    run.ends(NOTHING)
    run.passes(2)
    looked, trains = specs(run)["s-sft-1-train-look-up"], specs(run)["s-sft-1-train"]
    assert (type(looked.stage), type(trains.stage)) == (LookUp, TrainSFT)
    assert (looked.output, looked.memo, looked.work) == (trains.output, trains.memo, trains.work)
    assert looked.producer.work_hash == trains.producer.work_hash


def test_an_artifact_that_is_found_ends_the_run_before_a_gpu_is_asked_for() -> None:
    run = world()
    run.passes(2)
    run.ends(FOUND)
    run.passes(3)
    assert (run.status["phase"], ready_message(run.status)) == (Phase.SUCCEEDED, "artifact of equal work reused")
    assert [(step["name"], step["reused"]) for step in run.status["steps"]] == [("train", True)]
    assert (run.status["artifact"]["digest"], run.status["metrics"]) == (MADE.digest, {"loss": 1.0})
    assert jobs(run) == ["s-sft-1-train-look-up"]
    assert run.cluster.objects["Checkpoint", NAMESPACE, "s"]["spec"]["digest"] == MADE.digest


def test_where_none_is_found_the_step_follows_once_and_no_restart_looks_again() -> None:
    run = world()
    run.passes(2)
    run.ends(NOTHING)
    run.passes(5)
    assert run.cluster.writes.count("apply Job/s-sft-1-train-look-up") == 1
    assert jobs(run) == ["s-sft-1-train", "s-sft-1-train-look-up"]
    for kind, name in (("Job", "s-sft-1-train-look-up"), ("Pod", "s-sft-1-train-look-up-0")):
        del run.cluster.objects[kind, NAMESPACE, name]
    run.passes(2)
    run.ends(LOST, exitCode=75)
    run.passes(6)
    assert jobs(run) == ["s-sft-2-train"], "another attempt has nothing to look for"
    run.ends(TRAINED)
    run.passes(3)
    assert (run.status["phase"], ready_message(run.status)) == (Phase.SUCCEEDED, "artifact stored")


def test_a_look_up_that_fails_is_tried_again() -> None:
    run = world()
    run.passes(2)
    run.ends(LOST, exitCode=75)
    run.passes(6)
    assert jobs(run) == ["s-sft-2-train-look-up"]
    run.ends(FOUND)
    run.passes(3)
    assert (run.status["phase"], run.status["attempt"]) == (Phase.SUCCEEDED, 2)


def test_what_follows_a_look_up_works_on_what_was_looked_for() -> None:
    run = world()
    run.passes(2)
    del run.cluster.objects["TeacherRun", NAMESPACE, "t"]
    run.ends(NOTHING)
    run.passes(3)
    assert (run.status["phase"], jobs(run)) == (Phase.QUEUED, ["s-sft-1-train", "s-sft-1-train-look-up"])


def test_a_look_up_of_an_older_operator_whose_inputs_go_meanwhile_is_still_heard() -> None:
    run = world()
    run.passes(2)
    del run.status["inputs"]
    del run.cluster.objects["TeacherRun", NAMESPACE, "t"]
    run.ends(NOTHING)
    run.passes(3)
    assert (run.status["phase"], jobs(run)) == (Phase.WAITING, ["s-sft-1-train-look-up"])
    assert "names TeacherRun t, which does not exist" in ready_message(run.status)


def test_a_suspended_run_does_not_look() -> None:
    run = world(suspend=True)
    run.passes(3)
    assert (run.status["phase"], jobs(run)) == (Phase.SUSPENDED, [])


@pytest.mark.parametrize("run", [world({"pool": "cpu"}), world(cachePolicy="Never")])
def test_training_on_cpus_or_always_pays_for_no_look_up(run: World) -> None:
    run.passes(2)
    assert jobs(run) == ["s-sft-1-train"]


def test_a_run_of_an_older_operator_goes_on_without_one() -> None:
    run = world()
    run.passes(2)
    run.ends(NOTHING)
    run.passes(2)
    run.cluster.objects["SFTJob", NAMESPACE, "s"]["status"]["steps"] = []
    run.passes(3)
    assert jobs(run).count("s-sft-1-train") == 1


@pytest.mark.bad_input
def test_a_step_that_cannot_be_built_is_refused_before_anybody_looks() -> None:
    run = world({"pool": "h200", "gpusPerNode": 8})
    run.passes(2)
    assert (run.status["phase"], jobs(run)) == (Phase.FAILED, [])
    assert "spec.compute.pool is 'h200'" in ready_message(run.status)


def predecessor(run: World, digest: str) -> KubeObject:
    """The Checkpoint that a job of the same name left, which was deleted since."""
    lineage = {"producerKind": "SFTJob", "producerName": "s", "producerUid": "an-older-one"}
    spec = {"uri": MADE.uri, "digest": digest, "lineage": lineage}
    return run.cluster.add(star("Checkpoint", NAMESPACE, "s", spec))


@pytest.mark.parametrize("result", [FOUND, TRAINED])
def test_a_job_that_is_created_anew_keeps_the_record_of_the_same_artifact_as_it_is(result: JobResult) -> None:
    run = world({"pool": "cpu"})
    before = predecessor(run, MADE.digest)
    run.passes(2)
    run.ends(result)
    run.passes(3)
    assert run.status["phase"] == Phase.SUCCEEDED
    assert run.cluster.objects["Checkpoint", NAMESPACE, "s"]["spec"] == before["spec"]
    assert "apply Checkpoint/s" not in run.cluster.writes


def test_another_artifact_than_the_one_recorded_under_its_name_has_a_record_that_names_its_work() -> None:
    run = world({"pool": "cpu"})
    predecessor(run, DIGEST)
    run.passes(2)
    run.ends(TRAINED)
    run.passes(3)
    name = f"s-sft-{MADE.digest.removeprefix('sha256:')[:12]}"
    assert (run.status["phase"], run.status["checkpoint"]) == (Phase.SUCCEEDED, name)
    assert ready_message(run.status).endswith(f"it is Checkpoint {name}, as Checkpoint s records another model")
    assert run.cluster.objects["Checkpoint", NAMESPACE, "s"]["spec"]["digest"] == DIGEST
    assert run.cluster.objects["Checkpoint", NAMESPACE, name]["spec"]["digest"] == MADE.digest


@pytest.mark.bad_input
def test_a_record_that_somebody_else_has_put_in_the_place_of_both_names_is_told_with_both() -> None:
    run = world({"pool": "cpu"})
    predecessor(run, DIGEST)
    name = f"s-sft-{MADE.digest.removeprefix('sha256:')[:12]}"
    run.cluster.add(checkpoint(NAMESPACE, name, DIGEST))
    run.passes(2)
    run.ends(TRAINED)
    run.passes(3)
    assert run.status["phase"] == Phase.FAILED
    message = ready_message(run.status)
    assert message.startswith(f"Checkpoint s and {name} are there and record other models than {MADE.digest}")
    assert "delete one of them and create the SFTJob again" in message
    assert [one["reason"] for one in run.status["conditions"] if one["type"] == "Ready"] == ["NameTaken"]
