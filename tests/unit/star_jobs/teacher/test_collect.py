"""From part objects to the artifact, and the sets that make none."""

import threading
from pathlib import Path

import pytest

from star_contracts.data import TaskType, Trajectory
from star_contracts.errors import Reason
from star_contracts.result import JobResult
from star_contracts.settings import TrajectoryFilter, Variant
from star_jobs.__main__ import load_entry
from star_jobs.errors import JobFailure, TerminalFailure
from star_jobs.runtime import run_job
from star_jobs.storage import fetch, read_jsonl
from star_jobs.teacher.collect import REPORT, RUNS, STATS, TRAJECTORIES
from star_jobs.teacher.records import RunRecord, RunResult
from star_jobs.teacher.statistics import Statistics
from star_jobs.teacher.worklist import WorkItem, work_items
from tests.unit.star_jobs.teacher.conftest import Classroom
from tests.unit.star_jobs.trajectory.samples import RUN


def record(item: WorkItem, rank: int | None, kept: bool | None = None, **changes: object) -> RunRecord:
    """A run that ranked the ground truth at `rank`."""
    trajectory = RUN.model_copy(
        update={
            "task_id": item.task.task_id,
            "pass_index": item.pass_index,
            "hit_rank": rank,
            "kept": rank == 1 if kept is None else kept,
            "model": "teacher-1",
        }
    )
    values: dict[str, object] = {
        "task_id": item.task.task_id,
        "task_type": item.task.type,
        "pass_index": item.pass_index,
        "trajectory": trajectory,
        "outputs": 7,
    }
    return RunRecord.model_validate(values | changes)


def put(classroom: Classroom, ranks: list[int | None], kept: bool | None = None, **changes: object) -> None:
    for item, rank in zip(work_items(classroom.tasks, 2), ranks, strict=True):
        classroom.work.put(item.name, record(item, rank, kept, **changes).model_dump_json(by_alias=True).encode())


def run(classroom: Classroom, **changes: object) -> JobResult:
    return run_job(classroom.spec(classroom.collect(**changes)), load_entry, threading.Event())


def failure_of(classroom: Classroom, **changes: object) -> JobFailure:
    with pytest.raises(TerminalFailure) as failure:
        run(classroom, **changes)
    return failure.value


def test_the_artifact_has_all_trajectories_in_order_and_their_statistics(classroom: Classroom, tmp_path: Path) -> None:
    put(classroom, [1, 1, 3, None] * 4)
    result = run(classroom)
    assert result.artifact is not None
    folder = fetch(classroom.store, result.artifact, tmp_path / "out")
    trajectories = list(read_jsonl(folder / TRAJECTORIES, Trajectory))
    assert [(t.task_id, t.pass_index) for t in trajectories] == [
        (item.task.task_id, item.pass_index) for item in work_items(classroom.tasks, 2)
    ]
    assert [t.kept for t in trajectories] == [True, True, False, False] * 4
    statistics = Statistics.model_validate_json((folder / STATS).read_bytes())
    assert (statistics.overall.hr1, statistics.overall.hr3, statistics.overall.hr5) == (0.5, 0.75, 0.75)
    assert statistics.overall.hr_avg == pytest.approx(2 / 3, abs=1e-6)
    assert set(statistics.by_type) == {TaskType.CLASSIC, TaskType.LONG_TERM}
    assert {variant: counts.trajectories for variant, counts in statistics.variants.items()} == dict.fromkeys(
        Variant, 8
    )
    assert statistics.variants[Variant.PLANNER_ONLY].mean_chars < statistics.variants[Variant.FULL].mean_chars
    assert statistics.analysts["recent_analysis"].revised == 16
    assert statistics.tool_calls == {"Item-CF": 16}
    assert (statistics.approved, statistics.criticized) == (0, 16)
    assert statistics.plans == {'["user_profile", "recent_analysis"]': 16}
    assert result.metrics["hr1"] == 0.5
    assert (result.metrics["kept"], result.metrics["trajectories"]) == (8, 16)


