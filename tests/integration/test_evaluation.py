"""An Evaluation compared with another or with the teacher: it waits for what the other makes, and pins it."""

from typing import Any

import pytest

from star_contracts.job import Evaluate, JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, ready_message, star, wait_message, wait_phase

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
    against = stages["after"].against
    assert against is not None
    assert (against.uri, against.digest, stages["after"].against_name) == (report["uri"], report["digest"], "before")
    assert stages["before"].against is None


def test_a_comparison_with_the_teacher_waits_for_its_run_and_pins_the_trajectories(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    stages = recorded(kubelet)
    kubectl.apply(star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("Evaluation", namespace, "student", {**SPEC, "against": {"teacherRun": "mars"}}))
    wait_phase(kubectl, "RecDataset", namespace, "d", "Succeeded")
    missing = f"spec.against.teacherRun names TeacherRun mars, which does not exist in namespace {namespace}"
    wait_message(kubectl, "Evaluation", namespace, "student", missing)
    kubectl.apply(star("TeacherRun", namespace, "mars", TEACHER))
    wait_phase(kubectl, "Evaluation", namespace, "student", "Succeeded")
    made = wait_phase(kubectl, "TeacherRun", namespace, "mars", "Succeeded")["artifact"]
    against = stages["student"].against
    assert against is not None
    assert (against.uri, against.digest, stages["student"].against_name) == (made["uri"], made["digest"], "mars")


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
