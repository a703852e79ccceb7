"""Resumable state: objects and trees that are complete or do not count."""

from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.storage import ObjectStore, WorkArea
from tests.support.s3 import S3Server


@pytest.fixture
def work(store: ObjectStore, uri: str) -> WorkArea:
    return WorkArea(store, uri)


def checkpoint(folder: Path, step: int) -> Path:
    (folder / "shards").mkdir(parents=True)
    (folder / "state.json").write_text(str(step))
    (folder / "shards" / "0.bin").write_bytes(bytes(1000))
    return folder


def test_objects(work: WorkArea) -> None:
    assert work.get("parts/0.jsonl") is None
    assert work.list("parts") == []
    work.put("parts/1.jsonl", b"1")
    work.put("parts/0.jsonl", b"0")
    work.put("other", b"")
    assert work.get("parts/1.jsonl") == b"1"
    assert work.list("parts") == work.list("parts/") == ["parts/0.jsonl", "parts/1.jsonl"]
    assert work.list() == ["other", "parts/0.jsonl", "parts/1.jsonl"]
    work.delete("other")
    assert work.get("other") is None


def test_a_tree_reads_back(work: WorkArea, tmp_path: Path) -> None:
    work.upload_tree(checkpoint(tmp_path / "10", 10), "checkpoints/step-10")
    assert work.trees("checkpoints") == ["checkpoints/step-10"]
    there = work.download_tree("checkpoints/step-10", tmp_path / "there")
    assert there is not None
    assert (there / "state.json").read_text() == "10"
    assert (there / "shards" / "0.bin").read_bytes() == bytes(1000)


def test_a_half_uploaded_tree_does_not_count(work: WorkArea, tmp_path: Path) -> None:
    work.put("checkpoints/step-20/state.json", b"20")
    assert work.trees("checkpoints") == []
    assert work.download_tree("checkpoints/step-20", tmp_path / "there") is None


def test_a_deleted_tree_is_gone(work: WorkArea, tmp_path: Path) -> None:
    work.upload_tree(checkpoint(tmp_path / "10", 10), "step-10")
    work.delete_tree("step-10")
    assert work.list() == []


@pytest.mark.bad_input
def test_a_damaged_tree_is_refused(work: WorkArea, s3_server: S3Server, tmp_path: Path) -> None:
    work.upload_tree(checkpoint(tmp_path / "10", 10), "step-10")
    s3_server.file(f"{work.uri}/step-10/state.json").write_text("11")
    with pytest.raises(TerminalFailure, match="sha256 differs") as failure:
        work.download_tree("step-10", tmp_path / "there")
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED


@pytest.mark.bad_input
@pytest.mark.parametrize("marker", [b"[]]", b'[{"path": "../../outside", "bytes": 1, "sha256": "' + b"0" * 64 + b'"}]'])
def test_a_marker_that_lists_no_tree_writes_nothing(marker: bytes, work: WorkArea, tmp_path: Path) -> None:
    work.put("step-10.complete.json", marker)
    with pytest.raises(TerminalFailure, match=r"step-10\.complete\.json does not list") as failure:
        work.download_tree("step-10", tmp_path / "a" / "there")
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED
    assert not (tmp_path / "outside").exists()
