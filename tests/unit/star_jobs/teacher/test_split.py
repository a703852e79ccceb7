"""The teacher on the test tasks: measured (paper Tables 1 and 2), never trained on."""

from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind
from star_contracts.data import Trajectory
from star_contracts.settings import EvaluationSettings, TaskSplit, TrajectoryFilter, Variant
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.evaluate.suite import choose_suite
from star_jobs.sft.data import Limits, build
from star_jobs.storage import ObjectStore, fetch, read_jsonl
from star_jobs.teacher.collect import TRAJECTORIES
from star_jobs.teacher.records import FOLDER
from star_jobs.teacher.worklist import chosen_tasks
from tests.support import world
from tests.support.fakellm import fake_llm
from tests.support.s3 import S3Server
from tests.unit.star_jobs.teacher.conftest import Classroom
from tests.unit.star_jobs.teacher.test_generate import run

MEASURED = {"split": TaskSplit.TEST, "passes": 1, "filter": TrajectoryFilter.NONE}


@pytest.fixture
def examined(s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path, classroom: Classroom) -> Classroom:
    """A dataset with three test tasks a type and no training task."""
    test = world.tasks(3)
    folder = world.write_dataset(tmp_path / "examined", test)
    dataset = world.publish(store, f"{uri}/examined", folder, ArtifactKind.DATASET)
    return Classroom(s3_server, store, uri, dataset, classroom.signals, test)


def test_the_teacher_is_measured_on_test_tasks_and_no_student_takes_its_runs(
    examined: Classroom, tmp_path: Path
) -> None:
    with fake_llm() as llm:
        run(examined.spec(examined.generate(llm.endpoint(), **MEASURED)))
    assert len(examined.work.list(FOLDER)) == len(examined.tasks) == 6
    result = run(examined.spec(examined.collect(**MEASURED)))
    assert {"hr1", "hr3", "hr5", "hrAvg"} <= set(result.metrics)
    assert result.artifact is not None
    runs = list(read_jsonl(fetch(examined.store, result.artifact, tmp_path / "out") / TRAJECTORIES, Trajectory))
    assert {each.task_id for each in runs} == {task.task_id for task in examined.tasks}
    with pytest.raises(TerminalFailure, match="no such training task"):
        build(runs, {}, {}, Variant.FULL, Limits(max_length=10_000, count=len))


@pytest.mark.parametrize("samples", [1, 3, 10])
def test_fewer_test_tasks_are_those_of_an_evaluation_with_as_many_of_each_type(tmp_path: Path, samples: int) -> None:
    dataset = Dataset(world.write_dataset(tmp_path, world.tasks(10)))
    measured = choose_suite(dataset, EvaluationSettings(types=world.TYPES, samples=samples)).tasks
    assert chosen_tasks(dataset, TaskSplit.TEST, samples * len(world.TYPES)) == list(measured)


def test_what_does_not_divide_by_types_goes_to_the_first_ones(tmp_path: Path) -> None:
    dataset = Dataset(world.write_dataset(tmp_path, world.tasks(10)))
    chosen = chosen_tasks(dataset, TaskSplit.TEST, 5)
    assert [task.type for task in chosen] == [world.TYPES[0]] * 3 + [world.TYPES[1]] * 2
