"""A schedule's passes: who starts, who waits, what is told, and what is tidied up."""

import json
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import yaml

from star_contracts.artifact import Inventory
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.core.errors import InvalidSpec, Refused
from star_operator.core.reasons import ConditionReason
from tests.support.pipelines import SPEC
from tests.support.scheduleworld import MIDNIGHT, SMALL, World
from tests.support.star import DIGEST, star

RUN_NOW, BACKFILL = "star.recsys.dev/run-now", "star.recsys.dev/backfill"


def test_every_tenant_that_opted_in_gets_its_run_once() -> None:
    world = World()
    world.namespace("out", **{"star.recsys.dev/retrain": "false"})
    world.look()
    world.look(1)
    world.look(60)
    assert world.runs == [f"team-{n}/nightly-20260601-0000" for n in range(3)]
    made = world.cluster.objects["StarPipeline", "team-0", "nightly-20260601-0000"]
    assert made["spec"]["series"] == "nightly"
    assert made["metadata"]["labels"]["star.recsys.dev/schedule"] == "nightly"
    assert made["metadata"]["ownerReferences"][0]["name"] == "nightly"
    assert "controller" not in made["metadata"]["ownerReferences"][0]
    assert [write for write in world.cluster.writes if "StarPipeline" in write] == [
        "apply StarPipeline/nightly-20260601-0000"
    ] * 3
    assert (world.status["phase"], world.status["running"], world.status["gpusHeld"]) == ("Ready", 3, 6)
    assert world.message == "3 namespaces, 3 run, 0 wait; the next time is 2026-06-02T00:00:00Z"


def test_the_next_look_is_at_the_next_time() -> None:
    world = World()
    assert world.status["nextScheduleTime"] == "2026-06-01T00:00:00Z"
    world.context.time = MIDNIGHT - timedelta(minutes=30)
    world.look()
    assert world.context.queue.later == 1800.0  # type: ignore[attr-defined]


def test_tenants_see_in_their_own_namespace_what_became_of_it() -> None:
    world = World(gpuBudget=4)
    world.look()
    world.look(300)
    started = [n for n in range(3) if world.row(f"team-{n}")["phase"] == "Running"]
    [waiting] = {0, 1, 2} - set(started)
    row = world.row(f"team-{waiting}")
    assert row["reason"] == "GpuBudget"
    assert row["message"] == (
        "the run of 2026-06-01T00:00:00Z is the next one and needs 2 GPUs: 4 of 4 (spec.gpuBudget) are held"
    )
    assert row["waitingSince"] == "2026-06-01T00:00:00Z"
    [event] = world.events(f"team-{waiting}")
    assert event == f"GpuBudget: RetrainSchedule nightly: {row['message']}"
    [event] = world.events(f"team-{started[0]}")
    assert event.startswith("Started: RetrainSchedule nightly: StarPipeline nightly-20260601-0000")
    about = next(one for one in world.cluster.of("Event") if one["metadata"]["namespace"] == f"team-{waiting}")
    assert about["involvedObject"]["kind"] == "Namespace"
    assert about["involvedObject"]["namespace"] == f"team-{waiting}"
    assert "team-" not in event.removeprefix(f"team-{waiting}"), "nobody reads of other tenants"


def test_the_end_of_a_run_makes_room() -> None:
    world = World(maxConcurrentRuns=1)
    world.look()
    [first] = world.runs
    world.end(first)
    world.look(600)
    assert world.runs == [first], "it is written down first: a retry may have begun in between"
    assert world.context.queue.later == 1  # type: ignore[attr-defined]
    world.look(1)
    assert len(world.runs) == 2
    assert world.row(first.split("/")[0])["phase"] == "Succeeded"
    assert world.row(first.split("/")[0])["message"] == "StarPipeline nightly-20260601-0000: all stages are done"


@pytest.mark.parametrize("made", range(4))
def test_an_operator_that_dies_while_it_starts_runs_starts_none_twice(made: int) -> None:
    world = World()
    world.cluster.dies_after = made
    with pytest.raises(KeyboardInterrupt) if made < 3 else pytest.MonkeyPatch.context():
        world.look()
    assert len(world.runs) == made
    world.cluster.dies_after = None
    world.look(70)
    world.look(1)
    assert len(world.runs) == 3
    assert sum("apply StarPipeline" in write for write in world.cluster.writes) == 3


