"""A pipeline on a real control plane: made at once, moved to what serves, retried, cancelled."""

import json
from typing import Any

from star_contracts.errors import Reason
from star_contracts.job import JobSpec
from star_contracts.result import ErrorClass, JobError, JobResult
from tests.support.fakekubelet import RUNNING, FakeKubelet, Script, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.pipelines import KINDS, SERVED, SPEC
from tests.support.star import checkpoint, names, star, status, wait_message, wait_phase

GATES = {"rules": [{"metric": "hrAvg", "value": 0.4}], "settings": {"tools": False}}
LIVE = {**SERVED, "deployment": {"name": "live", "template": {"gates": GATES}}}


def pipeline(namespace: str, name: str = "weekly", spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return star("StarPipeline", namespace, name, {**(spec or SPEC), **more})


def rows(kubectl: Kubectl, namespace: str, name: str = "weekly") -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in status(kubectl, "StarPipeline", namespace, name).get("stages", [])}


def holding(stage: str) -> Script:
    """A script: pods of this stage work for ever, all others end well at once."""
    return lambda spec, pod: RUNNING if spec.stage.stage == stage else succeed(spec, pod)


def test_from_data_to_what_serves_and_the_next_run_moves_it_on(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(checkpoint(namespace), pipeline(namespace, spec=LIVE))
    eventually(lambda: len(rows(kubectl, namespace)) >= len(KINDS), "all stages are told of")
    operator.kill()
    operator.start()
    done = wait_phase(kubectl, "StarPipeline", namespace, "weekly", "Succeeded")
    assert done["progressText"] == "7/7 stages"
    assert done["headline"].startswith("hrAvg 0.500")
    first = status(kubectl, "StarDeployment", namespace, "live")["servingDigest"]
    assert first == done["checkpoint"]["digest"]
    for stage, kind in KINDS.items():
        assert names(kubectl, kind.lower(), namespace, f"star.recsys.dev/stage={stage}") == [f"weekly-{stage}"]
    assert all(count == 1 for job, count in kubelet.started.items() if job.startswith(namespace))

    spec = json.loads(json.dumps(LIVE))
    spec["sft"]["template"]["hyperparameters"]["epochs"] = 1
    kubectl.apply(pipeline(namespace, "next", spec, series="weekly"))
    moved = wait_phase(kubectl, "StarPipeline", namespace, "next", "Succeeded")
    assert moved["previous"] == "weekly-verbalization"
    assert moved["checkpoint"]["digest"] != first
    live = status(kubectl, "StarDeployment", namespace, "live")
    assert live["servingDigest"] == moved["checkpoint"]["digest"]
    kubectl.run("delete", "starpipeline", "weekly", "-n", namespace)
    eventually(lambda: names(kubectl, "recdatasets", namespace) == ["next-dataset"], "its stages go with a pipeline")
    assert "weekly-grpo" in names(kubectl, "checkpoints", namespace), "records outlive the run that made them"


def test_a_stage_that_fails_is_named_and_retried_from(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    broken = True

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        if broken and spec.stage.stage == "train-sft":
            error = JobError(
                error_class=ErrorClass.TERMINAL, reason=Reason.TRAINING_DIVERGED, message="the loss is nan at step 3"
            )
            return JobResult(error=error)
        return succeed(spec, pod)

    kubelet.script = script
    kubectl.apply(checkpoint(namespace), pipeline(namespace))
    wait_message(kubectl, "StarPipeline", namespace, "weekly", "stage sft failed: the loss is nan at step 3")
    broken = False
    kubectl.run("annotate", "starpipeline", "weekly", "-n", namespace, "star.recsys.dev/retry=sft")
    wait_phase(kubectl, "StarPipeline", namespace, "weekly", "Succeeded")
    tries = {name: row["tries"] for name, row in rows(kubectl, namespace).items()}
    assert tries == {"dataset": 1, "verbalization": 1, "teacher": 1, "sft": 2, "grpo": 2, "evaluation": 2}
    again = kubelet.started[f"{namespace}/weekly-teacher-tr-1-generate"]
    assert again == 1, "what was done is not done again"


def test_suspending_and_cancelling_stop_what_runs(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubelet.script = holding("generate-trajectories")
    kubectl.apply(checkpoint(namespace), pipeline(namespace))
    wait_message(kubectl, "StarPipeline", namespace, "weekly", "stage teacher: step generate is running")
    patch = ("patch", "starpipeline", "weekly", "-n", namespace, "--type=merge", "-p")
    kubectl.run(*patch, '{"spec":{"suspend":true}}')
    wait_phase(kubectl, "StarPipeline", namespace, "weekly", "Suspended")
    wait_phase(kubectl, "TeacherRun", namespace, "weekly-teacher", "Suspended")
    kubectl.run(*patch, '{"spec":{"suspend":false}}')
    wait_phase(kubectl, "TeacherRun", namespace, "weekly-teacher", "Running")
    kubectl.run(*patch, '{"spec":{"cancel":true}}')
    wait_phase(kubectl, "StarPipeline", namespace, "weekly", "Failed")
    eventually(lambda: names(kubectl, "jobs", namespace, "star.recsys.dev/kind=teacherrun") == [], "nothing runs")
    assert names(kubectl, "recdatasets", namespace) == ["weekly-dataset"]


def test_the_better_variant_goes_on_and_what_is_shared_is_made_once(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        found = succeed(spec, pod)
        better = spec.producer.name.endswith("-b")
        return found.model_copy(update={"metrics": {**found.metrics, "hrAvg": 0.9 if better else 0.5}})

    kubelet.script = script
    variants = {"a": {}, "b": {"sft": {"hyperparameters": {"epochs": 1}}}}
    select = {"metric": "hrAvg", "from": "evaluation"}
    kubectl.apply(checkpoint(namespace), pipeline(namespace, spec=LIVE, variants=variants, select=select))
    done = wait_phase(kubectl, "StarPipeline", namespace, "weekly", "Succeeded")
    assert done["variant"] == "b"
    assert done["checkpoint"]["checkpoint"] == "weekly-grpo-b"
    assert names(kubectl, "teacherruns", namespace) == ["weekly-teacher"]
    assert names(kubectl, "sftjobs", namespace) == ["weekly-sft", "weekly-sft-b"]
    assert status(kubectl, "StarDeployment", namespace, "live")["servingDigest"] == done["checkpoint"]["digest"]
