"""An Evaluation compared with another or with the teacher: it waits for what the other makes, and pins it."""

from typing import Any

import pytest

from star_contracts.job import Evaluate, JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, ready_message, star, status, wait_message, wait_phase

MODEL = {"endpoint": {"url": "http://llm.test/v1", "model": "m"}}
SPEC = {"dataset": {"name": "d"}, "llm": MODEL, "settings": {"tools": False}}
TEACHER = {"dataset": {"name": "d"}, "llm": MODEL, "agents": {"tools": False}, "split": "Test", "filter": "None"}


def test_a_comparison_waits_for_the_other_evaluation_and_pins_its_report(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    stages = recorded(kubelet)
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "after", {**SPEC, "against": {"evaluation": "before"}}))
    wait_phase(kubectl, "RecDataset", namespace, "d", "Succeeded")
    missing = f"spec.against.evaluation names Evaluation before, which does not exist in namespace {namespace}"
    said = wait_message(kubectl, "Evaluation", namespace, "after", missing)
    assert said == f"{missing}; create it or correct the name"
    kubectl.apply(star("Evaluation", namespace, "before", SPEC))
    wait_phase(kubectl, "Evaluation", namespace, "after", "Succeeded")
    report = wait_phase(kubectl, "Evaluation", namespace, "before", "Succeeded")["artifact"]
    assert compared(stages["after"]) == {"against": ("before", report["digest"])}
    assert compared(stages["before"]) == {}


def test_a_comparison_with_teachers_waits_for_their_runs_and_pins_the_trajectories(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    stages = recorded(kubelet)
    both = {"against": {"teacherRun": "mars"}, "beside": [{"teacherRun": "hybrid"}]}
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "student", {**SPEC, **both}))
    wait_phase(kubectl, "RecDataset", namespace, "d", "Succeeded")
    missing = f"spec.against.teacherRun names TeacherRun mars, which does not exist in namespace {namespace}"
    wait_message(kubectl, "Evaluation", namespace, "student", missing)
    kubectl.apply(star("TeacherRun", namespace, "mars", TEACHER))
    missing = f"spec.beside[0].teacherRun names TeacherRun hybrid, which does not exist in namespace {namespace}"
    wait_message(kubectl, "Evaluation", namespace, "student", missing)
    kubectl.apply(star("TeacherRun", namespace, "hybrid", {**TEACHER, "passes": 2}))
    wait_phase(kubectl, "Evaluation", namespace, "student", "Succeeded")
    mars, hybrid = (status(kubectl, "TeacherRun", namespace, name)["artifact"]["digest"] for name in ("mars", "hybrid"))
    assert compared(stages["student"]) == {"against": ("mars", mars), "beside[0]": ("hybrid", hybrid)}


def compared(stage: Evaluate) -> dict[str, tuple[str | None, str]]:
    """What an evaluator is told to compare with: name and digest by path."""
    return {path: (each.name, each.artifact.digest) for path, each in stage.compared.items()}


def recorded(kubelet: FakeKubelet) -> dict[str, Evaluate]:
    """What evaluators are told from here on, by Evaluation; all pods succeed."""
    stages: dict[str, Evaluate] = {}

    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        if isinstance(spec.stage, Evaluate):
            stages[spec.producer.name] = spec.stage
        return succeed(spec, pod)

    kubelet.script = script
    return stages


@pytest.mark.bad_input
def test_a_report_of_another_digest_is_refused(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    kubectl.apply(star("RecDataset", namespace, "d", DATASET), star("Evaluation", namespace, "before", SPEC))
    report = wait_phase(kubectl, "Evaluation", namespace, "before", "Succeeded")["artifact"]
    against = {"evaluation": "before", "digest": "sha256:" + "0" * 64}
    kubectl.apply(star("Evaluation", namespace, "after", {**SPEC, "against": against}))
    failed = wait_phase(kubectl, "Evaluation", namespace, "after", "Failed")
    assert ready_message(failed) == (
        f"spec.against.digest is {against['digest']}, but Evaluation before made {report['digest']}; "
        "correct one of them"
    )
