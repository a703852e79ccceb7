"""Sources as people really have them: each was refused for the wrong reason, or taken without a word."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from star_contracts.data import TaskType
from star_contracts.errors import Reason, WarningReason
from star_contracts.job import PrepareDataset
from star_contracts.result import ErrorClass
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings
from star_jobs.datasets.download import check_names
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.storage import ObjectStore
from tests.support.jobs import Finished, JobRunner

Record = dict[str, Any]
TASKS = TaskSettings(types=(TaskType.CLASSIC,), candidates=5, train=4, test=2, history_length=6, seed=7)
START = 1_500_000_000
DAY = 86_400
ODD_IDS = ["sku<0>", "shop\\1", 'box "2"', "x" * 230, "a>b", "día", "id with spaces", "🙂"]


def item_of(user: int, visit: int) -> int:
    """Each of 16 items is taken by several users, and by none twice."""
    return (3 * user + 5 * visit) % 16


class Amazon:
    """A small source in Amazon's schema that is as it should be; tests spoil it."""

    def __init__(self, users: int = 8, visits: int = 9) -> None:
        self.users: list[Record] = [{"user_id": f"u{user}"} for user in range(users)]
        self.items: list[Record] = [
            {"item_id": f"i{n}", "title": f"Thing {n}", "categories": ["Home"], "source": "amazon"} for n in range(16)
        ]
        self.reviews: list[Record] = [
            {
                "user_id": f"u{user}",
                "item_id": f"i{item_of(user, visit)}",
                "stars": 4.0,
                "text": "warm",
                "timestamp": 1000 * (START + DAY * visit + user),
            }
            for user in range(users)
            for visit in range(visits)
        ]
        self.tasks: list[tuple[str, Record, Any]] = []
        """Folder, task, ground truth."""

    def task(self, user: int, candidates: list[str], folder: str = "task/classic/amazon", truth: str = "") -> None:
        content = {"type": "recommendation", "user_id": f"u{user}", "candidate_list": candidates}
        self.tasks.append((folder, content, truth or candidates[0]))

    def fair_task(self, user: int, folder: str = "task/classic/amazon") -> None:
        """A task with candidates that its user never took."""
        self.task(user, self.untaken(user)[:5], folder)

    def untaken(self, user: int) -> list[str]:
        taken = {review["item_id"] for review in self.reviews if review["user_id"] == f"u{user}"}
        return [f"i{n}" for n in range(16) if f"i{n}" not in taken]

    def files(self) -> dict[str, bytes]:
        tables = {"user.json": self.users, "item.json": self.items, "review.json": self.reviews}
        found = {name: "".join(json.dumps(r) + "\n" for r in records).encode() for name, records in tables.items()}
        for n, (folder, content, truth) in enumerate(self.tasks):
            found[f"{folder}/tasks/task_{n}.json"] = json.dumps(content).encode()
            found[f"{folder}/groundtruth/groundtruth_{n}.json"] = json.dumps({"ground truth": truth}).encode()
        return found


def recbole(genres: str = "class:token_seq", title: bytes = b"The Long Ladder") -> dict[str, bytes]:
    items = [b"item_id:token\tmovie_title:token_seq\trelease_year:token\t" + genres.encode()]
    items += [b"%d\t%s\t198%d\tDrama Comedy" % (n, title if n == 3 else b"Film %d" % n, n % 10) for n in range(16)]
    inter = [b"user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    inter += [
        b"%d\t%d\t4\t%d" % (user, item_of(user, visit), START + DAY * visit + user)
        for user in range(8)
        for visit in range(9)
    ]
    people = [b"user_id:token\tage:token\tgender:token\toccupation:token"]
    people += [b"%d\t20\tM\tother" % user for user in range(8)]
    named = {"ml-1m.item": items, "ml-1m.inter": inter, "ml-1m.user": people}
    return {name: b"\n".join(lines) + b"\n" for name, lines in named.items()}


Prepare = Callable[..., Finished]


@pytest.fixture
def prepare(jobs: JobRunner, store: ObjectStore, uri: str) -> Prepare:
    """Upload files and prepare them as the stage's pod does."""
    count = 0

    def run(
        files: dict[str, bytes], format_: DatasetFormat = DatasetFormat.AGENT_REC_BENCH, **changes: Any
    ) -> Finished:
        nonlocal count
        count += 1
        source = f"{uri}/source-{count}"
        for name, data in files.items():
            store.put_bytes(f"{source}/{name}", data)
        values = {"format": format_, "source": source, "tasks": TASKS, "leakage": LeakageRules()}
        return jobs.run(PrepareDataset.model_validate(values | changes), output=f"dataset-{count}")

    return run


