"""What is kept of a namespace, and why: each case is its resources, and what goes."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.base import value_hash
from star_operator.core.settings import RetentionSettings
from star_operator.policy.holdings import Thing, thing
from star_operator.policy.retention import Decision, decide, finished_jobs
from tests.support.pipelines import KINDS
from tests.support.runs import Body, identified, made, owned, run, serving
from tests.support.star import DATASET, star

LAST = RetentionSettings(keep_runs=1, keep_failed_runs=0, keep_gate_evaluations=1)


def decided(*bodies: list[Body] | Body, settings: RetentionSettings = LAST, in_use: str = "") -> Decision:
    reads = {value_hash(in_use): "a pod reads it"} if in_use else {}
    return decide([thing(body) for body in flat(*bodies)], reads, settings)


def flat(*bodies: list[Body] | Body) -> list[Body]:
    return list(itertools.chain.from_iterable(one if isinstance(one, list) else [one] for one in bodies))


def gone(decision: Decision) -> set[str]:
    return {one.thing.name if one.thing.kind != "Checkpoint" else f"record {one.thing.name}" for one in decision.let_go}


def all_of(name: str, *but: str) -> set[str]:
    stages = {f"{name}-{stage}" for stage in KINDS}
    return ({name, f"record {name}-sft", f"record {name}-grpo"} | stages) - set(but)


def named(bodies: list[Body], name: str, kind: str = "") -> Body:
    return next(body for body in bodies if body["metadata"]["name"] == name and kind in ("", body["kind"]))


def test_the_last_runs_of_a_series_are_kept_and_the_others_go_with_all_they_made() -> None:
    decision = decided(run(1), run(2), run(3))
    assert gone(decision) == all_of("r1") | all_of("r2")
    order = [one.thing.kind for one in decision.let_go]
    assert order[-2:] == ["StarPipeline", "StarPipeline"], "their children would go with them"
    assert decision.let_go[-1].why == "1 later runs of series weekly succeeded"
    assert decision.let_go[0].why == "the run r1 is let go, and nothing that is kept refers to it"
    assert decision.let_go[0].grace_seconds == LAST.grace_period_seconds


def test_the_newest_run_speaks_for_its_series() -> None:
    own = {"retention": {"keepRuns": 2, "gracePeriodSeconds": 5}}
    decision = decided(run(1, spec={"retention": {"keepRuns": 1}}), run(2), run(3, spec=own))
    assert gone(decision) == all_of("r1")
    assert {one.grace_seconds for one in decision.let_go} == {5}


def test_each_series_has_runs_of_its_own() -> None:
    assert not gone(decided(run(1), run(2, spec={"series": "other"})))


def test_nothing_that_no_pipeline_made_is_ever_let_go() -> None:
    alone = [body for body in run(1)[1:] if body["kind"] != "StarPipeline"]
    for body in alone:
        body["metadata"].pop("ownerReferences", None)
    assert not gone(decided(alone, run(2), run(3, spec={"series": "other"})))


def test_a_checkpoint_under_another_name_or_of_another_digest_is_somebody_elses() -> None:
    bodies = run(1)
    own = identified(
        star("Checkpoint", "team", "mine", dict(named(bodies, "r1-grpo", "Checkpoint")["spec"])), phase="Ready"
    )
    other = named(bodies, "r1-sft", "Checkpoint")
    other["spec"] = {**other["spec"], "digest": value_hash("another")}
    decision = decided(bodies, own, run(2))
    assert "record mine" not in gone(decision)
    assert "record r1-sft" not in gone(decision)


def test_a_record_whose_name_tells_its_work_goes_with_the_job_that_says_so() -> None:
    bodies = run(1)
    job, record = named(bodies, "r1-sft", "SFTJob"), named(bodies, "r1-sft", "Checkpoint")
    record["metadata"] |= {"name": "r1-sft-sft-1", "uid": "uid-1"}
    assert "record r1-sft-sft-1" not in gone(decided(bodies, run(2))), "nobody says that it is the run's"
    job["status"]["checkpoint"] = "r1-sft-sft-1"
    assert "record r1-sft-sft-1" in gone(decided(bodies, run(2)))


def test_what_has_not_ended_keeps_the_artifacts_that_it_was_started_on_and_what_has_ended_does_not() -> None:
    earlier, later = run(1), run(3, phase="Running")
    artifact = made("r1", "teacher")
    inputs = [{"role": "trajectories", "uri": artifact["uri"], "digest": artifact["digest"]}]
    named(later, "r3-sft", "SFTJob")["status"]["inputs"] = inputs
    assert "r1-teacher" not in gone(decided(earlier, run(2), later))
    ended = run(3)
    previous = [{"role": "previous", "uri": artifact["uri"], "digest": artifact["digest"]}]
    named(ended, "r3-teacher")["status"]["inputs"] = previous
    assert "r1-teacher" in gone(decided(earlier, run(2), ended))


def test_a_pin_keeps_a_thing_and_what_it_refers_to() -> None:
    bodies = run(1)
    pinned = named(bodies, "r1-teacher")
    pinned["metadata"]["annotations"] = {"star.recsys.dev/pin": "the paper's figures"}
    decision = decided(bodies, run(2))
    assert gone(decision) == all_of("r1", "r1", "r1-teacher", "r1-verbalization", "r1-dataset")
    assert decision.kept[pinned["metadata"]["uid"]] == ("it is pinned: the paper's figures",)
    reasons = decision.kept["uid-StarPipeline-r1"]
    assert reasons
    assert all(reason.endswith("which is kept, belongs to it") for reason in reasons)


def test_what_serves_is_kept_with_its_lineage() -> None:
    decision = decided(run(1), serving("r1"), run(2))
    # The deployment names checkpoint and dataset; the checkpoint's lineage has the fine-tuned model's digest, and that
    # one's the trajectories'.
    assert gone(decision) == {"r1-evaluation"}
    why = decision.kept["uid-Checkpoint-r1-grpo"]
    assert why[0] == "StarDeployment live, which is kept, names it (spec.checkpoint.checkpoint)"


def test_what_serves_is_kept_by_its_digest_where_no_name_is_left() -> None:
    live = serving("r1")
    live["spec"]["checkpoint"] = {"uri": made("r1", "grpo")["uri"], "digest": made("r1", "grpo")["digest"]}
    decision = decided(run(1), live, run(2))
    assert "r1-grpo" not in gone(decision)
    assert made("r1", "grpo")["digest"] in decision.held


def test_a_name_that_means_another_digest_by_now_keeps_the_artifact_that_serves_all_the_same() -> None:
    live = serving("r2", digest=made("r1", "grpo")["digest"])
    decision = decided(run(1), live, run(2))
    assert {"r1-grpo", "record r1-grpo"} & gone(decision) != {"r1-grpo", "record r1-grpo"}
    assert made("r1", "grpo")["digest"] in decision.held


def test_an_artifact_that_a_kept_run_found_as_equal_work_stays_though_its_maker_goes() -> None:
    decision = decided(run(1), run(2, dataset=1))
    assert "r1-dataset" in gone(decision)
    assert made("r1", "dataset")["digest"] in decision.recorded


def test_a_run_trained_from_an_incumbent_keeps_that_and_not_what_it_was_made_from() -> None:
    last = run(3)
    last[0]["status"]["incumbent"] = {"uri": made("r2", "grpo")["uri"], "digest": made("r2", "grpo")["digest"]}
    second = run(2)
    second[0]["status"]["incumbent"] = {"uri": made("r1", "grpo")["uri"], "digest": made("r1", "grpo")["digest"]}
    decision = decided(run(1), second, last)
    assert all_of("r1") <= gone(decision)
    assert {"r2-sft", "r2-teacher", "r2-dataset"} <= gone(decision)
    assert made("r2", "grpo")["digest"] in decision.recorded


def test_the_store_that_an_ended_verbalization_was_refreshed_from_is_spent() -> None:
    assert "r1-verbalization" in gone(decided(run(1), run(2)))
    waits = run(2, phase="Running")
    assert "r1-verbalization" not in gone(decided(run(1), waits))


def test_the_next_run_finds_the_last_store_although_its_own_run_failed() -> None:
    failed = run(2, phase="Failed")
    named(failed, "r2-verbalization")["status"] |= {"phase": "Succeeded", "artifact": made("r2", "verbalization")}
    decision = decided(run(1), failed)
    assert decision.kept["uid-Verbalization-r2-verbalization"] == (
        "the next run of series weekly is refreshed from it",
    )
    assert {"r2-dataset", "r2"} & gone(decision) == set()


def test_what_has_not_ended_is_kept_with_what_it_names() -> None:
    evaluation = star(
        "Evaluation", "team", "mine", {"dataset": {"name": "r1-dataset"}, "against": {"evaluation": "r1-evaluation"}}
    )
    decision = decided(run(1), run(2), identified(evaluation, phase="Waiting"))
    assert {"r1-dataset", "r1-evaluation", "r1"} & gone(decision) == set()


def test_stages_that_wait_for_one_that_failed_do_not_keep_their_run() -> None:
    failed = run(1, phase="Failed")
    named(failed, "r1-grpo")["status"] = {"phase": "Waiting"}
    named(failed, "r1-evaluation")["status"] = {}
    assert gone(decided(failed, run(2))) == all_of("r1", "record r1-sft", "record r1-grpo")
    named(failed, "r1-evaluation")["status"] = {"phase": "Running"}
    assert "r1-evaluation" not in gone(decided(failed, run(2)))
    named(failed, "r1-evaluation")["status"] = {"phase": "Waiting", "retryAt": "2026-01-01T00:00:00Z"}
    assert "r1-evaluation" not in gone(decided(failed, run(2)))


def test_a_run_that_is_about_to_be_retried_has_not_ended() -> None:
    bodies = run(1, phase="Failed")
    bodies[0]["metadata"]["annotations"] = {"star.recsys.dev/retry": "sft"}
    assert not gone(decided(bodies, run(2)))


def test_what_a_pod_reads_is_kept() -> None:
    decision = decided(run(1), run(2), in_use="r1/teacher")
    assert "r1-teacher" not in gone(decision)
    assert decision.kept["uid-TeacherRun-r1-teacher"] == ("a pod reads it",)


def test_gate_evaluations_of_revisions_and_the_last_ones_are_kept() -> None:
    live = serving("r9")
    live["status"]["revisions"][0]["evaluation"] = "gate-1"
    gates = []
    for number in (1, 2, 3):
        gate = star("Evaluation", "team", f"gate-{number}", {"dataset": {"name": "r1-dataset"}})
        at = f"2026-02-{number:02d}T00:00:00Z"
        artifact = made("r1", "evaluation") | {"digest": value_hash(f"gate {number}")}
        gates.append(owned(identified(gate, at, phase="Succeeded", completionTime=at, artifact=artifact), live))
    decision = decided(run(1), run(2), live, gates)
    assert "gate-2" in gone(decision)
    assert {"gate-1", "gate-3"} & gone(decision) == set()
    assert "r1-dataset" in gone(decision), "a gate that has ended needs its dataset no more"


def test_what_is_being_deleted_is_neither_kept_nor_deleted_again() -> None:
    bodies = run(1)
    for body in bodies:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not gone(decided(bodies, run(2)))


def test_a_dataset_that_nobody_knows_keeps_nothing() -> None:
    assert gone(
        decided(run(1), run(2), identified(star("RecDataset", "team", "mine", DATASET), phase="Failed"))
    ) == all_of("r1")


@given(
    phases=st.lists(st.sampled_from(["Succeeded", "Failed", "Running"]), min_size=1, max_size=6),
    keep=st.integers(1, 3),
    failed=st.integers(0, 2),
    data=st.data(),
)
def test_whatever_stays_finds_what_it_refers_to(phases: list[str], keep: int, failed: int, data: st.DataObject) -> None:
    """No resource that is kept loses what it names, nor an artifact that is its own; the last runs are always whole."""
    bodies = flat(*[run(number, phase) for number, phase in enumerate(phases, start=1)])
    for body in bodies:
        if data.draw(st.integers(0, 19)) == 0:
            body["metadata"]["annotations"] = {"star.recsys.dev/pin": "x"}
    settings = RetentionSettings(keep_runs=keep, keep_failed_runs=failed)
    decision = decided(bodies, settings=settings)
    going = {one.thing.uid for one in decision.let_go}
    things: list[Thing] = [thing(body) for body in bodies]
    assert going | set(decision.kept) == {one.uid for one in things}
    assert not going & set(decision.kept)
    for one in things:
        if one.uid in going:
            assert one.pin is None
            assert not any(child.owner == one.uid and child.uid not in going for child in things)
            continue
        assert {artifact.digest for artifact in one.artifacts} <= decision.held
    succeeded = [f"r{number}" for number, phase in enumerate(phases, start=1) if phase == "Succeeded"][-keep:]
    running = [f"r{number}" for number, phase in enumerate(phases, start=1) if phase == "Running"]
    assert not {one.name.partition("-")[0] for one in things if one.uid in going} & {*succeeded, *running}


def test_jobs_that_ended_long_ago_go() -> None:
    assert finished_jobs({"a": 10, "b": 9.9, "c": 11}, 10) == ("a", "c")


@pytest.mark.bad_input
@pytest.mark.parametrize("spec", [{"retention": {"keepRuns": "many"}}, {"retention": {"new": 1}}])
def test_a_retention_of_another_version_is_the_clusters(spec: dict[str, Any]) -> None:
    assert gone(decided(run(1), run(2, spec=spec))) == all_of("r1")
