"""An evaluation compared with the teacher on the test tasks, in pairs."""

from collections.abc import Sequence
from itertools import cycle

import pytest

from star_contracts.artifact import MANIFEST_NAME, ArtifactKind, ArtifactRef
from star_contracts.settings import EvaluationSettings, TaskSplit, TrajectoryFilter
from star_jobs.datasets.snapshot import Dataset
from star_jobs.evaluate.report import cost, efficiency, trade_off
from star_jobs.storage import fetch, write_jsonl
from star_jobs.teacher.collect import RUNS
from star_jobs.teacher.records import RunRecord
from star_jobs.teacher.worklist import WorkItem, chosen_tasks, work_items
from tests.support import world
from tests.support.fakellm import fake_llm
from tests.unit.star_jobs.evaluate.conftest import SETTINGS, Stage
from tests.unit.star_jobs.teacher.conftest import Classroom
from tests.unit.star_jobs.teacher.test_collect import record
from tests.unit.star_jobs.teacher.test_collect import run as collect

Ranks = Sequence[int | str | None]
"""Of one run after the other, over and over: the ground truth's place, None for a miss, or why it was refused."""


def taught(
    stage: Stage,
    ranks: Ranks,
    *,
    passes: int = 1,
    tasks: int | None = None,
    split: TaskSplit = TaskSplit.TEST,
    gpus: int | None = None,
    uri: str = "teacher",
) -> ArtifactRef:
    """The artifact of a TeacherRun whose n-th run took n seconds."""
    room = Classroom(stage.server, stage.store, f"{stage.uri}/{uri}", stage.dataset, stage.signals, [])
    items = work_items(chosen_tasks(Dataset(stage.folder / "dataset"), split, tasks), passes)
    for seconds, (item, rank) in enumerate(zip(items, cycle(ranks), strict=False), start=1):
        done = _record(item, rank, seconds=seconds, gpus=gpus)
        room.work.put(item.name, done.model_dump_json(by_alias=True).encode())
    result = collect(room, split=split, passes=passes, tasks=tasks, filter=TrajectoryFilter.NONE)
    assert result.artifact is not None
    return result.artifact


def _record(item: WorkItem, rank: int | str | None, **took: float | None) -> RunRecord:
    if isinstance(rank, str):
        return record(item, None, trajectory=None, failure=rank, ranked=False, **took)
    return record(item, rank, kept=True, **took)


def refused(stage: Stage, against: ArtifactRef, settings: EvaluationSettings = SETTINGS) -> str:
    """What an evaluation says that cannot be compared; the model is not asked first."""
    with fake_llm(world.scripted_student()) as server:
        code, result = stage.run(server.endpoint(), settings, against=against)
    assert (code, server.requests) == (65, [])
    assert result.error is not None
    assert result.error.reason == "NotComparable"
    assert result.error.message.startswith("spec.against: before ")
    return result.error.message


def test_the_student_is_compared_in_pairs_with_its_teacher(stage: Stage) -> None:
    teacher = taught(stage, [1] * 20 + [None] * 20, passes=2)
    with fake_llm(world.scripted_student()) as server:
        code, result = stage.run(server.endpoint(), against=teacher)
    assert (code, result.error) == (0, None)
    # The student has everything in third place: HR@1 0, HR@3 and HR@5 1. The teacher hits in one of its two passes.
    assert result.metrics["against.hrAvg"] == pytest.approx(1 / 2)
    assert result.metrics["against.hrAvgDiff"] == pytest.approx(2 / 3 - 1 / 2)
    assert result.metrics["against.ciLow"] == pytest.approx(1 / 6)
    assert result.metrics["against.ciHigh"] == pytest.approx(1 / 6)
    report = stage.report(result)
    against = report.compared["against"]
    assert (against.name, against.model, against.report) == ("before", "teacher-1", teacher.digest)
    assert against.latency_p50 == 20.5, "the median of 1 to 40 seconds"
    assert report.inputs["against"] == teacher.digest
    assert [list(suite.compared) for suite in report.suites] == [["against"]] * 3
    picture = trade_off(report)
    assert "before: 50.0 [50.0, 50.0], 20.5 s" in picture
    assert "fake: 66.7" in picture
    assert picture in stage.page(result)


def test_a_refused_run_is_a_miss_and_has_no_latency(stage: Stage) -> None:
    teacher = taught(stage, [*[1] * 19, "too long"])
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint(), against=teacher)
    assert result.metrics["against.hrAvg"] == pytest.approx(0.95)
    assert stage.report(result).compared["against"].latency_p50 == 10


