"""Files as blocks of lines, ids as codes, records and texts that stay in their files: each against a plain oracle."""

import json
import random
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_jobs.datasets import lines
from star_jobs.datasets.columns import Columns
from star_jobs.datasets.faults import Fault, Malformed, Tally
from star_jobs.datasets.ids import Ids, Numbering
from star_jobs.datasets.lines import blocks, decoded, json_object, runs
from star_jobs.datasets.records import RecordFile
from star_jobs.datasets.texts import ShownTexts
from star_jobs.errors import TerminalFailure

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
pieces = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"a", b"bcd", b"\xff", "é".encode(), b"\n\n", b" ", b"\r"]), max_size=30
)


@quick
@given(pieces, st.integers(1, 7))
def test_blocks_hold_every_line_that_is_not_blank_with_its_number(
    tmp_path: Path, parts: list[bytes], size: int
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(parts))
    expected = [
        (row, decoded(line.removesuffix(b"\r"))[0])
        for row, line in enumerate(b"".join(parts).split(b"\n"))
        if line.removesuffix(b"\r")
    ]
    with mock.patch.object(lines, "BLOCK_BYTES", size):
        found = list(blocks(path))
    assert [(int(b.rows[at]), b.line(at)) for b in found for at in range(len(b))] == expected
    data = path.read_bytes()
    for block in found:
        assert all(
            data[block.offset + s : block.offset + e] == block.data[s:e]
            for s, e in zip(block.starts, block.ends, strict=True)
        )


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    (block,) = blocks(tmp_path / "lines")
    assert block.line(0) == '{"a": 1}'


@pytest.mark.bad_input
def test_a_file_that_is_one_endless_line_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    (tmp_path / "review.json").write_bytes(b'{"a": 1}\n[' + b"1," * 5000)
    with (
        mock.patch.object(lines, "BLOCK_BYTES", 100),
        mock.patch.object(lines, "MAX_LINE_BYTES", 1000),
        pytest.raises(TerminalFailure, match=r"review\.json line 2 is longer than 1000 bytes.*JSON Lines") as failure,
    ):
        list(blocks(tmp_path / "review.json"))
    assert failure.value.reason is Reason.INVALID_DATASET


values = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), st.text(max_size=4), st.just([1]))
lines_of_json = st.one_of(
    st.fixed_dictionaries({"a": values, "b": values}).map(json.dumps),
    st.sampled_from(["nope", "[1]", "5", "null", '{"a": "x"', '{"a": 1} {"a": 2}', '{"a": NaN}', "   ", "{}", '"s"']),
)


@quick
@given(st.lists(lines_of_json, max_size=80), st.sampled_from([1, 4, 16]))
def test_runs_cover_every_line_and_a_table_says_what_the_lines_say(tmp_path: Path, texts: list[str], few: int) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(text + "\n" for text in texts))
    schema = pl.Schema({"a": pl.String, "b": pl.Int64})
    with mock.patch.object(lines, "ONE_BY_ONE", few), mock.patch.object(lines, "BLOCK_BYTES", 200):
        found = list(runs(path, schema))
    assert [int(row) for run in found for row in run.rows] == list(range(len(texts)))
    for run in found:
        for at, (a, b) in enumerate([] if run.table is None else run.table.rows()):
            try:
                record = json.loads(run.block.line(run.first + at))
            except ValueError:
                pytest.fail("a table holds a line that is no JSON")
            record = record if isinstance(record, dict) else {}
            if isinstance(record.get("a"), str):
                assert a == record["a"]
            assert b is None or b == record.get("b")