def test_after_downtime_the_newest_time_alone_counts() -> None:
    world = World()
    world.look(3 * 86400 + 7200)
    assert world.runs == [f"team-{n}/nightly-20260604-0000" for n in range(3)]
    assert world.status["awayFrom"] == "2026-06-01T00:00:00Z"


def test_a_tenant_that_opts_out_or_goes_is_left_alone() -> None:
    world = World()
    world.cluster.objects["Namespace", "", "team-0"]["metadata"]["labels"] = {}
    world.cluster.objects["Namespace", "", "team-1"]["metadata"]["deletionTimestamp"] = "2026-05-31T23:59:00Z"
    world.look()
    assert world.runs == ["team-2/nightly-20260601-0000"]
    assert [row["namespace"] for row in world.status["tenants"]] == ["team-2"]


def test_a_namespace_that_is_deleted_in_mid_run_gives_its_gpus_back() -> None:
    world = World(gpuBudget=2)
    world.look()
    [run] = world.runs
    namespace, name = run.split("/")
    del world.cluster.objects["Namespace", "", namespace]
    del world.cluster.objects["StarPipeline", namespace, name]
    world.look(60)
    assert len(world.runs) == 1
    assert namespace not in {row["namespace"] for row in world.status["tenants"]}


def overrides(namespace: str, text: Any, key: str = "pipeline.yaml") -> dict[str, Any]:
    data = {key: text if isinstance(text, str) else yaml.safe_dump(text)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ours", "namespace": namespace}, "data": data}


def test_a_tenants_overrides_make_its_run_and_count_in_the_budget() -> None:
    world = World(overrides={"name": "ours"}, gpuBudget=8)
    patch = {"sft": {"template": {"compute": {"gpusPerNode": 8}, "hyperparameters": {"globalBatchSize": 16}}}}
    world.cluster.add(overrides("team-1", patch))
    world.look()
    assert world.runs == ["team-1/nightly-20260601-0000"] or len(world.runs) == 2
    for run in list(world.runs):
        world.end(run)
    world.look(60)
    world.look(60)
    made = world.cluster.objects["StarPipeline", "team-1", "nightly-20260601-0000"]["spec"]
    assert made["sft"]["template"]["compute"]["gpusPerNode"] == 8
    assert made["sft"]["template"]["hyperparameters"]["microBatchSize"] == 2
    other = world.cluster.objects["StarPipeline", "team-0", "nightly-20260601-0000"]["spec"]
    assert other["sft"]["template"]["compute"]["gpusPerNode"] == 2


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sft: [", "ConfigMap ours, key pipeline.yaml is no YAML"),
        ("[" * 9_000, "has more than 32 levels"),
        ("- " * 8_000, "has more than 32 levels"),
        ("sft: 2026-13-45", "is no YAML that JSON can say: month must be in 1..12"),
        ("sft: 2026-11-11", "is no YAML that JSON can say"),
        ("sft: {template: {hyperparameters: {learningRate: .inf}}}", "is no YAML that JSON can say"),
        (f"sft: {'9' * 6000}", "is no YAML that JSON can say"),
        ("? [a, b]\n: 1", "is no YAML that JSON can say"),
        ("- sft", "must be a map of stages"),
        ("sft: {template: {rate: 1}}", "the overrides do not fit the pipeline: sft.template.rate"),
        ("training: {}", "training: Extra inputs are not permitted"),
        ("suspend: true", "suspend: Extra inputs are not permitted"),
        ("sft: {template: {trajectories: {name: t}}}", "sft.template.trajectories: Extra inputs"),
        ("a: &a [x]\nb: *a", "has an alias"),
        ("variants: {v: {sft: {rate: 1}}}", "spec.variants.v.sft does not fit"),
        ("dataset: null", "do not fit the pipeline: verbalization needs dataset: give it a template or use"),
        ("teacher: null", "do not fit the pipeline: sft needs teacher: give it a template or use"),
        ("sft: null", "do not fit the pipeline: grpo needs sft: give it a template or use"),
        ("{sft: null, grpo: null}", "do not fit the pipeline: evaluation needs sft or grpo: give it"),
        ("sft: {template: null}", "do not fit the pipeline: sft has neither template nor use"),
        ("sft: {use: {checkpoint: c}}", "do not fit the pipeline: sft has both template and use"),
        (
            "sft: {template: {compute: {gpusPerNode: 8, nodes: 4}}}",
            "a run needs 32 GPUs at once, and spec.gpuBudget is 16",
        ),
    ],
)
def test_overrides_that_do_not_fit_are_told_to_their_tenant_and_hold_nobody_up(text: str, says: str) -> None:
    world = World(overrides={"name": "ours"}, gpuBudget=16)
    world.cluster.add(overrides("team-1", text))
    world.look()
    assert world.runs == ["team-0/nightly-20260601-0000", "team-2/nightly-20260601-0000"]
    row = world.row("team-1")
    assert row["phase"] == "Waiting"
    assert says in row["message"]
    assert says in world.events("team-1")[0]
    world.cluster.objects["ConfigMap", "team-1", "ours"]["data"] = {"pipeline.yaml": ""}
    world.cluster.objects["ConfigMap", "team-1", "ours"]["metadata"]["resourceVersion"] = "2"
    world.look(60)
    assert "team-1/nightly-20260601-0000" in world.runs


