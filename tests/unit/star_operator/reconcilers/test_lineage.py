"""What a run was started on is what its record says, whatever becomes of the names in its spec meanwhile."""

import json
from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.api.meta import Phase
from star_operator.core.objects import KubeObject
from star_operator.policy.holdings import told
from star_operator.policy.sweeping import outputs
from star_operator.reconcilers import evaluation, grpojob, sftjob
from star_operator.reconcilers.run import RunKind
from tests.support.star import DATASET, checkpoint, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def done(kind: str, name: str, letter: str, spec: dict[str, Any]) -> KubeObject:
    """A resource that has ended well, with the artifact of that letter."""
    artifact = {"uri": f"s3://star/artifacts/{kind.lower()}/{letter}", "digest": digest(letter)}
    return {**star(kind, NAMESPACE, name, spec), "status": {"phase": "Succeeded", "artifact": artifact}}


TEACHER = {"dataset": {"name": "d"}, "llm": {"endpoint": {"url": "https://llm.example/v1", "model": "m"}}}
SFT = {
    "model": {"checkpoint": "base"},
    "trajectories": {"name": "t"},
    "hyperparameters": {"globalBatchSize": 2, "microBatchSize": 2, "sharding": "None"},
}
GRPO = {
    "model": {"checkpoint": "s"},
    "dataset": {"name": "d"},
    "hyperparameters": {"tensorParallelSize": 1, "trainBatchSize": 4, "miniBatchSize": 4},
}
ALL = (
    checkpoint(NAMESPACE, "base", digest("b")),
    done("RecDataset", "d", "d", DATASET),
    done("TeacherRun", "t", "a", TEACHER),
)


def made(letter: str) -> JobResult:
    uri = f"s3://star/artifacts/{NAMESPACE}/made/{letter}"
    return JobResult(artifact=ArtifactRef(uri=uri, digest=digest(letter)), bytes=1)


def sft_job(*others: KubeObject) -> World:
    return World(sftjob.KIND, star("SFTJob", NAMESPACE, "s", SFT), *(others or ALL))


def again(world: World, kind: RunKind[Any], resource: KubeObject) -> World:
    """The resource is deleted with all that it owns, and created anew."""
    place = (resource["kind"], NAMESPACE, resource["metadata"]["name"])
    uid = world.cluster.objects.pop(place)["metadata"]["uid"]
    for found, obj in list(world.cluster.objects.items()):
        if any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences", ())) or found[0] == "Pod":
            del world.cluster.objects[found]
    following = World(kind, resource)
    following.cluster.objects = world.cluster.objects
    world.cluster.add(resource)
    following.cluster._count = following.cluster._version = 1000
    return following


def records(world: World) -> dict[str, KubeObject]:
    return {one["metadata"]["name"]: one["spec"] for one in world.cluster.of("Checkpoint")}


def test_the_record_says_what_a_job_was_trained_on_though_its_teacher_was_run_anew_meanwhile() -> None:
    world = sft_job()
    world.passes(1)
    rows = {row["role"]: row for row in world.status["inputs"]}
    teacher = world.cluster.objects["TeacherRun", NAMESPACE, "t"]
    assert (rows["trajectories"]["digest"], rows["trajectories"]["uid"]) == (digest("a"), teacher["metadata"]["uid"])
    assert {role: row["digest"] for role, row in rows.items()} == {
        "dataset": digest("d"),
        "model": digest("b"),
        "trajectories": digest("a"),
    }
    del world.cluster.objects["TeacherRun", NAMESPACE, "t"]
    world.cluster.add(done("TeacherRun", "t", "e", TEACHER))
    del world.cluster.objects["RecDataset", NAMESPACE, "d"]
    del world.cluster.objects["Checkpoint", NAMESPACE, "base"]
    world.passes(2)
    world.ends(made("c"))
    world.passes(2)
    assert world.status["phase"] == Phase.SUCCEEDED
    assert records(world)["s"]["lineage"]["inputs"] == {
        "dataset": digest("d"),
        "model": digest("b"),
        "trajectories": digest("a"),
    }


