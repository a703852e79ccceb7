"""The three platforms of the AgentRecBench release, in their own schemas, from tables to a dataset's files."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from star_contracts.data import TaskType
from star_contracts.job import PrepareDataset
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings
from star_jobs.datasets import agentrecbench, lines
from star_jobs.datasets.faults import Fault, FileReport, Malformed
from star_jobs.datasets.plan import make_plan
from star_jobs.datasets.platforms import TIME_COLUMNS, rating, ratings, unix_time, unix_times
from star_jobs.datasets.prepare import write_snapshot
from star_jobs.datasets.snapshot import Dataset
from star_jobs.datasets.source import SourceTables
from star_jobs.datasets.tables import interactions_frame
from star_jobs.errors import TerminalFailure
from tests.support import agentrecbench as bench
from tests.support.agentrecbench import Platform, Size

platforms = pytest.mark.parametrize("platform", Platform)
SIZE = Size(users=30, items=80, reviews=900)
TASKS = TaskSettings(types=(TaskType.CLASSIC, TaskType.SHORT_TERM), candidates=10, train=20, test=5, history_length=15)


def prepare(source: Path, output: Path, tasks: TaskSettings = TASKS) -> tuple[Dataset, dict[str, float]]:
    stage = PrepareDataset(
        format=DatasetFormat.AGENT_REC_BENCH, source="s3://test/source", tasks=tasks, leakage=LeakageRules()
    )
    tables = agentrecbench.read(source, 0.2)
    metrics = write_snapshot(output, tables, make_plan(tables, stage.tasks, stage.leakage), stage)
    return Dataset(output), metrics


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(tables: SourceTables) -> tuple[Any, ...]:
    """Everything a source says, for comparison."""
    all_rows = np.arange(len(tables.interactions.items))
    return (
        interactions_frame(tables.interactions, all_rows).sort("row").rows(),
        [(row, text) for b in tables.texts() for row, text in zip(b.rows.tolist(), b.texts, strict=True)],
        dict(tables.items),
        dict(tables.users),
        tables.files,
        [tables.platforms.names[code] for code in tables.platforms.codes],
    )


@platforms
def test_a_release_is_read_as_it_was_written(platform: Platform, tmp_path: Path) -> None:
    folder = bench.write_source(tmp_path, platform, SIZE)
    tables = agentrecbench.read(folder, 0.0)
    reviews = list(bench.reviews(platform, SIZE))
    found = interactions_frame(tables.interactions, np.arange(SIZE.reviews)).sort("row")
    assert found["user_id"].to_list() == [review["user_id"] for review in reviews]
    assert found["item_id"].to_list() == [review["item_id"] for review in reviews]
    assert found["rating"].to_list() == [review["stars"] for review in reviews]
    assert [bench.shown_time(platform, t) for t in found["timestamp"]] == [
        review.get("timestamp") or review.get("date") or review["date_added"] for review in reviews
    ]
    assert [text for block in tables.texts() for text in block.texts] == [review["text"] for review in reviews]
    assert (sorted(tables.items), len(tables.items)) == (list(tables.items), SIZE.items)
    assert (sorted(tables.users), len(tables.users)) == (list(tables.users), SIZE.users)
    assert tables.platforms.names == (platform.value,)
    assert tables.files == {
        name: FileReport(count, {}, {})
        for name, count in (("item.json", SIZE.items), ("user.json", SIZE.users), ("review.json", SIZE.reviews))
    }


def test_items_and_people_are_told_of_in_each_platforms_words(tmp_path: Path) -> None:
    said = {}
    for platform in Platform:
        tables = agentrecbench.read(bench.write_source(tmp_path / platform, platform, SIZE), 0.0)
        item = tables.items[bench.item_id(platform, 7)]
        said[platform] = (item.title, item.categories, item.attributes, tables.users[bench.user_id(platform, 3)])
    assert said == {
        Platform.AMAZON: (
            "Cable 7 — 2 m",
            ("Industrial & Scientific", "Shelf 2"),
            {"average_rating": "4.5", "rating_number": "107", "store": "Acme", "price": "9.99", "source": "amazon"},
            {},
        ),
        Platform.GOODREADS: (
            "Owl Moon 7",
            ("to-read", "shelf-2"),
            {
                "authors": '[{"author_id": "167915", "role": ""}]',
                "average_rating": "4.18",
                "ratings_count": "70",
                "text_reviews_count": "7",
                "publication_year": "1997",
                "source": "goodreads",
            },
            {},
        ),
        Platform.YELP: (
            "Joe's 7",
            ("Pizza", "Italian"),
            {"stars": "4.0", "review_count": "7", "city": "Tampa", "state": "FL", "source": "yelp"},
            {
                "name": "Ann 3",
                "review_count": "3",
                "average_stars": "3.91",
                "yelping_since": "2007-01-25 16:47:26",
                "fans": "3",
            },
        ),
    }


@platforms
def test_no_file_of_a_dataset_gives_a_ground_truth_away(platform: Platform, tmp_path: Path) -> None:
    """The leak rules once more, on what is written: histories, tables and interactions, for all tasks."""
    source = bench.write_source(tmp_path / "source", platform, SIZE)
    dataset, _ = prepare(source, tmp_path / "dataset")
    wrote = {(r["user_id"], r["item_id"]): r["text"] for r in bench.reviews(platform, SIZE)}
    table = records(dataset.folder / "tables" / "review.jsonl")
    assert all(review["text"] == wrote[review["user_id"], review["item_id"]] for review in table)
    safe = dataset.interactions()
    assert set(safe.select("user_id", "item_id", "timestamp").rows()) == {
        (review["user_id"], review["item_id"], review["timestamp"]) for review in table
    }
    whole = agentrecbench.read(source, 0.0).interactions
    times = {
        (user, item): time
        for user, item, time, *_ in interactions_frame(whole, np.arange(len(whole.items))).iter_rows()
    }
    test_users = {task.user_id for task in dataset.tasks("test")}
    test_answers = set(dataset.ground_truth("test").values())
    for split in ("train", "test"):
        truth = dataset.ground_truth(split)
        for task in dataset.tasks(split):
            answer, cut = truth[task.task_id], times[task.user_id, truth[task.task_id]]
            assert answer in task.candidates
            assert all(event.timestamp <= cut and event.item_id != answer for event in task.history)
            assert all(event.text == wrote[task.user_id, event.item_id] for event in task.history)
            of_user = [review for review in table if review["user_id"] == task.user_id]
            assert all(r["item_id"] != answer and r["timestamp"] <= cut for r in of_user)
            if split == "train":
                assert task.user_id not in test_users
                assert not test_answers & {answer, *task.candidates, *(event.item_id for event in task.history)}
    assert Counter(task.type for task in dataset.tasks("train")) == {TaskType.CLASSIC: 10, TaskType.SHORT_TERM: 10}


@platforms
def test_the_writer_of_large_tables_keeps_the_schema(platform: Platform, tmp_path: Path) -> None:
    size = Size(users=20, items=30)
    folder = bench.write_source(tmp_path, platform, size)
    (small,) = [review for review, _ in zip(bench.reviews(platform, size), range(1), strict=False)]
    count = bench.stream_reviews(folder / "review.json", platform, size, 200_000, text_chars=300)
    assert (folder / "review.json").stat().st_size >= 200_000
    lines_written = records(folder / "review.json")
    assert len(lines_written) == count
    assert {tuple(line) for line in lines_written} == {tuple(small)}
    tables = agentrecbench.read(folder, 0.0)
    assert (len(tables.interactions.items), tables.faults.total()) == (count, 0)


# One line in a table is read by polars, a doubtful one by hand: both must say the same of any line.
bad_values = st.sampled_from(
    [None, "", " ", True, 0, -1, 7, 4.5, "4", "x", [], ["B"], {"a": 1}, 1e300, 10**30, "NaN", "é"]
)
times = st.sampled_from(
    ["2018-07-07 22:09:11", "Fri Nov 10 08:12:00 -0800 2017", "Mon Nov 10 08:12:00 -0800 2017", "now"]
)
changes = st.dictionaries(
    st.sampled_from(["user_id", "item_id", "stars", "timestamp", "date", "date_added"]),
    bad_values | times,
    max_size=2,
)
odd_lines = st.sampled_from(
    ["nope", "[1]", "null", "{}", '{"user_id": "u"}', " ", '{"a": NaN}', '{"user_id":"\\ud83d"}']
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Platform.AMAZON, [{"user_id": 1e300}, {"user_id": 100000.0}, {"item_id": 1e5}], 0)
@given(st.sampled_from(Platform), st.lists(changes | odd_lines, min_size=1, max_size=40), st.integers(0, 5))
def test_reading_by_table_and_by_line_says_the_same(
    tmp_path: Path, platform: Platform, edits: list[dict[str, Any] | str], seed: int
) -> None:
    size = Size(users=6, items=20, reviews=60, seed=seed)
    folder = bench.write_source(tmp_path, platform, size)
    reviews = [json.dumps(review) for review in bench.reviews(platform, size)]
    for at, edit in enumerate(edits):
        place = (7 * at + seed) % len(reviews)
        text = reviews[place]
        reviews[place] = (
            edit if isinstance(edit, str) else json.dumps({**json.loads(text), **edit}) if text[0] == "{" else text
        )
    (folder / "review.json").write_text("".join(line + "\n" for line in reviews))
    with mock.patch.object(lines, "ONE_BY_ONE", 10**9):
        by_line = contents(agentrecbench.read(folder, 0.99))
    with mock.patch.object(lines, "ONE_BY_ONE", 1):
        by_table = contents(agentrecbench.read(folder, 0.99))
    assert by_table == by_line


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000), st.sampled_from(Platform))
def test_one_parser_a_platform_and_a_table_of_times_agree(seconds: int, platform: Platform) -> None:
    name = {Platform.AMAZON: "timestamp", Platform.YELP: "date", Platform.GOODREADS: "date_added"}[platform]
    record = {name: bench.shown_time(platform, seconds)}
    assert unix_time(record) == seconds
    frame = pl.read_ndjson(json.dumps(record).encode(), schema=TIME_COLUMNS)
    assert frame.select(unix_times()).item() == seconds


def test_times_in_each_platforms_own_zone() -> None:
    expected = int(datetime(2017, 11, 10, 16, 12, tzinfo=UTC).timestamp())
    assert unix_time({"date_added": "Fri Nov 10 08:12:00 -0800 2017"}) == expected
    assert unix_time({"date": "2017-11-10 16:12:00"}) == expected
    assert unix_time({"timestamp": expected * 1000 + 999}) == expected
    for bad in (
        {},
        {"timestamp": "x"},
        {"timestamp": True},
        {"date": "2017"},
        {"date_added": "2017"},
        {"timestamp": 10**20},
    ):
        with pytest.raises(Malformed):
            unix_time(bad)


def test_no_stars_on_goodreads_are_no_rating() -> None:
    unrated = {"stars": 0, "date_added": "Fri Nov 10 08:12:00 -0800 2017"}
    assert rating(unrated) is None
    assert rating({"stars": 0, "timestamp": 5}) == 0.0
    assert rating({"stars": "4.5"}) == 4.5
    frame = pl.DataFrame({"stars": [0.0, 0.0, 4.5, 1e9], "date_added": ["x", None, None, None]})
    assert str(frame.select(ratings()).to_series().to_list()) == "[nan, 0.0, 4.5, None]"


def spoil(folder: Path) -> None:
    """One fault of each kind, in tables large enough that each is under a tenth."""
    platform = Platform.AMAZON
    good = [bench.task(platform, who, [who, 40, 41]) for who in range(30)]
    for n, task in enumerate(good):
        bench.write_task(folder, "task/classic/amazon", task, bench.item_id(platform, n), n if n < 20 else 100 + n)
    twice = {**good[0], "candidate_list": [*good[0]["candidate_list"], bench.item_id(platform, 40)]}
    bench.write_task(folder, "task/classic/amazon", twice, bench.item_id(platform, 0), 20)
    foreign = {**good[0], "candidate_list": [bench.item_id(platform, 0), "gone"]}
    bench.write_task(folder, "task/classic/amazon", foreign, bench.item_id(platform, 0), 21)
    bench.write_task(folder, "task/classic/amazon", good[0], "not there", 22)
    (folder / "task/classic/amazon/tasks/task_23.json").write_text("{")
    bench.write_task(
        folder, "task/classic/amazon", {**good[0], "candidate_list": [bench.item_id(platform, 0)]}, "x", 24
    )
    bench.write_task(folder, "task/evolving/amazon", good[0], bench.item_id(platform, 0), 25)
    with (folder / "item.json").open("a") as out:
        out.write(json.dumps({"item_id": "nameless"}) + "\n" + json.dumps(bench.item(platform, 0)) + "\n")
    with (folder / "user.json").open("a") as out:
        out.write(json.dumps(bench.user(platform, 0)) + "\n")
    first = (folder / "review.json").read_text().splitlines()[0]
    with (folder / "review.json").open("a") as out:
        unknown = {**json.loads(first), "item_id": "gone"}
        untimed = {**json.loads(first), "timestamp": "soon"}
        out.write("\n".join([first, "nope", json.dumps(unknown), json.dumps(untimed)]) + "\n")


def test_every_fault_is_counted_by_reason_and_reported(tmp_path: Path) -> None:
    source = bench.write_source(tmp_path / "source", Platform.AMAZON, SIZE)
    spoil(source)
    tasks = TaskSettings(types=(TaskType.CLASSIC,), candidates=3, train=0, test=50)
    dataset, metrics = prepare(source, tmp_path / "dataset", tasks)
    faults = {
        "badValue": 1,
        "candidateCount": 1,
        "duplicateCandidate": 1,
        "duplicateItem": 1,
        "duplicateReview": 1,
        "duplicateUser": 1,
        "missingField": 1,
        "noAnswer": 1,
        "notJson": 1,
        "unknownItem": 2,
        "unknownTaskType": 1,
        "unreadableTask": 1,
    }
    assert {name: metrics[name] for name in faults} == faults
    assert set(faults) | {"wrongColumns"} == {fault.value for fault in Fault}
    assert metrics["malformed"] == sum(faults.values())
    assert (metrics["testTasks"], metrics["interactions"]) == (30, SIZE.reviews)
    stats = json.loads((dataset.folder / "stats.json").read_text())
    assert stats["files"]["review.json"] == {
        "lines": SIZE.reviews + 4,
        "faults": {"badValue": 1, "duplicateReview": 1, "notJson": 1, "unknownItem": 1},
        "examples": {
            "badValue": ["line 904: timestamp 'soon' is not a number"],
            "duplicateReview": ["line 901: a review of the same user, item and second came before"],
            "notJson": ["line 902: not JSON: Expecting value at column 1"],
            "unknownItem": ["line 903: item 'gone' is not in item.json"],
        },
    }
    assert stats["files"]["item.json"]["examples"]["duplicateItem"] == ["line 82: item 'B000000000' is there twice"]
    assert stats["files"]["task files"]["lines"] == 36
    assert list(stats["files"]["task files"]["examples"]["duplicateCandidate"]) == [
        "task/classic/amazon/tasks/task_20.json: candidate 'B000000040' is there twice"
    ]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("review.json", r"review\.json: 4 of 904 lines are malformed \(0\.4%, allowed 0\.1%; .*duplicateReview 1"),
        ("task files", r"task files: 6 of 36 files are malformed .*first is task/classic/amazon/tasks/task_20\.json"),
        ("item.json", r"item\.json: 2 of 82 lines are malformed .*line 81: title or name is missing"),
        ("user.json", r"user\.json: 1 of 31 lines are malformed .*duplicateUser 1\).*line 31: user"),
    ],
)
def test_each_file_is_held_to_the_limit(file: str, says: str, tmp_path: Path) -> None:
    """Each file alone is spoilt: the others are put back."""
    whole = bench.write_source(tmp_path / "whole", Platform.AMAZON, SIZE)
    folder = bench.write_source(tmp_path / "spoilt", Platform.AMAZON, SIZE)
    spoil(folder)
    for name in {"review.json", "item.json", "user.json"} - {file}:
        (folder / name).write_bytes((whole / name).read_bytes())
    for path in [] if file == "task files" else list(folder.rglob("task_*.json")):
        path.unlink()
    with pytest.raises(TerminalFailure, match=says):
        agentrecbench.read(folder, 0.001)