@pytest.mark.parametrize("line", ["", "{", "[1]", "nul", '{"a": 1} 2', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_line_that_is_no_object_is_not_json(line: str) -> None:
    with pytest.raises(Malformed) as error:
        json_object(line)
    assert error.value.fault is Fault.NOT_JSON


ids = st.lists(st.text(max_size=3).filter(lambda s: s.isprintable()), max_size=20)


@quick
@given(st.lists(ids, max_size=4))
def test_numbers_become_the_codes_of_sorted_ids(batches: list[list[str]]) -> None:
    numbering, seen = Numbering(), []
    for batch in batches:
        seen.append(numbering.add(batch))
        assert numbering.find(batch).tolist() == seen[-1].tolist()
    assert numbering.find(["never seen"]).tolist() == [-1]
    sorted_ids, codes = numbering.sorted()
    distinct = sorted({value for batch in batches for value in batch})
    assert list(sorted_ids) == distinct == [sorted_ids[n] for n in range(len(sorted_ids))]
    assert [sorted_ids.code(value) for value in distinct] == list(range(len(distinct)))
    assert sorted_ids.code("never seen") is None
    for batch, numbers in zip(batches, seen, strict=True):
        assert sorted_ids.take(codes[numbers]).to_list() == batch


def test_records_stay_in_their_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"b2\r\n\nc3\na1")
    records = RecordFile(path, Ids.of(["a", "b", "c"]), np.array([8, 0, 5], np.int64), str.upper)
    assert dict(records) == {"a": "A1", "b": "B2", "c": "C3"}
    assert list(records.items()) == [("a", "A1"), ("b", "B2"), ("c", "C3")]
    assert list(records.values()) == ["A1", "B2", "C3"]
    assert (len(records), records["b"], records.get("x"), "c" in records) == (3, "B2", None, True)


@quick
@given(st.dictionaries(st.integers(0, 50), st.text(max_size=5).filter(lambda s: "\ud800" not in s), max_size=20))
def test_shown_texts_are_found_by_row(tmp_path: Path, texts: dict[int, str]) -> None:
    texts = {row: text.encode(errors="ignore").decode() for row, text in sorted(texts.items())}
    with ShownTexts(np.array(list(texts), np.uint32), tmp_path) as shown:
        for text in texts.values():
            shown.add([text])
        assert {row: shown.text(row) for row in range(60)} == dict.fromkeys(range(60), "") | texts
    assert not list(tmp_path.glob("*")), "nothing is left behind"


events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), max_size=40)


@quick
@given(events, st.randoms(), st.integers(1, 5))
def test_columns_sort_by_user_time_and_line_and_leave_out_repeated_reviews(
    life: list[tuple[int, int, int]], rng: random.Random, part: int
) -> None:
    """`life` is (user, item, time) a line; parts come in any order."""
    people, columns, tally = Numbering(), Columns(), Tally("review.json", 1.0, max_implausible=1.0)
    catalogue = Ids.of(f"i{n}" for n in range(4))
    parts = [range(at, min(at + part, len(life))) for at in range(0, len(life), part)]
    rng.shuffle(parts)
    for rows in parts:
        users, items, times = ([life[row][k] for row in rows] for k in range(3))
        numbers = people.add([f"u{user}" for user in users])
        columns.append(
            np.array(rows), numbers, np.array(items, np.int32), np.array(times, np.int64), np.array(items, np.float64)
        )
    found = columns.histories(people, catalogue, tally)
    first = {event: row for row, event in reversed(list(enumerate(life)))}
    expected = sorted((f"u{user}", time, row, item) for (user, item, time), row in first.items())
    owners = found.users.take(found.owners(np.arange(len(found.items)))).to_list()
    assert list(zip(owners, found.timestamps, found.rows, found.items, strict=True)) == expected
    assert found.ratings.tolist() == found.items.tolist()
    if len(first) < len(life) and first:
        tally.saw(len(life))
        report = tally.finish()
        assert report.faults == {Fault.DUPLICATE_REVIEW: len(life) - len(first)}
        line = min(row for row, event in enumerate(life) if first[event] != row) + 1
        assert report.examples[Fault.DUPLICATE_REVIEW][0].startswith(f"line {line}: ")