def test_another_attempt_works_on_what_the_first_one_did() -> None:
    world = sft_job()
    world.passes(1)
    world.cluster.objects["TeacherRun", NAMESPACE, "t"]["status"]["artifact"]["digest"] = digest("e")
    world.ends(JobResult(error=JobError(error_class=ErrorClass.RETRYABLE, reason="Lost", message="lost")))
    world.passes(4)
    assert world.status["attempt"] == 2
    [orders] = [one for one in world.cluster.of("ConfigMap") if one["metadata"]["name"] == "s-sft-2-train"]
    assert digest("a") in orders["data"]["job.json"]
    assert digest("e") not in orders["data"]["job.json"]


def test_what_is_left_of_an_attempt_goes_once_another_one_is_told_the_same_and_its_outputs_stay_known() -> None:
    world = sft_job()
    world.passes(1)
    [first] = world.cluster.of("ConfigMap")
    written = json.loads(first["data"]["job.json"])["output"]
    world.ends(JobResult(error=JobError(error_class=ErrorClass.RETRYABLE, reason="Lost", message="lost")))
    world.passes(3)
    assert world.status["attempt"] == 2
    assert [one["metadata"]["name"] for one in world.cluster.of("ConfigMap")] == ["s-sft-1-train"], "until it is told"
    world.passes(1)
    [second] = world.cluster.of("ConfigMap")
    assert second["metadata"]["name"] == "s-sft-2-train"
    written_too = json.loads(second["data"]["job.json"])["output"]
    job = told(second).job
    assert job is not None
    assert outputs(job) == (written, written_too)


def test_a_config_map_of_the_name_that_is_somebody_elses_stays() -> None:
    world = sft_job()
    world.passes(1)
    world.ends(JobResult(error=JobError(error_class=ErrorClass.RETRYABLE, reason="Lost", message="lost")))
    world.passes(3)
    [first] = world.cluster.of("ConfigMap")
    first["metadata"]["ownerReferences"] = []
    world.passes(1)
    assert len(world.cluster.of("ConfigMap")) == 2


def test_inputs_are_pinned_when_a_job_is_made_and_not_while_it_is_suspended() -> None:
    world = sft_job()
    place = ("SFTJob", NAMESPACE, "s")
    world.cluster.objects[place]["spec"]["suspend"] = True
    world.passes(2)
    assert (world.status["phase"], world.status["inputs"]) == (Phase.SUSPENDED, [])
    world.cluster.objects["TeacherRun", NAMESPACE, "t"]["status"]["artifact"]["digest"] = digest("e")
    world.cluster.objects[place]["spec"]["suspend"] = False
    world.passes(1)
    assert {row["digest"] for row in world.status["inputs"]} == {digest("b"), digest("d"), digest("e")}


def test_an_operator_that_dies_between_pin_and_job_is_followed_by_one_that_uses_the_pin() -> None:
    world = sft_job()
    world.passes(1)
    for kind in ("Job", "ConfigMap"):
        for obj in world.cluster.of(kind):
            del world.cluster.objects[kind, NAMESPACE, obj["metadata"]["name"]]
    world.cluster.objects["TeacherRun", NAMESPACE, "t"]["status"]["artifact"]["digest"] = digest("e")
    world.passes(1)
    [orders] = world.cluster.of("ConfigMap")
    assert digest("a") in orders["data"]["job.json"]


def test_a_student_learns_with_the_dataset_that_its_trajectories_were_made_on() -> None:
    teacher = done("TeacherRun", "t", "a", TEACHER)
    teacher["status"]["inputs"] = [
        {
            "role": "dataset",
            "kind": "RecDataset",
            "name": "d",
            "uid": "old",
            "uri": "s3://star/d",
            "digest": digest("1"),
        }
    ]
    world = sft_job(ALL[0], ALL[1], teacher)
    world.passes(1)
    rows = {row["role"]: row for row in world.status["inputs"]}
    assert (rows["dataset"]["digest"], rows["dataset"]["uid"]) == (digest("1"), "old")


def test_a_job_that_an_operator_of_before_had_started_is_recorded_with_what_its_pods_were_told() -> None:
    world = sft_job()
    world.passes(1)
    del world.status["inputs"]
    world.cluster.objects["TeacherRun", NAMESPACE, "t"]["status"]["artifact"]["digest"] = digest("e")
    world.ends(made("c"))
    world.passes(2)
    assert records(world)["s"]["lineage"]["inputs"]["trajectories"] == digest("a")