def test_the_report_has_table_3_the_hit_rates_and_the_agents(classroom: Classroom, tmp_path: Path) -> None:
    put(classroom, [1, 1, 3, None] * 4, cost=0.25)
    result = run(classroom)
    assert result.artifact is not None
    assert result.metrics["cost"] == 4.0
    page = (fetch(classroom.store, result.artifact, tmp_path / "out") / REPORT).read_text()
    for line in (
        "| training task | samples | classic | long_term | characters an answer |",
        "| SFT-Full | 8 | 4 | 4 |",
        "| SFT-w/o Tool | 8 |",
        "| SFT-w/o Planner | 8 |",
        "| SFT-w/o Reflector | 8 |",
        "| SFT-Planner | 8 |",
        "| classic | 8 | 4 | 50.0 | 75.0 | 75.0 | 66.7 |",
        "| all | 16 | 8 | 50.0 |",
        "| recent_analysis | 16 | 16 | 0 |",
        "Reflections: 0 approved, 16 asked for revisions. Look-ups: Item-CF 16",
        "cost 4;",
    ):
        assert line in page


def test_what_came_of_each_run_is_kept_for_comparisons(classroom: Classroom, tmp_path: Path) -> None:
    put(classroom, [1, 1, 3, None] * 4, seconds=2.5)
    item = work_items(classroom.tasks, 2)[0]
    refused = record(item, 1, trajectory=None, failure="too long", ranked=False)
    classroom.work.put(item.name, refused.model_dump_json(by_alias=True).encode())
    result = run(classroom)
    assert result.artifact is not None
    runs = list(read_jsonl(fetch(classroom.store, result.artifact, tmp_path / "out") / RUNS, RunResult))
    assert [(each.task_id, each.pass_index) for each in runs] == [
        (item.task.task_id, item.pass_index) for item in work_items(classroom.tasks, 2)
    ]
    assert [each.rank for each in runs] == [None, 1, 3, None, *[1, 1, 3, None] * 3]
    assert [each.refused for each in runs] == [True, *[False] * 15]
    assert {each.seconds for each in runs[1:]} == {2.5}


def test_refused_runs_are_counted_as_misses_and_left_out(classroom: Classroom) -> None:
    put(classroom, [1] * 16)
    item = work_items(classroom.tasks, 2)[0]
    refused = record(item, 1, trajectory=None, failure="too long", ranked=False)
    classroom.work.put(item.name, refused.model_dump_json(by_alias=True).encode())
    result = run(classroom)
    assert (result.metrics["trajectories"], result.metrics["refused"], result.metrics["hr1"]) == (15, 1, 0.9375)


@pytest.mark.bad_input
def test_missing_trajectories_are_named(classroom: Classroom) -> None:
    put(classroom, [1] * 16)
    classroom.work.delete(work_items(classroom.tasks, 2)[5].name)
    failure = failure_of(classroom)
    assert failure.reason is Reason.ARTIFACT_NOT_FOUND
    assert "1 of 16 trajectories are missing" in failure.message
    assert f"task {classroom.tasks[5].task_id}, pass 0" in failure.message


@pytest.mark.bad_input
def test_a_damaged_part_is_named(classroom: Classroom) -> None:
    put(classroom, [1] * 16)
    name = work_items(classroom.tasks, 2)[2].name
    for damaged in (b"{", record(work_items(classroom.tasks, 2)[3], 1).model_dump_json(by_alias=True).encode()):
        classroom.work.put(name, damaged)
        failure = failure_of(classroom)
        assert failure.reason is Reason.ARTIFACT_CORRUPTED
        assert name in failure.message


@pytest.mark.bad_input
def test_zero_kept_says_how_close_it_was_and_what_to_do(classroom: Classroom) -> None:
    put(classroom, [3] * 16)
    failure = failure_of(classroom)
    assert failure.reason is Reason.NOTHING_KEPT
    assert "none of 16 trajectories passed the filter HitAt1 (HR@1 0.000, HR@3 1.000, HR@5 1.000" in failure.message
    assert "raise passes or tasks" in failure.message


def test_without_a_filter_misses_are_kept(classroom: Classroom) -> None:
    put(classroom, [3] * 16, kept=True)
    assert run(classroom, filter=TrajectoryFilter.NONE).metrics["kept"] == 16


@pytest.mark.bad_input
def test_all_refused_says_why(classroom: Classroom) -> None:
    put(classroom, [1] * 16, trajectory=None, failure="maximum context length is 64 tokens")
    failure = failure_of(classroom)
    assert failure.reason is Reason.NOTHING_KEPT
    assert "maximum context length is 64 tokens" in failure.message


@pytest.mark.bad_input
def test_mostly_garbage_is_not_made_an_artifact(classroom: Classroom) -> None:
    put(classroom, [1] * 16, outputs=10, invalid=6)
    failure = failure_of(classroom)
    assert failure.reason is Reason.LLM_OUTPUT_INVALID
    assert "'teacher-1' returned 96 of 160 answers" in failure.message