@pytest.fixture
def dataset(jobs: JobRunner) -> Callable[[Finished], Dataset]:
    return lambda done: Dataset(jobs.fetch(done.artifact))


def refused(done: Finished) -> str:
    """The sentence of a source that was refused, for good."""
    assert (done.error.error_class, done.error.reason) == (ErrorClass.TERMINAL, Reason.INVALID_DATASET), done.result
    return done.error.message


def warned(done: Finished, reason: WarningReason) -> str:
    return next(warning.message for warning in done.result.warnings if warning.reason == reason)


def test_a_source_as_it_should_be_is_taken_without_a_warning(prepare: Prepare) -> None:
    for files, format_ in ((Amazon().files(), DatasetFormat.AGENT_REC_BENCH), (recbole(), DatasetFormat.MOVIELENS)):
        done = prepare(files, format_)
        assert done.result.warnings == ()
        assert done.result.metrics == {
            "users": 8,
            "items": 16,
            "interactions": 72,
            "trainTasks": 4,
            "testTasks": 2,
            "malformed": 0,
        }


@pytest.mark.case("recbole-ml-1m")
@pytest.mark.parametrize("column", ["genre:token_seq", "class:token_seq", "genres:token_seq"])
def test_genres_are_read_whatever_their_column_is_called(
    column: str, prepare: Prepare, dataset: Callable[[Finished], Dataset]
) -> None:
    found = dataset(prepare(recbole(column), DatasetFormat.MOVIELENS)).items["3"]
    assert (found.title, found.categories) == ("The Long Ladder", ("Drama", "Comedy"))


@pytest.mark.case("recbole-ml-1m")
def test_a_column_of_genres_in_any_atomic_file_is_just_a_column(prepare: Prepare) -> None:
    files = recbole()
    for name in ("ml-1m.user", "ml-1m.inter"):
        header, *lines = files[name].splitlines()
        files[name] = b"\n".join([header + b"\tgenre:token_seq", *(line + b"\tDrama" for line in lines)]) + b"\n"
    assert prepare(files, DatasetFormat.MOVIELENS).result.error is None


@pytest.mark.case("latin-1")
def test_latin_1_titles_are_read_and_counted(prepare: Prepare, dataset: Callable[[Finished], Dataset]) -> None:
    done = prepare(recbole(title="L'Été à Liège".encode("latin-1")), DatasetFormat.MOVIELENS)
    assert dataset(done).items["3"].title == "L'Été à Liège"
    assert done.result.metrics["notUtf8"] == 1
    assert "ml-1m.item: notUtf8 1 of 16 (line 5: not UTF-8" in warned(done, WarningReason.DATA_IMPLAUSIBLE)


@pytest.mark.case("latin-1")
def test_latin_1_in_json_is_read_and_counted(prepare: Prepare, dataset: Callable[[Finished], Dataset]) -> None:
    files = Amazon().files()
    for name, old, new in (("item.json", b"Thing 3", b"Caf\xe9 \x96 3"), ("review.json", b"warm", b"tr\xe8s")):
        files[name] = files[name].replace(old, new, 1)
    done = prepare(files)
    assert dataset(done).items["i3"].title == "Café – 3"
    assert '"très"' in (dataset(done).folder / "tables/review.jsonl").read_text()
    assert done.result.metrics["notUtf8"] == 2


@pytest.mark.case("seconds")
def test_seconds_where_milliseconds_are_documented_are_refused(prepare: Prepare) -> None:
    source = Amazon()
    for review in source.reviews:
        review["timestamp"] //= 1000
    message = refused(prepare(source.files(), max_malformed=0.2))
    assert "review.json: 72 of 72 lines are in doubt (implausibleTime" in message
    assert "line 1: a time in the year 1970; check the unit" in message
    taken = prepare(source.files(), max_implausible=1.0)
    assert "a time in the year 1970" in warned(taken, WarningReason.DATA_IMPLAUSIBLE)


@pytest.mark.case("seconds")
def test_milliseconds_where_seconds_are_documented_are_refused(prepare: Prepare) -> None:
    files = recbole()
    header, *lines = files["ml-1m.inter"].splitlines()
    files["ml-1m.inter"] = b"\n".join([header, *(line + b"000" for line in lines)]) + b"\n"
    assert "line 2: the time 1500000000000.0 s lies too far" in refused(prepare(files, DatasetFormat.MOVIELENS))