def test_a_job_that_is_created_anew_with_the_same_manifest_gets_a_record_of_its_own() -> None:
    world = sft_job()
    world.passes(1)
    world.ends(made("c"))
    world.passes(2)
    world = again(world, sftjob.KIND, star("SFTJob", NAMESPACE, "s", SFT))
    world.passes(1)
    world.ends(made("f"))
    world.passes(2)
    assert (world.status["phase"], world.status["checkpoint"]) == (Phase.SUCCEEDED, f"s-sft-{'f' * 12}")
    assert f"it is Checkpoint s-sft-{'f' * 12}, as Checkpoint s records another model" in ready_message(world.status)
    assert {name: spec["digest"] for name, spec in records(world).items()} == {
        "base": digest("b"),
        "s": digest("c"),
        f"s-sft-{'f' * 12}": digest("f"),
    }


def test_training_jobs_of_two_kinds_and_one_name_are_both_recorded() -> None:
    world = sft_job()
    world.passes(1)
    world.ends(made("c"))
    world.passes(2)
    grpo = World(grpojob.KIND, star("GRPOJob", NAMESPACE, "s", GRPO))
    grpo.cluster.objects |= world.cluster.objects
    for place in [place for place in grpo.cluster.objects if place[0] in ("Job", "Pod")]:
        del grpo.cluster.objects[place]
    grpo.passes(1)
    grpo.ends(made("0"))
    grpo.passes(2)
    grpo.ends(made("f"))
    grpo.passes(2)
    assert (grpo.status["phase"], grpo.status["checkpoint"]) == (Phase.SUCCEEDED, f"s-grpo-{'f' * 12}")
    assert records(grpo)[f"s-grpo-{'f' * 12}"]["lineage"]["inputs"]["model"] == digest("c"), "of the SFTJob"


def test_a_run_that_names_a_model_waits_for_the_job_that_makes_it_anew() -> None:
    world = sft_job()
    world.passes(1)
    world.ends(made("c"))
    world.passes(2)
    world = again(world, sftjob.KIND, star("SFTJob", NAMESPACE, "s", SFT))
    world.passes(1)
    measure = {
        "dataset": {"name": "d"},
        "llm": {"server": {"model": {"checkpoint": "s"}}},
        "settings": {"tools": False},
    }
    other = World(evaluation.KIND, star("Evaluation", NAMESPACE, "e", measure))
    other.cluster.objects |= world.cluster.objects
    world.cluster.objects = other.cluster.objects
    other.passes(1)
    assert other.status["phase"] == Phase.WAITING
    assert "SFTJob s is Running" in ready_message(other.status)
    world.ends(made("f"))
    world.passes(2)
    other.passes(1)
    rows = {row["role"]: row for row in other.status["inputs"]}
    assert (rows["llm"]["name"], rows["llm"]["digest"]) == (f"s-sft-{'f' * 12}", digest("f"))


@pytest.mark.parametrize("pin", [{"digest": digest("c")}, {}])
def test_a_record_is_taken_at_its_word_where_its_digest_is_given_or_nobody_makes_it_anew(pin: dict[str, str]) -> None:
    world = sft_job()
    world.passes(1)
    world.ends(made("c"))
    world.passes(2)
    if pin:
        world = again(world, sftjob.KIND, star("SFTJob", NAMESPACE, "s", SFT))
        world.passes(1)
    else:
        del world.cluster.objects["SFTJob", NAMESPACE, "s"]
    measure = {"dataset": {"name": "d"}, "llm": {"server": {"model": {"checkpoint": "s", **pin}}}}
    other = World(evaluation.KIND, star("Evaluation", NAMESPACE, "e", {**measure, "settings": {"tools": False}}))
    other.cluster.objects |= world.cluster.objects
    other.passes(1)
    rows = {row["role"]: row for row in other.status["inputs"]}
    assert (rows["llm"]["name"], rows["llm"]["digest"]) == ("s", digest("c"))


def test_an_operator_that_dies_after_the_record_finds_it_and_makes_no_second() -> None:
    world = sft_job()
    world.passes(1)
    world.ends(made("c"))
    before = dict(world.status)
    world.passes(1)
    world.cluster.objects["SFTJob", NAMESPACE, "s"]["status"] = before
    world.passes(1)
    assert (world.status["phase"], world.status["checkpoint"]) == (Phase.SUCCEEDED, "s")
    assert set(records(world)) == {"base", "s"}
