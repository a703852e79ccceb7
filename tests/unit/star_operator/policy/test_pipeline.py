"""What a pipeline does next: each case is its rows' resources, as seen, and the decision that follows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from star_operator.api.chain import StageName
from star_operator.api.meta import Phase
from star_operator.api.starpipeline import PinnedModel, StarPipelineStatus
from star_operator.builders.starpipeline import plan
from star_operator.policy.pipeline import Decision, Seen, decide, deployed, retried
from tests.support.pipelines import SERVED, SPEC, pipeline
from tests.support.star import DIGEST

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = PinnedModel(checkpoint="weekly-grpo", uri="s3://star/models/x", digest=DIGEST)
RUNS = Seen("u", ours=True, phase=Phase.RUNNING, message="step train is running", progress="3/6 steps", done=3, total=6)
WAITS = Seen("u", ours=True, phase=Phase.WAITING, message="spec.dataset: not there")
FAILED = Seen("u", ours=True, phase=Phase.FAILED, message="step train failed: loss is nan")
DONE = Seen("u", ours=True, phase=Phase.SUCCEEDED, message="artifact stored", model=MODEL, metrics={"hrAvg": 0.5})
VARIANTS = {"a": {}, "b": {"sft": {"samples": 5}}}


def decided(
    seen: Mapping[str, Seen],
    spec: dict[str, Any] | None = None,
    status: StarPipelineStatus | None = None,
    now: datetime = NOW,
) -> Decision:
    owner = pipeline(spec)
    return decide(owner.spec, plan(owner), seen, status or owner.status, now)


def everything(seen: Seen, spec: dict[str, Any] | None = None) -> dict[str, Seen]:
    return {row.row: seen for row in plan(pipeline(spec)).rows}


def rows(decision: Decision) -> dict[str, Any]:
    return {row.name: row for row in decision.status.stages}


def test_all_stages_are_made_at_once() -> None:
    decision = decided({})
    assert [row.row for row in decision.make] == list(SPEC)
    assert not decision.delete
    assert decision.phase is Phase.RUNNING
    assert decision.status.progress_text == "0/6 stages"


def test_what_is_there_is_not_made_again() -> None:
    decision = decided(everything(WAITS))
    assert (decision.make, decision.delete, decision.suspend) == ((), (), ())
    assert decision.phase is Phase.WAITING


def test_it_says_what_the_stage_that_works_says_and_not_what_waits_for_it() -> None:
    decision = decided({**everything(WAITS), "dataset": DONE, "verbalization": RUNS})
    assert decision.phase is Phase.RUNNING
    assert decision.message == "stage verbalization: step train is running"
    assert decision.status.progress_text == "1/6 stages"


def test_a_failed_stage_says_which_with_its_own_sentence() -> None:
    decision = decided({**everything(WAITS), "dataset": DONE, "teacher": FAILED})
    assert decision.phase is Phase.FAILED
    assert decision.reason == "StageFailed"
    assert decision.message == "stage teacher failed: step train failed: loss is nan"


def test_all_done_gives_the_last_models_checkpoint_and_the_evaluations_figures() -> None:
    measured = replace(DONE, headline="hrAvg 0.500")
    decision = decided({**everything(DONE), "evaluation": measured})
    assert decision.chosen == ""
    assert decision.status.checkpoint == MODEL
    assert decision.status.headline == "hrAvg 0.500"


def test_a_training_that_ended_is_not_done_before_its_model_is_known() -> None:
    decision = decided({**everything(DONE), "grpo": replace(DONE, model=None)})
    assert decision.chosen is None


@pytest.mark.bad_input
def test_a_resource_of_somebody_else_is_left_alone() -> None:
    decision = decided({"dataset": replace(DONE, ours=False)}, {**SPEC, "cancel": True})
    assert decision.phase is Phase.FAILED
    assert decision.reason == "NameTaken"
    assert "RecDataset weekly-dataset is there and belongs to somebody else" in decision.message
    assert not decision.delete


@pytest.mark.bad_input
def test_what_is_used_has_the_digest_that_was_named() -> None:
    spec = {**SPEC, "dataset": {"use": {"name": "d", "digest": DIGEST}}}
    wrong = replace(DONE, digest=DIGEST[:-1] + "0")
    assert decided({**everything(WAITS, spec), "dataset": wrong}, spec).reason == "DigestMismatch"
    right = replace(DONE, digest=DIGEST)
    assert decided({**everything(WAITS, spec), "dataset": right}, spec).phase is Phase.WAITING


def test_suspending_suspends_what_runs_and_nothing_else() -> None:
    seen = {**everything(WAITS), "dataset": DONE, "teacher": RUNS, "sft": replace(WAITS, suspended=True)}
    decision = decided(seen, {**SPEC, "suspend": True})
    assert [row.row for row in decision.suspend] == ["verbalization", "teacher", "grpo", "evaluation"]
    assert decision.phase is Phase.SUSPENDED
    back = decided(everything(replace(WAITS, suspended=True)))
    assert len(back.suspend) == 6


def test_cancelling_ends_what_has_not_ended_and_keeps_what_is_done() -> None:
    spec = {**SPEC, "cancel": True}
    seen = {**everything(WAITS), "dataset": DONE, "verbalization": RUNS}
    decision = decided(seen, spec)
    assert [row.row for row in decision.delete] == ["verbalization", "teacher", "sft", "grpo", "evaluation"]
    assert (decision.phase, decision.make) == (Phase.RUNNING, ())
    after = decided({"dataset": DONE}, spec)
    assert (after.phase, after.reason, after.make) == (Phase.FAILED, "Cancelled", ())


def test_a_retry_makes_the_stage_and_those_after_it_once_more() -> None:
    seen = {**everything(DONE), "sft": FAILED, "grpo": WAITS, "evaluation": WAITS}
    before = decided(seen).status
    again = retried(before, StageName.SFT, "sft")
    decision = decided(seen, status=again)
    assert [row.row for row in decision.delete] == ["sft", "grpo", "evaluation"]
    assert not decision.make, "what is of the try before goes first"
    left = {name: one for name, one in seen.items() if name not in ("sft", "grpo", "evaluation")}
    decision = decided(left, status=decision.status)
    assert [row.row for row in decision.make] == ["sft", "grpo", "evaluation"]
    assert rows(decision)["sft"].tries == 2
    assert rows(decision)["teacher"].tries == 1
    made = {**left, **{name: replace(WAITS, tries=2) for name in ("sft", "grpo", "evaluation")}}
    assert not decided(made, status=decision.status).delete


def test_one_of_the_try_before_is_not_deleted_twice() -> None:
    again = retried(decided(everything(DONE)).status, StageName.EVALUATION, "evaluation")
    going = {**everything(DONE), "evaluation": replace(DONE, deleting=True)}
    decision = decided(going, status=again)
    assert (decision.delete, decision.make) == ((), ())


class TestVariants:
    SPEC: Mapping[str, Any] = {**SPEC, "variants": VARIANTS, "select": {"metric": "hrAvg", "from": "evaluation"}}

    def seen(self, **others: Seen) -> dict[str, Seen]:
        named = {name.replace("__", "/"): one for name, one in others.items()}
        return {**everything(DONE, dict(self.SPEC)), **named}

    def test_the_best_one_goes_on(self) -> None:
        best = replace(DONE, metrics={"hrAvg": 0.7}, headline="hrAvg 0.700")
        decision = decided(self.seen(evaluation__b=best), dict(self.SPEC))
        assert decision.chosen == "b"
        assert decision.message == "variant b is chosen by hrAvg (a 0.5, b 0.7)"
        assert decision.status.headline == "hrAvg 0.700"

    def test_the_lowest_where_that_is_the_goal(self) -> None:
        select = {"metric": "hrAvg", "from": "evaluation", "goal": "Lowest"}
        best = replace(DONE, metrics={"hrAvg": 0.7})
        assert decided(self.seen(evaluation__b=best), {**self.SPEC, "select": select}).chosen == "a"

    def test_all_are_waited_for(self) -> None:
        assert decided(self.seen(evaluation__b=RUNS), dict(self.SPEC)).chosen is None
        assert decided(self.seen(sft=FAILED, evaluation__b=RUNS), dict(self.SPEC)).phase is Phase.RUNNING

    def test_one_that_failed_does_not_stop_the_others(self) -> None:
        decision = decided(self.seen(sft=FAILED), dict(self.SPEC))
        assert decision.chosen == "b"
        assert "without a, which failed" in decision.message

    def test_all_failed(self) -> None:
        assert decided(self.seen(dataset=FAILED), dict(self.SPEC)).phase is Phase.FAILED

    @pytest.mark.bad_input
    def test_a_metric_that_no_evaluation_has(self) -> None:
        decision = decided(self.seen(), {**self.SPEC, "select": {"metric": "hr9"}})
        assert (decision.phase, decision.reason) == (Phase.FAILED, "NoSuchMetric")
        assert "hr9, which no evaluation has (they have hrAvg)" in decision.message

    def test_without_select_each_one_has_to_succeed(self) -> None:
        sweep = {**SPEC, "variants": VARIANTS}
        assert decided(self.seen(sft=FAILED), sweep).phase is Phase.FAILED


def test_time_and_gpus_are_counted_while_a_stage_runs() -> None:
    compute = {"pool": "h20", "gpusPerNode": 2}
    spec = {**SPEC, "sft": {"template": {**SPEC["sft"]["template"], "compute": compute}}}
    seen = {**everything(DONE, spec), "grpo": WAITS, "evaluation": WAITS}
    status = decided({**seen, "sft": RUNS}, spec).status
    later = NOW + timedelta(seconds=60)
    status = decided({**seen, "sft": replace(RUNS, done=4)}, spec, status, later).status
    assert status.gpu_seconds_spent == 120
    assert next(row for row in status.stages if row.name == "sft").eta == "2026-01-01T00:01:30Z"
    assert status.gpu_seconds_left == 60
    waits = decided({**seen, "sft": WAITS}, spec, status, later + timedelta(seconds=10)).status
    assert waits.gpu_seconds_spent == 140
    again = decided({**seen, "sft": RUNS}, spec, waits, later + timedelta(seconds=1000)).status
    done = decided({**seen, "sft": DONE}, spec, again, later + timedelta(seconds=1005)).status
    assert done.gpu_seconds_spent == 150
    assert decided({**seen, "sft": DONE}, spec, done, later + timedelta(days=1)).status.gpu_seconds_spent == 150


def test_what_is_reused_cost_nothing() -> None:
    spec = {**SPEC, "sft": {"template": {**SPEC["sft"]["template"], "compute": {"pool": "h20", "gpusPerNode": 2}}}}
    status = decided({**everything(DONE, spec), "sft": RUNS}, spec).status
    later = NOW + timedelta(seconds=5)
    done = decided({**everything(DONE, spec), "sft": replace(DONE, reused=True)}, spec, status, later).status
    assert done.gpu_seconds_spent == 0


def served(**changes: Any) -> Seen:
    return replace(Seen("u", ours=True, digest=DIGEST, message="revision x serves"), **changes)


@pytest.mark.parametrize(
    ("seen", "phase", "says"),
    [
        (served(phase=Phase.READY), Phase.SUCCEEDED, "StarDeployment live: revision x serves"),
        (served(phase=Phase.RUNNING), Phase.RUNNING, "StarDeployment live: revision x serves"),
        (served(phase=Phase.WAITING), Phase.RUNNING, "StarDeployment live: revision x serves"),
        (served(phase=Phase.GATED), Phase.FAILED, "stage deployment failed: StarDeployment live: revision x serves"),
        (served(phase=Phase.READY, digest="sha256:other"), Phase.FAILED, "by somebody else meanwhile"),
    ],
)
def test_the_pipeline_ends_with_what_becomes_of_its_model(seen: Seen, phase: Phase, says: str) -> None:
    status, got, _, message = deployed(pipeline(SERVED).status, "live", MODEL, seen)
    assert got is phase
    assert says in message
    assert status.stages[-1].name == "deployment"
    assert deployed(status, "live", MODEL, seen)[0].stages == status.stages
