"""What an Evaluation is compared with: nothing yet, a report or trajectories, or a contradiction."""

import asyncio
from typing import Any

import pytest

from star_operator.api.evaluation import Evaluation
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.reconcilers.evaluation import inputs
from tests.support.fakecluster import FakeCluster
from tests.support.star import star

DATASET = {"uri": "s3://star/ns/recdataset/d/1/prepare", "digest": "sha256:" + "1" * 64}
REPORT = {"uri": "s3://star/ns/evaluation/before/1/evaluate", "digest": "sha256:" + "2" * 64}
TRAJECTORIES = {"uri": "s3://star/ns/teacherrun/mars/1/collect", "digest": "sha256:" + "3" * 64}
SPEC = {
    "dataset": {"name": "d"},
    "llm": {"endpoint": {"url": "http://llm.test/v1", "model": "m"}},
    "settings": {"tools": False},
}
TEACHER = {"dataset": {"name": "d"}, "llm": SPEC["llm"], "agents": {"tools": False}, "split": "Test", "filter": "None"}
SPECS: dict[str, dict[str, Any]] = {
    "RecDataset": {"source": {"uri": "s3://star/raw", "format": "MovieLens"}},
    "Evaluation": SPEC,
    "TeacherRun": TEACHER,
}


def finished(kind: str, name: str, artifact: dict[str, str]) -> dict[str, Any]:
    return {**star(kind, "ns", name, SPECS[kind]), "status": {"phase": "Succeeded", "artifact": artifact}}


def resolved(against: dict[str, str] | None, *others: dict[str, Any], **more: Any) -> Inputs:
    cluster = FakeCluster()
    for body in (finished("RecDataset", "d", DATASET), *others):
        cluster.add(body)
    spec = SPEC | more | ({} if against is None else {"against": against})
    return asyncio.run(inputs(cluster, Evaluation.parse(star("Evaluation", "ns", "after", spec))))


def test_those_beside_it_are_pinned_and_waited_for_by_their_place() -> None:
    beside = [{"evaluation": "before"}, {"teacherRun": "mars"}]
    before, mars = finished("Evaluation", "before", REPORT), finished("TeacherRun", "mars", TRAJECTORIES)
    found = resolved(None, before, mars, beside=beside)
    assert found.artifacts["beside[0]"].to_json_dict() == REPORT
    assert found.artifacts["beside[1]"].to_json_dict() == TRAJECTORIES
    with pytest.raises(Waiting, match=r"spec\.beside\[1\]\.teacherRun names TeacherRun mars, which does not exist"):
        resolved(None, before, beside=beside)


def test_it_is_pinned_to_the_others_report() -> None:
    found = resolved({"evaluation": "before"}, finished("Evaluation", "before", REPORT))
    assert found.artifacts["against"].to_json_dict() == REPORT
    assert "against" not in resolved(None).artifacts


def test_it_is_pinned_to_the_teachers_trajectories() -> None:
    mars = finished("TeacherRun", "mars", TRAJECTORIES)
    for against in ({"teacherRun": "mars"}, {"teacherRun": "mars", "digest": TRAJECTORIES["digest"]}):
        assert resolved(against, mars).artifacts["against"].to_json_dict() == TRAJECTORIES


@pytest.mark.parametrize("artifact", [REPORT, TRAJECTORIES])
def test_an_artifact_given_by_uri_needs_no_resource(artifact: dict[str, str]) -> None:
    assert resolved(artifact).artifacts["against"].to_json_dict() == artifact


@pytest.mark.bad_input
def test_a_report_that_is_not_there_is_waited_for() -> None:
    with pytest.raises(Waiting, match=r"spec\.against\.evaluation names Evaluation before, which does not exist"):
        resolved({"evaluation": "before"})
    with pytest.raises(Waiting, match=r"spec\.against\.evaluation: Evaluation before is"):
        resolved({"evaluation": "before"}, star("Evaluation", "ns", "before", SPEC))


@pytest.mark.bad_input
def test_a_teacher_on_training_tasks_is_refused_before_it_is_waited_for() -> None:
    training = star("TeacherRun", "ns", "mars", {**TEACHER, "split": "Train", "filter": "HitAt1"})
    with pytest.raises(InvalidSpec, match=r"spec\.against\.teacherRun names TeacherRun mars, which runs on training"):
        resolved({"teacherRun": "mars"}, training)


@pytest.mark.bad_input
def test_a_teacher_that_is_not_there_or_not_done_is_waited_for() -> None:
    with pytest.raises(Waiting, match=r"spec\.against\.teacherRun names TeacherRun mars, which does not exist"):
        resolved({"teacherRun": "mars"}, finished("Evaluation", "mars", REPORT))
    with pytest.raises(Waiting, match=r"spec\.against\.teacherRun: TeacherRun mars is"):
        resolved({"teacherRun": "mars"}, star("TeacherRun", "ns", "mars", TEACHER))


@pytest.mark.bad_input
def test_an_artifact_of_another_digest_is_refused() -> None:
    other = "sha256:" + "0" * 64
    with pytest.raises(InvalidSpec, match=f"spec.against.digest is {other}, but TeacherRun mars made"):
        resolved({"teacherRun": "mars", "digest": other}, finished("TeacherRun", "mars", TRAJECTORIES))
    with pytest.raises(InvalidSpec, match=f"spec.against.digest is {other}, but Evaluation before made"):
        resolved({"evaluation": "before", "digest": other}, finished("Evaluation", "before", REPORT))