@pytest.mark.bad_input
def test_a_budget_below_one_runs_need() -> None:
    world = World(gpuBudget=1)
    world.look()
    assert world.runs == []
    assert world.status["phase"] == "Waiting"
    assert world.message == (
        "a run of spec.pipeline needs 2 GPUs at once, and spec.gpuBudget is 1: raise it, or make the run smaller"
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"schedule": "0 0 31 4-4 *"}, "spec.schedule is '0 0 31 4-4 *', which cannot be followed"),
        ({"timeZone": "Europe/Atlantis"}, "spec.timeZone is 'Europe/Atlantis', which the IANA data base does not have"),
    ],
)
def test_a_schedule_that_cannot_be_followed(spec: dict[str, Any], says: str) -> None:
    world = World(**spec)
    assert says in world.message
    assert world.status["phase"] == "Waiting"


UNFOLLOWED = [{"schedule": "0 0 31 4-4 *"}, {"timeZone": "Europe/Atlantis"}, {"gpuBudget": 1}]


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", UNFOLLOWED)
def test_a_schedule_that_cannot_be_followed_is_not_looked_at_again_and_again(spec: dict[str, Any]) -> None:
    world = World(tenants=1)
    world.look()
    world.schedule["spec"] |= spec
    world.look(2 * 86400)
    queue = world.context.queue
    queue.later = None  # type: ignore[attr-defined]
    world.look(1)
    later = queue.later  # type: ignore[attr-defined]
    assert later is None or later > 1
    assert world.status["phase"] == "Waiting"


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", UNFOLLOWED)
def test_the_runs_of_a_schedule_that_cannot_be_followed_are_looked_after(spec: dict[str, Any]) -> None:
    """One is suspended and goes on, one has ended and goes, one has run for too long."""
    world = World(failedRunsHistoryLimit=0, activeDeadlineSeconds=3600)
    world.look()
    world.schedule["spec"] |= spec
    resting, failed, slow = world.runs
    world.pipeline(resting)["status"] = {"phase": "Suspended"}
    world.pipeline(resting)["spec"]["suspend"] = True
    world.end(failed, "Failed")
    world.look(60)
    assert world.runs == [resting, slow]
    assert world.status["runs"][0]["setAside"] is True
    world.pipeline(resting)["spec"]["suspend"] = False
    world.schedule["spec"] |= {key: 4 for key in spec if key == "gpuBudget"}  # who goes on needs room as well
    world.look(60)
    assert not world.status["runs"][0].get("setAside", False)
    assert world.status["gpusHeld"] == 4
    world.look(3600)
    assert world.pipeline(slow)["spec"]["cancel"] is True