@pytest.mark.case("seconds")
def test_a_few_odd_times_and_ratings_are_taken_counted_and_told(prepare: Prepare) -> None:
    source = Amazon()
    source.reviews[3]["timestamp"] = 1_000
    source.reviews[5]["timestamp"] = -5_000
    source.reviews[7]["stars"] = 4000
    done = prepare(source.files())
    assert {name: done.result.metrics[name] for name in ("implausibleTime", "implausibleRating")} == {
        "implausibleTime": 2,
        "implausibleRating": 1,
    }
    message = warned(done, WarningReason.DATA_IMPLAUSIBLE)
    assert "line 4: a time in the year 1970" in message
    assert "line 8: a rating of 4000" in message


@pytest.mark.case("rating-column")
def test_ratings_under_another_name_are_noticed(prepare: Prepare) -> None:
    source = Amazon()
    for review in source.reviews:
        review["rating"] = review.pop("stars")
    message = refused(prepare(source.files()))
    assert "review.json: 72 of 72 lines are in doubt (noRating" in message
    assert "line 1: no stars; name the column of the ratings as documented" in message
    assert prepare(source.files(), max_implausible=1.0).result.metrics["noRating"] == 72


@pytest.mark.case("rating-column")
def test_documented_columns_that_no_line_has_are_told(prepare: Prepare) -> None:
    source = Amazon()
    for review in source.reviews:
        del review["text"]
    for item in source.items:
        del item["categories"]
    done = prepare(source.files())
    assert done.result.metrics["missingColumn"] == 2
    message = warned(done, WarningReason.DATA_IMPLAUSIBLE)
    assert "no line has categories or popular_shelves" in message
    assert "no line has text" in message


@pytest.mark.case("one-candidate")
def test_a_task_with_one_candidate_is_left_out(prepare: Prepare) -> None:
    source = Amazon()
    for user in range(3):
        source.fair_task(user)
    source.task(3, ["i15"])
    done = prepare(source.files(), max_malformed=0.5)
    assert (done.result.metrics["testTasks"], done.result.metrics["candidateCount"]) == (2, 1)
    assert "task_3.json: the task cannot be read: candidate_list has 1 candidates" in warned(
        done, WarningReason.DATA_LEFT_OUT
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[]", "unreadableTask"),
        (b"\xff\xfe", "unreadableTask"),
        (b"", "unreadableTask"),
        (b'{"user_id": "u1"}', "unreadableTask"),
        (b'{"user_id": "u1", "candidate_list": "i1"}', "unreadableTask"),
        (b'{"user_id": "u1", "candidate_list": {"i1": 1, "i2": 2}}', "unreadableTask"),
        (b'{"user_id": "u1", "candidate_list": [' + b"[" * 300 + b"]" * 300 + b', "i2"]}', "badValue"),
        (b"[" * 100_000, "unreadableTask"),
        (b'{"user_id": "u1", "candidate_list": ["i1", "i2"]}' + b" " * (1 << 20), "unreadableTask"),
        (b'{"user_id": "u1", "candidate_list": ["i1", NaN]}', "badValue"),
        (b'{"user_id": "\\ud83d", "candidate_list": ["i1", "i1"]}', "duplicateCandidate"),
    ],
)
def test_one_bad_task_file_never_refuses_the_source(content: bytes, fault: str, prepare: Prepare) -> None:
    source = Amazon()
    for user in range(4):
        source.fair_task(user)
    files = source.files()
    files["task/classic/amazon/tasks/task_2.json"] = content
    done = prepare(files)
    assert done.result.metrics[fault] == 1
    assert "task_2.json" in warned(done, WarningReason.DATA_LEFT_OUT)


def test_tasks_in_unknown_folders_are_not_taken_for_classic_ones(prepare: Prepare) -> None:
    source = Amazon()
    for user in range(4):
        source.fair_task(user, "track2/amazon" if user % 2 else "task/classic/amazon")
    source.fair_task(4, "task/evolving/amazon")
    done = prepare(source.files())
    assert done.result.metrics["unknownTaskType"] == 1
    assert "its folder 'evolving' is none of the task types classic" in warned(done, WarningReason.DATA_LEFT_OUT)


