"""The borders of the preparation: whatever bytes a source holds, it becomes a dataset or is refused with a sentence."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from star_contracts.data import TaskType
from star_contracts.errors import Reason
from star_contracts.job import PrepareDataset
from star_contracts.result import TERMINATION_MESSAGE_LIMIT, JobResult
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings
from star_jobs.datasets import agentrecbench, lines, movielens, values
from star_jobs.datasets.faults import Fault, Malformed, Tally
from star_jobs.datasets.limits import MAX_DEPTH, MAX_ID_CHARS
from star_jobs.datasets.lines import decoded, json_object
from star_jobs.datasets.plan import make_plan
from star_jobs.datasets.platforms import item_source, item_title, rating, to_item, to_profile, unix_time
from star_jobs.datasets.prepare import write_snapshot
from star_jobs.datasets.signatures import described
from star_jobs.datasets.snapshot import Dataset
from star_jobs.datasets.source import SourceTables
from star_jobs.datasets.warn import warnings_of
from star_jobs.errors import TerminalFailure
from star_jobs.trajectory.text import clean
from tests.unit.star_jobs.datasets.test_cases import Amazon, recbole

TASKS = TaskSettings(types=(TaskType.CLASSIC,), candidates=3, train=2, test=2, history_length=6)
some = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1e300, -1e30, 10**40, float("nan"), float("inf"), 99999, 1_500_000_000_000]),
)
words = st.one_of(
    st.text(st.characters(), max_size=12),
    st.sampled_from(["", " ", "\0", "\ud83d", "\x1f", "i1", "u1", "<plan>", "a\nb", "x" * 1200, "1e5"]),
    st.sampled_from(
        [
            "2018-07-07 22:09:11",
            "99999-01-01 00:00:00",
            "Mon Jan 01 00:00:00 +2359 0001",
            "Fri Nov 10 08:12:00 -0800 2017",
        ]
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["user_id", "item_id", "stars", "text", "timestamp", "date", "date_added", "title", "name", "source"]
FIELDS += ["categories", "popular_shelves", "price", "authors", "candidate_list", "ground truth", "review_count"]
records = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4)
scraps = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\xef\xbb\xbf", b"\r", b"\0" * 9, b"[" * 3000, b'{"a":' * 700, b"\xe9", b"{} {}", b"null", b'"']),
    st.sampled_from([b"\t", b"|", b"1\t2\t3\t4", b"1\t1\t1e300\t5", b"1\t1\t3\tnan", b"1\t1\t3\t1e300"]),
    st.just(b"user_id:token"),
)


def local(files: dict[str, bytes], format_: DatasetFormat, folder: Path) -> Dataset:
    """Prepare files as the stage does, without a store."""
    for name, data in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    read = agentrecbench.read if format_ is DatasetFormat.AGENT_REC_BENCH else movielens.read
    stage = PrepareDataset(format=format_, source="s3://a-b/c", tasks=TASKS, leakage=LeakageRules())
    tables: SourceTables = read(folder / "source", 0.9, 1.0)
    plan = make_plan(tables, stage.tasks, stage.leakage, 1.0)
    metrics = write_snapshot(folder / "dataset", tables, plan, stage)
    told = JobResult(metrics=metrics, warnings=tuple(warnings_of(tables.files, plan.skipped)))
    assert JobResult.model_validate_json(told.termination_message()) == told
    assert len(told.termination_message().encode()) <= TERMINATION_MESSAGE_LIMIT - 400, "room for the artifact"
    return Dataset(folder / "dataset")


def becomes_a_dataset_or_is_refused(files: dict[str, bytes], format_: DatasetFormat) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = local(files, format_, Path(folder))
        except TerminalFailure as failure:
            check_sentence(failure)
        else:
            assert found.interactions()["rating"].is_finite().fill_null(True).all()
            assert set(found.ground_truth("test").values()) <= set(found.items)
            assert found.tasks("test")
            assert found.profiles()


def check_sentence(failure: TerminalFailure) -> None:
    assert failure.reason is Reason.INVALID_DATASET
    assert 20 < len(failure.message.encode()) < 4000


def spoil(data: bytes, edits: list[tuple[int, dict[str, Any] | bytes]]) -> bytes:
    """Change lines of a table: fields of a record, or all of it."""
    before = data.splitlines()
    rows = list(before)
    for at, edit in edits:
        place = at % len(rows)
        if isinstance(edit, bytes):
            rows[place] = edit
        else:
            rows[place] = json.dumps({**json.loads(before[place]), **edit}).encode()
    return b"\n".join(rows) + b"\n"


TABLES = ("user.json", "item.json", "review.json")
edits = st.lists(st.tuples(st.integers(0, 100), records | scraps), max_size=6)


@pytest.mark.fuzz
@some
@example(["item.json"], [(3, {"title": "\x1f"}), (4, {"title": []})], 16)
@example(["item.json"], [(3, {"details": json_object('{"a":' + "[" * 400 + "]" * 400 + "}")["a"]})], 1)
@example(["item.json", "review.json"], [(3, b"\xff"), (8, b"[" * 100_000)], 1)
@given(st.lists(st.sampled_from(TABLES), min_size=1, max_size=3), edits, st.sampled_from([1, 16]))
def test_any_agentrecbench_tables(names: list[str], changes: list[tuple[int, Any]], one_by_one: int) -> None:
    files = Amazon().files()
    files |= {name: spoil(files[name], changes) for name in names}
    with mock.patch.object(lines, "ONE_BY_ONE", one_by_one):
        becomes_a_dataset_or_is_refused(files, DatasetFormat.AGENT_REC_BENCH)


@pytest.mark.fuzz
@some
@given(st.binary(max_size=60) | records.map(lambda r: json.dumps(r).encode()) | scraps, st.booleans())
def test_any_task_file(content: bytes, is_truth: bool) -> None:
    source = Amazon()
    for user in range(3):
        source.fair_task(user)
    part = "groundtruth/groundtruth" if is_truth else "tasks/task"
    files = source.files() | {f"task/classic/amazon/{part}_1.json": content}
    with tempfile.TemporaryDirectory() as folder:
        found = local(files, DatasetFormat.AGENT_REC_BENCH, Path(folder))
        assert len(found.tasks("test")) == 2, "one bad task never refuses the rest"


@pytest.mark.fuzz
@some
@given(
    st.sampled_from(["ml-1m.inter", "ml-1m.item", "ml-1m.user"]),
    st.lists(st.tuples(st.integers(0, 100), scraps), max_size=5),
    st.booleans(),
)
def test_any_atomic_files(name: str, changes: list[tuple[int, bytes]], is_original: bool) -> None:
    files = recbole()
    files[name] = spoil(files[name], list(changes))
    if is_original:
        suffixes = {"ml-1m.inter": "u.data", "ml-1m.item": "u.item", "ml-1m.user": "u.user"}
        files = {suffixes[old]: data.split(b"\n", 1)[1] for old, data in files.items()}
        flags = b"|".join([b"1", *[b"0"] * 18])
        films = (b"%d|Film %d (1995)|||x|" % (n, n) + flags for n in range(16))
        files["u.item"] = b"\n".join(films) + b"\n"
        files["u.user"] = b"1|24|M|writer|1\n" + (files["u.user"] if name == "ml-1m.user" else b"")
    becomes_a_dataset_or_is_refused(files, DatasetFormat.MOVIELENS)


def fault_of(border: Callable[[], object]) -> str:
    """What a border says of a value; empty when it takes it."""
    try:
        border()
    except Malformed as error:
        return str(error)
    return ""


@pytest.mark.fuzz
@given(anything, st.sampled_from(FIELDS), records)
def test_any_value(value: Any, name: str, others: dict[str, Any]) -> None:
    record = {**others, name: value}
    borders: list[Callable[[], object]] = [
        lambda: values.identifier(value, name),
        lambda: values.number(value, name),
        lambda: values.rating_in_bounds(value, name),
        lambda: values.title(value, name),
        lambda: unix_time(record),
        lambda: rating(record),
        lambda: item_title(record),
        lambda: to_item(record).model_dump_json(),
    ]
    for border in borders:
        sentence = fault_of(border)
        assert len(sentence.encode()) < 2000
    json.dumps(to_profile(record)).encode()
    assert item_source(record) != ""
    assert len(values.plain(value, 50).encode()) <= 200
    assert len(values.shown(value)) < 700


@pytest.mark.fuzz
@given(words)
def test_an_id_comes_back_from_a_model_as_it_was(text: str) -> None:
    try:
        found = values.identifier(text, "item_id")
    except Malformed:
        return
    assert clean(found) == found == found.strip()
    assert len(found) <= MAX_ID_CHARS
    assert json.loads(json.dumps(found)) == found


@pytest.mark.fuzz
@given(st.binary(max_size=80) | scraps)
def test_any_line(line: bytes) -> None:
    text, is_utf8 = decoded(line)
    assert is_utf8 == (text.encode(errors="surrogatepass") == line)
    described(line)
    assert fault_of(lambda: json_object(text)).encode() is not None


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_json_is_as_deep_as_the_limit_says(depth: int, opens: str, closes: str) -> None:
    inside = depth - 1
    text = '{"brackets in a text": "' + "[" * 2000 + '", "a": ' + opens * inside + "1" + closes * inside + "}"
    if depth <= MAX_DEPTH:
        assert json_object(text)["a"]
    else:
        with pytest.raises(Malformed, match="deep"):
            json_object(text)


def test_of_a_name_given_twice_the_first_value_counts() -> None:
    assert json_object('{"a": 1, "b": 2, "a": 3}') == {"a": 1, "b": 2}


def test_one_bad_line_of_a_small_file_is_spared_where_it_may_be() -> None:
    def finish(max_malformed: float, spare: int) -> None:
        tally = Tally("t", max_malformed, "files", spare=spare)
        tally.saw(4)
        tally.bad("one", Fault.NOT_JSON)
        tally.finish()

    finish(0.01, 1)
    for limits in ((0.01, 0), (0.0, 1)):
        with pytest.raises(TerminalFailure):
            finish(*limits)


titles = st.dictionaries(
    st.sampled_from(["title", "name", "source", "item_id"]),
    anything.filter(lambda v: not isinstance(v, float)),
    max_size=2,
)


@pytest.mark.fuzz
@some
@given(st.lists(st.tuples(st.integers(0, 40), titles), min_size=1, max_size=12))
def test_items_read_by_table_and_by_line_are_the_same(changes: list[tuple[int, dict[str, Any]]]) -> None:
    files = Amazon().files()
    files["item.json"] = spoil(files["item.json"], list(changes))
    assume(b"\0" not in files["item.json"])
    said = []
    for one_by_one in (1, 10**9):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(lines, "ONE_BY_ONE", one_by_one):
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            try:
                tables = agentrecbench.read(Path(folder), 0.9, 1.0)
            except TerminalFailure as failure:
                said.append(failure.message)
            else:
                items = {key: item.to_json_dict() for key, item in tables.items.items()}
                said.append((items, tables.files, [tables.platforms.names[c] for c in tables.platforms.codes]))
    assert said[0] == said[1]