@pytest.mark.bad_input
def test_a_schedule_that_is_corrected_makes_up_for_the_last_time() -> None:
    world = World(tenants=1)
    zone = world.schedule["spec"].pop("timeZone", "Etc/UTC")
    world.schedule["spec"]["timeZone"] = "Europe/Atlantis"
    world.look()
    assert world.runs == []
    world.schedule["spec"]["timeZone"] = zone
    world.look(7200)
    assert world.runs == ["team-0/nightly-20260601-0000"]


@pytest.mark.parametrize(
    "error",
    [
        Refused(ConditionReason.REFUSED, "exceeded quota: pipelines"),
        InvalidSpec(ConditionReason.INVALID_OBJECT, "spec.sft: no"),
    ],
)
def test_whom_the_api_server_refuses_a_run_takes_nobodys_place(error: Exception) -> None:
    world = World(maxConcurrentRuns=1)
    for n in (0, 1):
        world.cluster.refuses[f"team-{n}"] = error
    world.look()
    assert world.runs == ["team-2/nightly-20260601-0000"]
    world.end(world.runs[0])
    del world.cluster.refuses["team-0"]
    world.look(60)
    world.look(1)
    assert "team-0/nightly-20260601-0000" in world.runs


@pytest.mark.bad_input
def test_a_rule_of_the_kind_that_overrides_break_is_told_in_its_own_words() -> None:
    world = World(overrides={"name": "ours"})
    world.cluster.refuses["team-0"] = InvalidSpec(
        ConditionReason.INVALID_OBJECT,
        'POST /apis/star.recsys.dev/v1alpha1/namespaces/team-0/starpipelines: StarPipeline.star.recsys.dev "x" is '
        'invalid: spec.sft.template: Invalid value: "object": microBatchSize must divide globalBatchSize',
    )
    world.look()
    row = world.row("team-0")
    assert row["reason"] == "OverridesInvalid"
    assert row["message"] == (
        "the pipeline, with ConfigMap ours, where there is one, over it, is refused: spec.sft.template: "
        "microBatchSize must divide globalBatchSize"
    )
    assert len(world.runs) == 2
    assert [record["namespace"] for record in world.status["runs"]] == ["team-1", "team-2"]


def test_a_budget_counts_gates_and_what_is_to_serve() -> None:
    compute = {"pool": "h20", "gpusPerNode": 4}
    server = {"replicas": 2, "tensorParallelSize": 4, "compute": compute}
    rules = [{"metric": "hrAvg", "value": 0.3}]
    gates = {"rules": rules, "settings": {"tools": False}, "compute": {"pool": "h20", "gpusPerNode": 1}}
    gated = {"server": {**server, "replicas": 0}, "gates": gates}
    for template, gpus in (({"server": server}, 8), (gated, 5), ({}, 2)):
        world = World(tenants=1, pipeline={**SMALL, "deployment": {"name": "live", "template": template}})
        world.look()
        assert world.status["gpusHeld"] == gpus


def test_a_replaced_run_is_cancelled() -> None:
    world = World(tenants=1, concurrencyPolicy="Replace")
    world.look()
    world.look(86400)
    old = world.cluster.objects["StarPipeline", "team-0", "nightly-20260601-0000"]
    assert old["spec"]["cancel"] is True
    assert world.row("team-0")["reason"] == "Replacing"
    world.end("team-0/nightly-20260601-0000", "Failed")
    world.look(60)
    assert "team-0/nightly-20260602-0000" in world.runs


def test_a_run_now_is_taken_down_once() -> None:
    world = World()
    world.look()
    for run in list(world.runs):
        world.end(run)
    world.annotate(RUN_NOW, "team-1")
    world.look(3600)
    assert RUN_NOW not in world.schedule["metadata"].get("annotations", {})
    world.look(60)
    world.look(60)
    assert [run for run in world.runs if "0100" in run] == ["team-1/nightly-20260601-0100"]
    assert world.status.get("request", "") == ""