def test_candidates_of_the_users_own_and_of_nobodys_are_told(prepare: Prepare) -> None:
    source = Amazon()
    source.items.append({"item_id": "new", "title": "New", "source": "amazon"})
    own = source.reviews[0]["item_id"]
    answer, *others = source.untaken(0)
    source.task(0, [answer, *others[:3]])
    source.task(0, [answer, others[0], "new"])
    source.task(0, [answer, others[0], own])
    source.task(99, [answer, others[0]])
    source.users.append({"user_id": "u99"})
    wanted = TASKS.model_copy(update={"test": 10})
    done = prepare(source.files(), tasks=wanted)
    counts = {name: done.result.metrics[name] for name in ("ownCandidate", "untakenCandidate", "noHistory")}
    assert counts == {"ownCandidate": 1, "untakenCandidate": 1, "noHistory": 1}
    assert "test tasks: ownCandidate 1 of 4 (classic task of user u0" in warned(done, WarningReason.DATA_IMPLAUSIBLE)
    for _ in range(3):
        source.task(0, [answer, others[0], own])
    message = refused(prepare(source.files(), tasks=wanted))
    assert "test tasks: 4 of 7 tasks are in doubt (ownCandidate, 57.1%, allowed 50.0%)" in message
    assert prepare(source.files(), tasks=wanted, max_implausible=1.0).result.metrics["ownCandidate"] == 4


@pytest.mark.case("odd-ids")
def test_odd_ids_fail_no_preparation(prepare: Prepare, dataset: Callable[[Finished], Dataset]) -> None:
    source = Amazon()
    renamed = {f"i{n}": odd for n, odd in enumerate(ODD_IDS)} | {"u1": 'reader "1"', "u2": "a\\b<c>"}
    for record in (*source.users, *source.items, *source.reviews):
        record.update({name: renamed[record[name]] for name in ("user_id", "item_id") if record.get(name) in renamed})
    done = prepare(source.files())
    assert done.result.warnings == ()
    assert set(ODD_IDS) <= set(dataset(done).items)


@pytest.mark.case("odd-ids")
@pytest.mark.parametrize("odd", ["two\nlines", "nul\0", "<plan>", "<|im_end|>", "two  spaces", "x" * 1001])
def test_ids_that_no_model_can_repeat_are_left_out_and_counted(odd: str, prepare: Prepare) -> None:
    source = Amazon()
    source.items[3]["item_id"] = odd
    done = prepare(source.files(), max_malformed=0.2)
    assert done.result.metrics["badValue"] == 1
    assert "item.json: 1 of 16 left out (line 4: item_id" in warned(done, WarningReason.DATA_LEFT_OUT)


@pytest.mark.case("long-tailed-users")
def test_users_with_one_review_are_not_those_of_the_cold_start(
    prepare: Prepare, dataset: Callable[[Finished], Dataset]
) -> None:
    source = Amazon()
    source.reviews = [review for review in source.reviews if review["user_id"] not in ("u0", "u1", "u2")]
    source.reviews += [
        {**review, "user_id": f"u{user}"} for user in (0, 1, 2) for review in Amazon().reviews[user : user + 1]
    ]
    source.reviews = [r for n, r in enumerate(source.reviews) if r["user_id"] != "u3" or n % 3 == 0]
    wanted = TASKS.model_copy(update={"types": (TaskType.USER_COLD_START,), "train": 0, "test": 1})
    done = prepare(source.files(), tasks=wanted)
    (task,) = dataset(done).tasks("test")
    assert task.user_id == "u3"


@pytest.mark.case("title-not-text")
@pytest.mark.parametrize("title", [[], {}, 0, False, 7.5, ["Thing"], {"en": "Thing"}, True])
@pytest.mark.parametrize("by_table", [True, False])
def test_titles_that_are_no_text_are_malformed(title: Any, by_table: bool, prepare: Prepare) -> None:
    source = Amazon()
    source.items += [{**source.items[n], "item_id": f"more{n}"} for n in range(16 if by_table else 0)]
    source.items = source.items if by_table else source.items[:16]
    source.items[3]["title"] = title
    done = prepare(source.files(), max_malformed=0.2)
    assert done.result.metrics["badValue"] == 1
    assert "line 4: title" in warned(done, WarningReason.DATA_LEFT_OUT)
    assert "is not text" in warned(done, WarningReason.DATA_LEFT_OUT)


@pytest.mark.case("gzip-named-json")
@pytest.mark.parametrize("name", ["review.json", "item.json", "user.json"])
def test_a_gzipped_table_under_another_name_is_said_to_be_one(name: str, prepare: Prepare) -> None:
    files = Amazon().files()
    files[name] = gzip.compress(files[name])[:-9]
    assert f"{name} is compressed by gzip" in refused(prepare(files))


@pytest.mark.case("gzip-named-json")
@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"PAR1", "a Parquet file"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
        (b"\xff\xfeu\0", "UTF-16"),
        (b"<!DOCTYPE html>", "an HTML or XML page"),
        (b"\0" * 257 + b"ustar", "a tar archive"),
    ],
)
def test_other_formats_are_named(head: bytes, says: str, prepare: Prepare) -> None:
    files = recbole() | {"ml-1m.inter": head + b"\0" * 300}
    assert f"ml-1m.inter is {says}" in refused(prepare(files, DatasetFormat.MOVIELENS)).replace("compressed by ", "")


