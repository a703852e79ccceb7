"""A step's Job and what its pods are told."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from star_contracts.job import REVISIONS, CollectTrajectories, JobSpec, ModelSource, Stage, TrainSFT
from star_contracts.settings import SFTHyperparameters, TrajectoryFilter, Variant
from star_operator.api.common import Compute, LLMServer, ModelRef, RunSpec
from star_operator.builders import step as step_module
from star_operator.builders.job import job_spec, step_job
from star_operator.builders.step import Owner, ServerPlan, Step
from star_operator.core.errors import InvalidSpec
from star_operator.core.objects import KubeObject
from tests.support.goldens import ARTIFACTS, settings

OWNER = Owner("SFTJob", "default", "demo", "uid-1")
STAGE = TrainSFT(
    model=ModelSource(hub="a/b"),
    trajectories=ARTIFACTS["trajectories"],
    dataset=ARTIFACTS["dataset"],
    variant=Variant.FULL,
    hyperparameters=SFTHyperparameters(),
)
COLLECT = CollectTrajectories(dataset=ARTIFACTS["dataset"], passes=1, filter=TrajectoryFilter.HIT_AT_1)
STEP = Step("train", STAGE, "trainer", Compute(), inputs={"model": "a/b"})
GROUP = replace(STEP, compute=Compute(pool="h20", nodes=4, gpus_per_node=8))
SHARDS = Step("generate", COLLECT, "jobs", Compute(), inputs={"llm": "x"}, shards=8, has_artifact=False)


def made(step: Step = STEP, attempt: int = 1, **run: Any) -> dict[str, KubeObject]:
    return {obj["kind"]: obj for obj in step_job(OWNER, step, attempt, settings(), RunSpec(**run))}


def spec_of(step: Step = STEP, owner: Owner = OWNER, attempt: int = 1, **run: Any) -> JobSpec:
    return job_spec(owner, step, attempt, settings(), RunSpec(**run))


def test_the_mounted_file_is_the_job_spec() -> None:
    objects = made()
    found = JobSpec.model_validate_json(objects["ConfigMap"]["data"]["job.json"])
    assert found == spec_of()
    assert found.producer.image == "star/trainer:cpu-1"
    assert found.producer.work_hash == STEP.work_hash
    assert found.progress is not None
    assert (found.progress.uid, found.progress.attempt, found.progress.step) == ("uid-1", 1, "train")
    container = objects["Job"]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["star-job"]
    assert container["name"] == "main"
    assert {"name": "STAR_JOB_SPEC", "value": "/etc/star/job.json"} in container["env"]


def test_the_spec_names_what_the_work_is_made_from_by_digest() -> None:
    digest = ARTIFACTS["dataset"].digest
    step = replace(STEP, inputs={"dataset": digest, "model": "a/b"})
    assert spec_of(step).inputs == {"dataset": digest}, "a hub's model has no digest"


def test_a_stage_that_makes_something_else_than_it_did_is_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    before = STEP.work_hash
    monkeypatch.setattr(step_module, "REVISIONS", {STEP.stage.stage: 2})
    assert STEP.work_hash != before
    monkeypatch.setattr(step_module, "REVISIONS", {STEP.stage.stage: 1, "another": 2})
    assert STEP.work_hash == before


def test_revisions_are_of_stages_that_there_are() -> None:
    stages = get_args(get_args(Stage)[0])
    assert set(REVISIONS) <= {stage.model_fields["stage"].default for stage in stages}


def test_only_retryable_failures_are_tried_again_and_disruptions_are_free() -> None:
    rules = made()["Job"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "Ignore"]
    assert rules[0]["onExitCodes"] == {"containerName": "main", "operator": "In", "values": [65]}
    assert rules[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert made()["Job"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert made()["Job"]["spec"]["podReplacementPolicy"] == "Failed"


def test_shards_are_retried_each_by_itself() -> None:
    spec = made(SHARDS, retries=3)["Job"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (8, 8, "Indexed")
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (3, 0)
    assert "backoffLimit" not in spec
    assert "Service" not in made(SHARDS)
    assert spec_of(SHARDS).shard.count == 8


def test_a_group_meets_at_its_first_pod_and_fails_as_one() -> None:
    objects = made(GROUP)
    name, spec = objects["Job"]["metadata"]["name"], objects["Job"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (4, 4, 0)
    assert spec["template"]["spec"]["subdomain"] == objects["Service"]["metadata"]["name"] == name
    assert objects["Service"]["spec"]["clusterIP"] == "None"
    assert objects["Service"]["spec"]["publishNotReadyAddresses"] is True
    env = {item["name"]: item for item in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["MASTER_ADDR"]["value"] == f"{name}-0.{name}"
    assert (env["NNODES"]["value"], env["NPROC_PER_NODE"]["value"]) == ("4", "8")
    path = env["NODE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


@pytest.mark.parametrize("step", [replace(SHARDS, compute=Compute(nodes=2)), replace(GROUP, shards=2)])
@pytest.mark.bad_input
def test_pods_that_work_alone_are_no_group(step: Step) -> None:
    with pytest.raises(InvalidSpec, match=r"set spec\.compute\.nodes to 1") as caught:
        made(step)
    assert caught.value.reason == "NotAGroup"


def test_a_pod_with_a_server_to_wait_for_is_ready_when_it_listens_where_its_endpoint_says() -> None:
    plan = ServerPlan(LLMServer(model=ModelRef(uri="hf://a/b")), ModelSource(hub="a/b"))
    [asking] = made(replace(SHARDS, servers=(plan,)))["Job"]["spec"]["template"]["spec"]["containers"]
    assert asking["readinessProbe"]["tcpSocket"] == {"port": "asks"}
    port = plan.endpoint("default", "cluster.local", concurrency=1, timeout=1).ask_port
    assert asking["ports"] == [{"name": "asks", "containerPort": port}]
    [other] = made(SHARDS)["Job"]["spec"]["template"]["spec"]["containers"]
    assert {"ports", "readinessProbe"} & other.keys() == set()


def test_a_queue_gets_the_job_suspended() -> None:
    queued = made(replace(STEP, compute=Compute(queue_name="research")))["Job"]
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert made()["Job"]["spec"]["suspend"] is False
    assert made(suspend=True)["Job"]["spec"]["suspend"] is True


def test_a_deadline_is_the_jobs_and_the_time_to_live_is_not() -> None:
    spec = made(active_deadline_seconds=60, ttl_seconds_after_finished=0)["Job"]["spec"]
    assert spec["activeDeadlineSeconds"] == 60
    assert "ttlSecondsAfterFinished" not in spec


def test_a_retry_continues_the_work_in_another_output() -> None:
    first, second = spec_of(attempt=1), spec_of(attempt=2)
    assert first.work == second.work
    assert first.output != second.output


def test_a_recreated_resource_with_other_work_never_meets_the_old_output() -> None:
    other = replace(STEP, stage=STAGE.model_copy(update={"variant": Variant.PLANNER_ONLY}))
    assert spec_of().output != spec_of(other).output
    again = spec_of(owner=replace(OWNER, uid="uid-2"))
    assert spec_of().output != again.output, "what was let go of the first one may be on its way out"
    assert (spec_of().work, spec_of().memo) == (again.work, again.memo)


def test_cache_policy_never_meets_nothing_of_an_earlier_resource() -> None:
    old, new = (spec_of(owner=replace(OWNER, uid=uid), cache_policy="Never") for uid in ("uid-1", "uid-2"))
    assert old.memo is new.memo is None
    assert old.output != new.output
    assert old.work != new.work
    assert spec_of().memo is not None


def test_parts_are_collected_where_shards_left_them() -> None:
    collect = Step("collect", COLLECT, "jobs", Compute(), inputs={}, continues=SHARDS)
    for run in ({}, {"cache_policy": "Never"}):
        assert spec_of(SHARDS, **run).work == spec_of(collect, **run).work
        assert spec_of(SHARDS, **run).output != spec_of(collect, **run).output
    assert spec_of(SHARDS).memo is None, "parts are no artifact to remember"


def test_the_spec_holds_no_place_of_secrets_values() -> None:
    text = json.dumps(made()["ConfigMap"])
    assert "AWS" not in text