@pytest.mark.parametrize("policy", ["Forbid", "Allow"])
@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_run_now_is_taken_down_before_anything_is_made(policy: str, made: int) -> None:
    """However often a pass breaks off: every run that is asked for begins once."""
    world = World(concurrencyPolicy=policy)
    world.annotate(RUN_NOW, "team-0,team-1")
    world.cluster.dies_after = made
    with pytest.raises(KeyboardInterrupt) if made < 2 else nullcontext():
        world.look(-1800)
    assert world.row("team-0")["asked" if made < 2 else "run"] in ("2026-05-31T23:30:00Z", "nightly-20260531-2330")
    world.cluster.dies_after = None
    for _ in range(3):
        world.look(30)
    for run in list(world.runs):
        world.end(run)
    for _ in range(3):
        world.look(30)
    assert world.runs == ["team-0/nightly-20260531-2330", "team-1/nightly-20260531-2330"]
    assert RUN_NOW not in world.schedule["metadata"].get("annotations", {})
    assert world.status["request"] == ""
    assert "asked" not in world.row("team-0")


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", UNFOLLOWED)
def test_a_run_now_of_a_schedule_that_cannot_be_followed_begins_later(spec: dict[str, Any]) -> None:
    world = World(tenants=2, **spec)
    world.annotate(RUN_NOW, "team-0")
    world.look(-1800)
    world.look(1)
    assert (world.runs, world.status["request"]) == ([], "")
    world.annotate(RUN_NOW, "team-1")
    world.look(9)
    world.schedule["spec"] |= {"schedule": "0 0 * * *", "timeZone": "Etc/UTC", "gpuBudget": 4}
    world.look(60)
    assert world.runs == ["team-0/nightly-20260531-2330", "team-1/nightly-20260531-233010"]


def test_a_back_fill_runs_one_time_after_the_other() -> None:
    world = World(tenants=1)
    world.look()
    world.annotate(BACKFILL, "2026-05-29T00:00:00Z/2026-05-31T00:00:00Z")
    for _ in range(6):
        for run in world.runs:
            world.end(run)
        world.look(60)
    assert world.runs == [f"team-0/nightly-2026{day}-0000" for day in ("0529", "0530", "0601")]


@pytest.mark.bad_input
def test_a_request_that_cannot_be_is_told_and_taken_off() -> None:
    world = World()
    world.annotate(RUN_NOW, "elsewhere")
    world.look()
    assert any("names elsewhere: name namespaces that take part" in event for event in world.events("default"))
    assert RUN_NOW not in world.schedule["metadata"].get("annotations", {})
    assert len(world.runs) == 3


def test_old_runs_go_and_what_is_served_stays() -> None:
    world = World(tenants=1, successfulRunsHistoryLimit=2, failedRunsHistoryLimit=0)
    serving = star(
        "StarDeployment", "team-0", "live", {"checkpoint": {"digest": DIGEST}, "dataset": {"name": "served"}}
    )
    world.cluster.add(serving)
    for day in range(6):
        world.look(86400 if day else 0)
        name = world.runs[-1]
        stages = [{"name": "dataset", "stage": "dataset", "resource": "served" if day == 1 else f"d{day}"}]
        world.end(name, "Failed" if day == 3 else "Succeeded", stages=stages)
    world.look(60)
    assert world.runs == [f"team-0/nightly-2026060{day}-0000" for day in (2, 5, 6)]