@pytest.mark.case("one-user-took-all")
def test_a_user_who_took_all_is_skipped(prepare: Prepare, dataset: Callable[[Finished], Dataset]) -> None:
    source = Amazon()
    source.users.append({"user_id": "all"})
    source.reviews += [
        {**source.reviews[0], "user_id": "all", "item_id": f"i{n}", "timestamp": 1000 * (START + 90 * DAY + n)}
        for n in range(15)
    ]
    wanted = TASKS.model_copy(update={"test": 6, "train": 2})
    done = prepare(source.files(), tasks=wanted)
    assert done.result.metrics["usersSkipped"] == 1
    assert "draw negatives from: 1" in warned(done, WarningReason.DATA_LEFT_OUT)
    assert all(task.user_id != "all" for split in ("train", "test") for task in dataset(done).tasks(split))


def test_one_item_without_a_source_does_not_refuse_the_rest(prepare: Prepare) -> None:
    source = Amazon()
    source.items[source_of_the_last(source)]["source"] = ""
    done = prepare(source.files())
    assert done.result.error is None
    assert done.result.metrics["usersSkipped"] >= 1


def source_of_the_last(source: Amazon) -> int:
    """The item that user 0 took last: the answer of its task."""
    return int(source.reviews[8]["item_id"][1:])


def test_negatives_are_items_that_others_took(prepare: Prepare, dataset: Callable[[Finished], Dataset]) -> None:
    source = Amazon()
    source.items += [{"item_id": f"never{n}", "title": "Never", "source": "amazon"} for n in range(200)]
    done = dataset(prepare(source.files(), tasks=TASKS.model_copy(update={"test": 6})))
    drawn = {item for split in ("train", "test") for task in done.tasks(split) for item in task.candidates}
    assert drawn
    assert all(item.startswith("i") for item in drawn)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": 1e30},
        {"timestamp": "soon"},
        {"timestamp": 10**40},
        {"timestamp": None, "date": "99999-01-01 00:00:00"},
        {"timestamp": None, "date_added": "Mon Jan 01 00:00:00 +2359 0001"},
        {"timestamp": None, "date": ["2018"]},
        {"stars": 1e300},
        {"stars": float("nan")},
        {"stars": float("inf")},
        {"stars": "inf"},
        {"stars": [5]},
        {"user_id": {"a": [[1]]}},
        {"item_id": True},
    ],
)
def test_values_that_are_none_are_left_out_and_counted(change: Record, prepare: Prepare) -> None:
    source = Amazon()
    source.reviews[10].update(change)
    done = prepare(source.files(), max_malformed=0.05)
    assert done.result.metrics["malformed"] + done.result.metrics.get("implausibleTime", 0) == 1


@pytest.mark.parametrize(
    ("rating", "time", "malformed"),
    [
        (b"1e300", b"1500000000", 1),
        (b"nan", b"1500000000", 1),
        (b"4", b"1e300", 1),
        (b"4", b"inf", 1),
        (b"4", b"-1e30", 1),
        (b"4", b"1500000000.75", 0),
    ],
)
def test_recboles_numbers_obey_the_same_limits(rating: bytes, time: bytes, malformed: int, prepare: Prepare) -> None:
    files = recbole()
    files["ml-1m.inter"] += b"7\t0\t" + rating + b"\t" + time + b"\n"
    done = prepare(files, DatasetFormat.MOVIELENS, max_malformed=0.05)
    assert done.result.metrics["malformed"] == malformed


def test_windows_line_ends_and_byte_order_marks_are_no_data(prepare: Prepare) -> None:
    plain = (Amazon().files(), DatasetFormat.AGENT_REC_BENCH), (recbole(), DatasetFormat.MOVIELENS)
    for files, format_ in plain:
        marked = {name: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n") for name, data in files.items()}
        done = prepare(marked, format_)
        assert (done.result.warnings, done.result.metrics["malformed"]) == ((), 0)


@pytest.mark.parametrize(
    "name", ["task/../../task_1.json", "task//task_1.json", "/task_1.json", "x" * 300 + "/task_1.json", "task_\0.json"]
)
def test_objects_that_cannot_be_files_are_named(name: str) -> None:
    with pytest.raises(TerminalFailure, match="cannot be the name of a file"):
        check_names(["review.json", name])


def test_an_object_that_is_also_a_folder_is_named() -> None:
    with pytest.raises(TerminalFailure, match=r"both an object 'a/task_1\.json' and others below it"):
        check_names(["a/task_1.json", "a/task_1.json/task_2.json"])