def test_figure_4_shows_all_with_what_an_answer_costs(stage: Stage) -> None:
    mars = taught(stage, [1, None], gpus=16)
    hybrid = taught(stage, [1], gpus=17, uri="hybrid")
    with fake_llm(world.scripted_student()) as server:
        endpoint = server.endpoint().model_copy(update={"gpus": 1})
        code, result = stage.run(endpoint, against=mars, beside={"hybrid": hybrid})
    assert (code, result.error) == (0, None)
    assert result.metrics["against.hrAvg"] == pytest.approx(1 / 2), "metrics are of against alone"
    report = stage.report(result)
    assert report.inputs["beside[0]"] == hybrid.digest
    assert report.suites[0].compared["beside[0]"].difference.mean == pytest.approx(2 / 3 - 1)
    assert [(one.name, one.gpus) for one in efficiency(report)] == [("fake", 1), ("before", 16), ("hybrid", 17)]
    assert [one.gpu_seconds for one in efficiency(report)[1:]] == [16 * 10.5, 17 * 10.5]
    page = stage.page(result)
    assert "hybrid: 100.0 [100.0, 100.0], 10.5 s" in trade_off(report)
    assert "hybrid: 100.0 [100.0, 100.0], 178 s" in cost(report)
    assert trade_off(report) in page
    assert cost(report) in page
    assert "<td>hybrid</td><td>100.0</td><td>10.50</td>\n<td>17</td><td>178.5</td>" in page


def test_what_an_answer_costs_is_not_known_where_its_gpus_are_not(stage: Stage) -> None:
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint().model_copy(update={"gpus": 1}), against=taught(stage, [1]))
    report = stage.report(result)
    assert [one.gpu_seconds is None for one in efficiency(report)] == [False, True]
    assert cost(report) == "", "one cost alone compares nothing"
    assert "<td>not known</td><td></td>" in stage.page(result)


@pytest.mark.parametrize("tasks", [None, 4], ids=["all", "the-same"])
def test_of_a_teacher_on_more_tasks_those_of_the_evaluation_are_taken(stage: Stage, tasks: int | None) -> None:
    teacher = taught(stage, [1], tasks=tasks)
    with fake_llm(world.scripted_student()) as server:
        code, result = stage.run(server.endpoint(), SETTINGS.model_copy(update={"samples": 2}), against=teacher)
    assert (code, result.error) == (0, None)
    assert (result.metrics["tasks"], result.metrics["against.hrAvg"]) == (4, 1)


@pytest.mark.bad_input
def test_a_teacher_on_training_tasks_cannot_be_compared(stage: Stage) -> None:
    folder = stage.folder / "dataset"
    train = [task.model_copy(update={"task_id": f"train-{n}"}) for n, task in enumerate(world.tasks(2))]
    write_jsonl(folder / "tasks" / "train.jsonl", train)
    stage.dataset = world.publish(stage.store, f"{stage.uri}/both", folder, ArtifactKind.DATASET)
    said = refused(stage, taught(stage, [1], split=TaskSplit.TRAIN))
    assert "ran on none of this evaluation's 20 tasks" in said
    assert said.endswith("name one with split: Test and filter: None")


@pytest.mark.bad_input
def test_a_task_without_a_run_is_named(stage: Stage) -> None:
    said = refused(stage, taught(stage, [1], tasks=4))
    assert "has no run of 16 of this evaluation's 20 tasks (first: classic-" in said
    assert "name a TeacherRun on all test tasks (without spec.tasks)" in said


@pytest.mark.bad_input
def test_a_teacher_on_another_dataset_cannot_be_compared(stage: Stage) -> None:
    teacher = taught(stage, [1])
    (stage.folder / "dataset" / "stats.json").write_text("{}")
    stage.dataset = world.publish(stage.store, f"{stage.uri}/other", stage.folder / "dataset", ArtifactKind.DATASET)
    said = refused(stage, teacher)
    assert "was measured on dataset sha256:" in said
    assert stage.dataset.digest in said


@pytest.mark.bad_input
def test_trajectories_of_an_older_version_are_to_be_made_again(stage: Stage) -> None:
    folder = fetch(stage.store, taught(stage, [1]), stage.folder / "older")
    for name in (RUNS, MANIFEST_NAME):
        (folder / name).unlink()
    inputs = {"dataset": stage.dataset.digest}
    older = world.publish(stage.store, f"{stage.uri}/older", folder, ArtifactKind.TRAJECTORIES, inputs)
    assert refused(stage, older).endswith(
        "holds no runs.jsonl: it was made by an older version; delete it and apply it again"
    )