def test_the_deletion_policy_reaches_runs_that_are_there() -> None:
    world = World(tenants=1, deletionPolicy="Orphan")
    world.look()
    made = world.cluster.objects["StarPipeline", "team-0", "nightly-20260601-0000"]
    assert not made["metadata"].get("ownerReferences")
    world.schedule["spec"]["deletionPolicy"] = "Delete"
    world.look(60)
    made = world.cluster.objects["StarPipeline", "team-0", "nightly-20260601-0000"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == world.schedule["metadata"]["uid"]


def test_a_schedule_that_is_being_deleted_starts_nothing() -> None:
    world = World()
    world.schedule["metadata"]["deletionTimestamp"] = "2026-06-01T00:00:00Z"
    world.look()
    assert world.runs == []


def test_what_only_bears_the_label_is_no_run() -> None:
    world = World(tenants=1, maxConcurrentRuns=1)
    fake = star("StarPipeline", "team-9", "forged", SPEC)
    fake["metadata"]["labels"] = {"star.recsys.dev/schedule": "nightly"}
    fake["metadata"]["annotations"] = {"star.recsys.dev/tick": "2026-06-01T00:00:00Z"}
    world.cluster.add(fake)
    world.look()
    assert "team-0/nightly-20260601-0000" in world.runs


def test_suspend_starts_nothing() -> None:
    world = World(suspend=True)
    world.look()
    assert world.runs == []
    assert world.status["phase"] == "Suspended"


PROBE = "nightly-20260601-0000-probe"


def with_credentials(world: World) -> World:
    name = world.context.settings.store.secret_name
    for namespace in ("team-0", "team-1"):
        data = {"AWS_ACCESS_KEY_ID": "eA==", "AWS_SECRET_ACCESS_KEY": "eA=="}
        meta = {"name": name, "namespace": namespace}
        world.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    return world


def probe_ends(
    world: World, name: str, digit: str = "1", namespace: str = "team-0", error: str = "", *, side_car: bool = False
) -> None:
    """The pod of a probe ends, with an inventory or an error; or but its `main` does."""
    job = world.cluster.objects["Job", namespace, name]
    result = JobResult(source=Inventory(digest=DIGEST[:-1] + digit, objects=3, bytes=9))
    if error:
        result = JobResult(error=JobError(error_class=ErrorClass.TERMINAL, reason="StoreRefused", message=error))
    if not side_car:
        job["status"] = {"conditions": [{"type": "Failed" if error else "Complete", "status": "True"}]}
    ended = {"exitCode": 65 if error else 0, "message": result.termination_message()}
    beside = [{"name": "mesh", "state": {"running": {}}}] if side_car else []
    containers = [{"name": "main", "state": {"terminated": ended}}, *beside]
    world.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-x", "namespace": namespace, "labels": dict(job["metadata"]["labels"])},
            "status": {"phase": "Running" if side_car else "Succeeded", "containerStatuses": containers},
        }
    )


def ends_on(world: World, run: str, digit: str) -> None:
    """A run ends that was made from this version of the source."""
    namespace, name = run.split("/")
    dataset = star("RecDataset", namespace, f"{name}-dataset", {})
    world.cluster.add({**dataset, "status": {"source": {"digest": DIGEST[:-1] + digit, "objects": 3, "bytes": 9}}})
    world.end(run, stages=[{"name": "dataset", "stage": "dataset", "resource": f"{name}-dataset"}])


def test_new_data_makes_a_run_and_the_same_data_makes_none() -> None:
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}))
    world.look()
    assert world.runs == []
    assert world.row("team-0")["reason"] == "Probing"
    assert world.cluster.of("RecDataset") == [], "nothing is prepared"
    told = json.loads(world.cluster.objects["ConfigMap", "team-0", PROBE]["data"]["probe.json"])
    assert told["source"] == "s3://star/raw/ml-100k"
    world.look(5)
    probe_ends(world, PROBE)
    world.look(5)
    assert world.runs == ["team-0/nightly-20260601-0000"]
    assert world.cluster.of("Job") == []
    ends_on(world, world.runs[0], "1")
    world.look(86400)
    probe_ends(world, "nightly-20260602-0000-probe")
    world.look(5)
    assert world.runs == ["team-0/nightly-20260601-0000"]
    assert world.row("team-0")["message"] == "at 2026-06-02T00:00:00Z the source had no new data: no run"
    assert any("NothingNew" in one for one in world.events("team-0"))
    world.look(60)
    assert world.row("team-0")["reason"] == "NothingNew", "it stays until there is something else to say"
    world.look(86400)
    probe_ends(world, "nightly-20260603-0000-probe", "2")
    world.look(5)
    assert len(world.runs) == 2


@pytest.mark.case("side-car")
def test_a_probe_answers_beside_a_side_car_that_does_not_end() -> None:
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}))
    world.look()
    probe_ends(world, PROBE, side_car=True)
    world.look(5)
    assert world.runs == ["team-0/nightly-20260601-0000"]
    assert world.cluster.of("Job") == []


@pytest.mark.bad_input
@pytest.mark.case("side-car")
def test_a_probe_that_failed_beside_a_side_car_is_told() -> None:
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}))
    world.look()
    probe_ends(world, PROBE, error="no such bucket", side_car=True)
    world.look(5)
    assert f"Job {PROBE}, which looks at the source, failed: no such bucket" in world.row("team-0")["message"]
    assert world.cluster.objects["Job", "team-0", PROBE]["spec"]["parallelism"] == 0


