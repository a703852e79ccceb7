"""The stage on a real store, with the real MovieLens-100K."""

import json
from collections import Counter
from pathlib import Path

import pytest

from star_contracts.artifact import Manifest
from star_contracts.data import TaskType
from star_contracts.errors import Reason
from star_contracts.job import PrepareDataset
from star_contracts.result import ExitCode
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings
from star_jobs.datasets.snapshot import Dataset
from star_jobs.storage import ObjectStore
from tests.support.jobs import JobRunner
from tests.support.movielens import FILES, movielens_100k
from tests.unit.star_jobs.datasets.test_readers import bench, bench_task


def stage(source: str, **changes: object) -> PrepareDataset:
    values: dict[str, object] = {
        "format": DatasetFormat.MOVIELENS,
        "source": source,
        "tasks": TaskSettings(candidates=20, train=250, test=50),
        "leakage": LeakageRules(),
    }
    return PrepareDataset.model_validate(values | changes)


def upload(store: ObjectStore, source: str, folder: Path) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, f"{source}/{path.relative_to(folder).as_posix()}")
    return source


@pytest.fixture
def source(store: ObjectStore, uri: str) -> str:
    return upload(store, f"{uri}/source", movielens_100k())


def test_movielens_100k_becomes_a_dataset(jobs: JobRunner, source: str) -> None:
    done = jobs.run(stage(source))
    assert done.result.metrics == {
        "users": 943,
        "items": 1682,
        "interactions": 100_000,
        "trainTasks": 250,
        "testTasks": 250,
        "malformed": 0,
    }
    dataset = Dataset(jobs.fetch(done.artifact))
    assert len(dataset.items) == 1682
    for split in ("train", "test"):
        tasks = dataset.tasks(split)
        assert Counter(task.type for task in tasks) == dict.fromkeys(TaskType, 50)
        assert dataset.ground_truth(split).keys() == {task.task_id for task in tasks}
        assert all(dataset.ground_truth(split)[task.task_id] in task.candidates for task in tasks)
        assert all(item in dataset.items for task in tasks for item in task.candidates)
        times = [[entry.timestamp for entry in task.history] for task in tasks]
        assert all(moments == sorted(moments) for moments in times)
    first = dataset.tasks("train", limit=5)
    assert {task.type for task in first} == set(TaskType), "any beginning of the training file is balanced"
    assert len(dataset.tasks("test", types=[TaskType.CLASSIC], limit=7)) == 7


def test_no_interaction_of_the_snapshot_answers_a_task(jobs: JobRunner, source: str) -> None:
    dataset = Dataset(jobs.fetch(jobs.run(stage(source)).artifact))
    pairs = set(dataset.interactions().select("user_id", "item_id").iter_rows())
    reviews = [json.loads(line) for line in (dataset.folder / "tables" / "review.jsonl").read_text().splitlines()]
    assert pairs == {(review["user_id"], review["item_id"]) for review in reviews}
    for split in ("train", "test"):
        truth = dataset.ground_truth(split)
        assert not any((task.user_id, truth[task.task_id]) in pairs for task in dataset.tasks(split))


def test_the_same_settings_give_the_same_bytes(jobs: JobRunner, source: str, store: ObjectStore) -> None:
    manifests = [
        Manifest.model_validate_json(
            store.get_bytes(f"{jobs.run(stage(source), output=name).artifact.uri}/manifest.json")
        )
        for name in ("one", "two")
    ]
    assert manifests[0].files == manifests[1].files


def test_agentrecbench_becomes_a_dataset(jobs: JobRunner, store: ObjectStore, uri: str, tmp_path: Path) -> None:
    items = ["B1", "B2", "17", "y1"]
    amazon = [
        {
            "user_id": f"u{u}",
            "item_id": item,
            "stars": 4.0,
            "text": f"{u} on {item}",
            "timestamp": 1_500_000_000_000 + 1000 * n,
        }
        for u in range(12)
        for n, item in enumerate(items[u % 2 :])
    ]
    folder = tmp_path / "bench"
    folder.mkdir()
    bench(folder, amazon)
    bench_task(folder, "task/classic/amazon", {"user_id": "u1", "candidate_list": ["B1", "17"]}, "17")
    wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=2, train=0, test=5)
    done = jobs.run(stage(upload(store, f"{uri}/bench", folder), format=DatasetFormat.AGENT_REC_BENCH, tasks=wanted))
    dataset = Dataset(jobs.fetch(done.artifact))
    (task,) = dataset.tasks("test")
    assert [entry.text for entry in task.history] == ["1 on B2"]
    assert dataset.ground_truth("test") == {task.task_id: "17"}
    reviews = [json.loads(line) for line in (dataset.folder / "tables" / "review.jsonl").read_text().splitlines()]
    assert all(review["text"] == f"{review['user_id'][1:]} on {review['item_id']}" for review in reviews)
    assert not [r for r in reviews if (r["user_id"], r["item_id"]) in (("u1", "17"), ("u1", "y1"))]


@pytest.mark.bad_input
def test_a_truncated_upload_is_refused(jobs: JobRunner, source: str, store: ObjectStore) -> None:
    data = (movielens_100k() / FILES[0]).read_bytes()
    store.put_bytes(f"{source}/{FILES[0]}", data[: len(data) // 2])
    done = jobs.run(stage(source))
    assert done.code == ExitCode.TERMINAL
    assert done.error.reason == Reason.INVALID_DATASET
    assert "ends in the middle of line" in done.error.message
    assert store.find_bytes(f"{jobs.uri}/prepare-dataset/manifest.json") is None


@pytest.mark.bad_input
def test_an_empty_source_is_named(jobs: JobRunner, uri: str) -> None:
    done = jobs.run(stage(f"{uri}/nothing-here"))
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.INVALID_DATASET)
    assert f"{uri}/nothing-here" in done.error.message


@pytest.mark.bad_input
def test_the_wrong_format_is_named(jobs: JobRunner, source: str) -> None:
    done = jobs.run(stage(source, format=DatasetFormat.AGENT_REC_BENCH))
    assert done.error.reason == Reason.INVALID_DATASET
    assert "spec.format" in done.error.message


@pytest.mark.bad_input
def test_types_asked_of_a_snapshot_without_them_are_named(jobs: JobRunner, source: str) -> None:
    wanted = TaskSettings(types=(TaskType.CLASSIC,), train=10, test=5)
    dataset = Dataset(jobs.fetch(jobs.run(stage(source, tasks=wanted)).artifact))
    with pytest.raises(Exception, match="no test tasks of type long_term"):
        dataset.tasks("test", types=[TaskType.LONG_TERM])
