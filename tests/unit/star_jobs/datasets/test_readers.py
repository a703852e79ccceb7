"""The source formats: what is read, and what is said about files that cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from star_contracts.data import TaskType
from star_contracts.errors import Reason
from star_jobs.datasets import agentrecbench, movielens
from star_jobs.datasets.faults import Fault, Malformed
from star_jobs.datasets.platforms import unix_time
from star_jobs.datasets.source import SourceTables
from star_jobs.datasets.tables import interactions_frame
from star_jobs.errors import TerminalFailure
from tests.support.movielens import FILES, movielens_100k

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="latin-1" if name == "u__item" else "utf-8")
    return folder


def atomic(folder: Path, inter: str, item: str = "1\tHeat\t1995\tAction Crime\n2\tCopycat\t1995\tThriller\n") -> Path:
    return write(folder, ml__inter=INTER + inter, ml__item=ITEM + item)


def rows(tables: SourceTables) -> list[tuple[Any, ...]]:
    """(line, user, item, time, rating) in source order."""
    histories = tables.interactions
    frame = interactions_frame(histories, np.arange(len(histories.items))).sort("row")
    return frame.select(pl.col("row") + 1, "user_id", "item_id", "timestamp", "rating").rows()


def texts(tables: SourceTables) -> list[tuple[int, str]]:
    """(line, text) of every review."""
    return [(row + 1, text) for b in tables.texts() for row, text in zip(b.rows.tolist(), b.texts, strict=True)]


def test_atomic_files(tmp_path: Path) -> None:
    folder = atomic(tmp_path, "7\t1\t3\t881250949\n8\t2\t4.5\t881250950\n")
    write(folder, ml__user="user_id:token\tage:token\tgender:token\tzip_code:token\n7\t24\tM\t85711\n")
    tables = movielens.read(folder, 0.0)
    assert rows(tables) == [(2, "7", "1", 881250949, 3.0), (3, "8", "2", 881250950, 4.5)]
    assert tables.items["1"].to_json_dict() == {
        "itemId": "1",
        "title": "Heat",
        "categories": ["Action", "Crime"],
        "attributes": {"year": "1995"},
    }
    assert tables.users == {"7": {"age": "24", "gender": "M"}}, "a postal code is nobody's business"


def test_original_files_say_the_same(tmp_path: Path) -> None:
    flags = "|".join("1" if n in (1, 6) else "0" for n in range(19))
    write(
        tmp_path,
        u__data="7\t1\t3\t881250949\n",
        u__item=f"1|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n",
        u__user="7|24|M|technician|85711\n",
    )
    tables = movielens.read(tmp_path, 0.0)
    assert rows(tables) == [(1, "7", "1", 881250949, 3.0)]
    item = tables.items["1"]
    assert (item.title, item.categories, item.attributes) == ("Misérables, Les", ("Action", "Crime"), {"year": "1995"})
    assert tables.users == {"7": {"age": "24", "gender": "M", "occupation": "technician"}}


def test_the_real_thing() -> None:
    tables = movielens.read(movielens_100k(), 0.0)
    assert (len(tables.interactions.items), len(tables.items), len(tables.users)) == (100_000, 1682, 943)
    assert tables.items["50"].title == "Star Wars"


def test_malformed_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    good = "".join(f"{n}\t1\t3\t{881250949 + n}\n" for n in range(100))
    bad = "7\t1\tfour\t1\n7\t1\t3\n7\t99\t3\t1\n\t1\t3\t1\n7\t1\tnan\t1\n"
    tables = movielens.read(atomic(tmp_path, good + bad), 0.05)
    assert len(tables.interactions.items) == 100
    assert tables.faults == {Fault.BAD_VALUE: 2, Fault.WRONG_COLUMNS: 1, Fault.UNKNOWN_ITEM: 1, Fault.MISSING_FIELD: 1}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("7\t1\tfour\t1", "line 4: rating 'four' is not a number"),
        ("7\t1\t3", "line 4: 3 columns where 4 are expected"),
        ("7\t99\t3\t1", "line 4: item '99' is not in the item file"),
        ("\t1\t3\t1", "line 4: user_id is empty"),
        ("7\t1\tinf\t1", "line 4: rating 'inf' is not a finite number"),
    ],
)
def test_too_many_malformed_lines_name_file_line_and_fault(line: str, says: str, tmp_path: Path) -> None:
    folder = atomic(tmp_path, f"7\t1\t3\t1\n7\t2\t3\t1\n{line}\n8\t1\t3\t1\n")
    with pytest.raises(TerminalFailure, match=r"ml\.inter: 1 of 4 lines are malformed") as failure:
        movielens.read(folder, 0.1)
    assert failure.value.reason is Reason.INVALID_DATASET
    assert says in failure.value.message
    assert "maxMalformed" in failure.value.message


@pytest.mark.bad_input
def test_a_file_cut_in_the_middle_of_a_line_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    folder = atomic(tmp_path, "".join(f"{n}\t1\t3\t{n}\n" for n in range(1000)) + "7\t1\t")
    with pytest.raises(TerminalFailure, match=r"ml\.inter ends in the middle of line 1002 .*upload it again"):
        movielens.read(folder, 0.5)


def test_a_whole_last_line_without_its_end_is_one_fault_among_others(tmp_path: Path) -> None:
    """Files that were joined with line ends have none at their own end."""
    whole = "".join(f"{n}\t1\t3\t{950_000_000 + n}\n" for n in range(1000))
    folder = atomic(tmp_path, whole + "7\tunknown\t3\t950000000")
    source = movielens.read(folder, 0.5)
    assert len(source.interactions.items) == 1000


def test_a_folder_named_as_a_table_is_none(tmp_path: Path) -> None:
    folder = atomic(tmp_path, "".join(f"{n}\t1\t3\t{950_000_000 + n}\n" for n in range(10)))
    for name in ("x.item", "x.inter", "x.user"):
        (folder / name).mkdir()
    assert len(movielens.read(folder, 0.5).interactions.items) == 10


@pytest.mark.bad_input
def test_a_truncated_item_table_is_noticed_by_the_interactions(tmp_path: Path) -> None:
    for name in FILES:
        data = (movielens_100k() / name).read_bytes()
        if name.endswith(".item"):
            data = b"".join(data.splitlines(keepends=True)[:800])
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TerminalFailure, match=r"ml-100k\.inter: \d+ of 100000 lines .* is not in the item file"):
        movielens.read(tmp_path, 0.01)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"ml__item": ITEM + "1\tHeat\t1995\tx\n"}, "one file of ratings"),
        ({"ml__inter": INTER + "1\t1\t1\t1\n"}, "one file of films"),
        ({"ml__inter": "", "ml__item": ITEM + "1\tHeat\t1995\tx\n"}, "lacks user_id, item_id, rating, timestamp"),
        ({"ml__inter": INTER, "ml__item": ITEM + "1\tHeat\t1995\tx\n"}, "holds no data"),
        ({"ml__inter": "user,item\n1,2\n", "ml__item": ITEM + "1\tHeat\t1995\tx\n"}, "tab-separated"),
        ({"a__inter": INTER, "b__inter": INTER, "ml__item": ITEM + "1\tHeat\t1995\tx\n"}, "holds a.inter, b.inter"),
    ],
)
def test_missing_empty_and_ambiguous_files_are_named(files: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(TerminalFailure, match=says) as failure:
        movielens.read(write(tmp_path, **files), 0.01)
    assert failure.value.reason is Reason.INVALID_DATASET


BENCH_ITEMS = [
    {"item_id": "B1", "title": "Cable", "categories": ["Tools", "Wire"], "average_rating": 4.5, "source": "amazon"},
    {"item_id": "B2", "title": "Lamp", "main_category": "Home", "price": "9.99", "source": "amazon"},
    {
        "item_id": "17",
        "title": "Owl Moon",
        "popular_shelves": [{"count": "3", "name": "picture-books"}],
        "source": "goodreads",
    },
    {"item_id": "y1", "name": "Joe's", "categories": "Pizza, Italian", "stars": 4.0, "source": "yelp"},
]
BENCH_REVIEWS = [
    {"user_id": "u1", "item_id": "B1", "stars": 5.0, "text": "good", "timestamp": 1588687728923, "source": "amazon"},
    {"user_id": "u2", "item_id": "17", "stars": 4, "text": "read", "date_added": "Fri Nov 10 08:12:00 -0800 2017"},
    {"user_id": "u3", "item_id": "y1", "stars": 3.0, "text": "ate", "date": "2018-07-07 22:09:11"},
]


def bench(folder: Path, reviews: list[dict[str, Any]] | None = None) -> Path:
    users = [{"user_id": "u1", "source": "amazon"}, {"user_id": "u3", "name": "Ann", "review_count": 5}]
    for name, records in (("item", BENCH_ITEMS), ("review", reviews or BENCH_REVIEWS), ("user", users)):
        (folder / f"{name}.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def bench_task(folder: Path, where: str, task: dict[str, Any], truth: str, number: int = 0) -> None:
    for kind, value in (("tasks/task", task), ("groundtruth/groundtruth", {"ground truth": truth})):
        path = folder / where / f"{kind}_{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))


def test_agentrecbench_tables_of_three_platforms(tmp_path: Path) -> None:
    tables = agentrecbench.read(bench(tmp_path), 0.0)
    assert rows(tables) == [
        (1, "u1", "B1", 1588687728, 5.0),
        (2, "u2", "17", 1510330320, 4.0),
        (3, "u3", "y1", 1531001351, 3.0),
    ]
    assert {i: (item.title, item.categories) for i, item in tables.items.items()} == {
        "B1": ("Cable", ("Tools", "Wire")),
        "B2": ("Lamp", ()),
        "17": ("Owl Moon", ("picture-books",)),
        "y1": ("Joe's", ("Pizza", "Italian")),
    }
    assert tables.items["B1"].attributes == {"average_rating": "4.5", "source": "amazon"}
    assert tables.users["u3"] == {"name": "Ann", "review_count": "5"}
    assert texts(tables) == [(1, "good"), (2, "read"), (3, "ate")]


def test_texts_keep_step_with_rows_past_malformed_lines(tmp_path: Path) -> None:
    folder = bench(tmp_path)
    lines = (folder / "review.json").read_text().splitlines()
    unknown = json.dumps({**BENCH_REVIEWS[0], "item_id": "none", "text": "no"})
    (folder / "review.json").write_text("\n".join([lines[0], "not json", unknown, *lines[1:]]) + "\n")
    tables = agentrecbench.read(folder, 0.5)
    found = dict(texts(tables))
    assert [found[line] for line, *_ in rows(tables)] == ["good", "read", "ate"]
    assert tables.faults == {Fault.NOT_JSON: 1, Fault.UNKNOWN_ITEM: 1}


def test_agentrecbench_tasks_by_type(tmp_path: Path) -> None:
    folder = bench(tmp_path)
    task = {"type": "recommendation", "user_id": "u1", "candidate_list": ["B1", "B2"], "loc": [-1, -1]}
    bench_task(folder, "task/item_cold_start/amazon", task, "B2")
    bench_task(folder, "track2/amazon", task, "B1", number=10)
    bench_task(folder, "track2/amazon", {**task, "user_id": "u2"}, "B1", number=9)
    found = agentrecbench.read(folder, 0.0).tasks
    assert [(t.type, t.user_id, t.ground_truth) for t in found] == [
        (TaskType.ITEM_COLD_START, "u1", "B2"),
        (TaskType.CLASSIC, "u2", "B1"),
        (TaskType.CLASSIC, "u1", "B1"),
    ]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("task", "truth", "says"),
    [
        ({"user_id": "u1", "candidate_list": ["B1", "nope"]}, "B1", "candidate 'nope' is not in the item table"),
        ({"user_id": "u1", "candidate_list": ["B1", "B2"]}, "17", "its ground truth is not one candidate: '17'"),
        ({"candidate_list": ["B1", "B2"]}, "B1", "cannot be read"),
    ],
)
def test_bad_tasks_are_named(task: dict[str, Any], truth: str, says: str, tmp_path: Path) -> None:
    bench_task(bench(tmp_path), "task/classic/amazon", task, truth)
    with pytest.raises(TerminalFailure, match=r"task/classic/amazon/tasks/task_0\.json") as failure:
        agentrecbench.read(tmp_path, 0.0)
    assert says in failure.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stars": "many"}, "stars 'many' is not a number"),
        ({"timestamp": None}, "neither timestamp, date nor date_added"),
        ({"timestamp": None, "date": "yesterday"}, "time cannot be read"),
        ({"item_id": "B9"}, "item 'B9' is not in item.json"),
        ({"user_id": ""}, "user_id is missing"),
    ],
)
def test_bad_reviews_are_named(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = bench(tmp_path, [{**BENCH_REVIEWS[0], **change}, BENCH_REVIEWS[1]])
    with pytest.raises(TerminalFailure, match=r"review\.json: 1 of 2 lines are malformed") as failure:
        agentrecbench.read(folder, 0.1)
    assert f"line 1: {says}" in failure.value.message or says in failure.value.message


@pytest.mark.bad_input
def test_a_missing_table_is_named(tmp_path: Path) -> None:
    (bench(tmp_path) / "item.json").unlink()
    with pytest.raises(TerminalFailure, match=r"no item\.json"):
        agentrecbench.read(tmp_path, 0.0)


def test_time_is_read_by_platform() -> None:
    assert unix_time({"timestamp": 1000}) == 1
    with pytest.raises(Malformed):
        unix_time({})