def test_a_probe_takes_neither_the_preparations_size_nor_its_queue() -> None:
    dataset = {
        "template": {**SMALL["dataset"]["template"], "compute": {"resources": {"memory": "512Gi"}, "queueName": "q"}}
    }
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}, pipeline={**SMALL, "dataset": dataset}))
    world.look()
    job = world.cluster.objects["Job", "team-0", PROBE]
    assert "512Gi" not in json.dumps(job)
    assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]
    assert not job["spec"].get("suspend")
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert job["metadata"]["ownerReferences"][0]["kind"] == "RetrainSchedule"


@pytest.mark.bad_input
def test_a_source_that_cannot_be_looked_at_is_told() -> None:
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}))
    world.look()
    probe_ends(world, PROBE, error="no such bucket")
    world.look(5)
    assert f"Job {PROBE}, which looks at the source, failed: no such bucket" in world.row("team-0")["message"]
    assert world.runs == []


@pytest.mark.bad_input
def test_a_tenant_without_credentials_is_told_and_makes_no_job() -> None:
    world = World(tenants=1, trigger={"type": "NewData"})
    world.look()
    assert "namespace team-0 has no Secret" in world.row("team-0")["message"]
    assert world.cluster.of("Job") == []


def test_an_operator_that_dies_between_a_probes_job_and_its_configuration_makes_the_rest() -> None:
    world = with_credentials(World(tenants=1, trigger={"type": "NewData"}))
    world.look()
    del world.cluster.objects["ConfigMap", "team-0", PROBE]
    world.look(5)
    owner = world.cluster.objects["ConfigMap", "team-0", PROBE]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == world.cluster.objects["Job", "team-0", PROBE]["metadata"]["uid"]


def test_drift_makes_a_run_once_the_metric_was_under_for_long_enough() -> None:
    drift = {"type": "Drift", "drift": {"metric": "hrAvg", "below": 0.3, "forSeconds": 1800}}
    pipeline = {**SMALL, "deployment": {"name": "live", "template": {}}}
    world = World(tenants=1, trigger=drift, schedule="*/20 * * * *", pipeline=pipeline)
    world.look()
    assert "StarDeployment live does not exist yet" in world.row("team-0")["message"]
    live = star("StarDeployment", "team-0", "live", {"checkpoint": {"digest": DIGEST}})
    live["metadata"]["labels"] = {}
    world.cluster.add({**live, "status": {"metrics": {"hrAvg": 0.5}}})
    world.look(5)
    assert world.row("team-0")["reason"] == "NotDrifted"
    world.cluster.objects["StarDeployment", "team-0", "live"]["status"]["metrics"]["hrAvg"] = 0.2
    world.look(5)
    assert world.row("team-0")["underSince"] == "2026-06-01T00:00:10Z"
    for _ in range(4):
        world.look(600)
    assert world.runs == ["team-0/nightly-20260601-0040"]


@pytest.mark.bad_input
@pytest.mark.parametrize("tick", ["soon", "2026-05-01T00:00:00Z"])
def test_a_tenant_that_uses_a_schedules_label_spoils_nothing(tick: str) -> None:
    """Neither are its datasets deleted nor the others' runs kept from starting."""
    world = with_credentials(World(tenants=2, trigger={"type": "NewData"}))
    marked = {"labels": {"star.recsys.dev/schedule": "nightly"}, "annotations": {"star.recsys.dev/tick": tick}}
    for kind in ("RecDataset", "StarPipeline"):
        mine = star(kind, "team-0", "mine", {})
        mine["metadata"] |= marked
        world.cluster.add({**mine, "status": {"phase": "Succeeded"}})
    world.look()
    probe_ends(world, PROBE)
    probe_ends(world, PROBE, namespace="team-1")
    world.look(5)
    world.look(5)
    assert "team-1/nightly-20260601-0000" in world.runs
    assert ("RecDataset", "team-0", "mine") in world.cluster.objects
