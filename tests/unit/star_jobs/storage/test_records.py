"""JSON Lines of typed records."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.data import GroundTruth, Trajectory
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.storage import read_jsonl, to_line, write_jsonl


def test_records_read_back_with_their_nulls(tmp_path: Path) -> None:
    records = [Trajectory(task_id="t", pass_index=0, steps=(), ranking=(), hit_rank=None, kept=False)] * 3
    assert write_jsonl(tmp_path / "sub" / "t.jsonl", records) == 3
    assert list(read_jsonl(tmp_path / "sub" / "t.jsonl", Trajectory)) == records


@given(st.text(), st.text())
def test_any_text_stays_on_one_line(task: str, item: str) -> None:
    record = GroundTruth(task_id=task, item_id=item)
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert GroundTruth.model_validate_json(line) == record


@pytest.mark.bad_input
def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text('{"taskId":"1","itemId":"2"}\n\n{"taskId":"1"}\n')
    with pytest.raises(TerminalFailure, match=r"truth\.jsonl line 3 .*itemId") as failure:
        list(read_jsonl(path, GroundTruth))
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED


@pytest.mark.bad_input
def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(TerminalFailure, match=r"no file truth\.jsonl"):
        list(read_jsonl(tmp_path / "truth.jsonl", GroundTruth))
