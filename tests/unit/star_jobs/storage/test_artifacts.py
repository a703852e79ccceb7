"""Writing, pinning and fetching artifacts: never half of one, never a wrong byte."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Manifest, Producer
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage import ArtifactWriter, ObjectStore, fetch, files, find_manifest, read_manifest
from tests.support.s3 import S3Server

PRODUCER = Producer(kind="RecDataset", namespace="ns", name="ml", uid="u", step="prepare", work_hash=value_hash(1))


def write(store: ObjectStore, uri: str, content: dict[str, bytes]) -> ArtifactRef:
    writer = ArtifactWriter(store, uri)
    for path, data in content.items():
        writer.add_bytes(data, path)
    manifest = writer.commit(ArtifactKind.DATASET, PRODUCER, {}, {"items": 3})
    return ArtifactRef(uri=uri, digest=manifest.digest())


def count_downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with every object downloaded."""
    sources: list[str] = []
    download = ObjectStore.download

    def counted(self: ObjectStore, source: str, path: Path) -> None:
        sources.append(source)
        download(self, source, path)

    monkeypatch.setattr(ObjectStore, "download", counted)
    return sources


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_tree_reads_back_as_it_was_written(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    content = {f"{d}/{n}.bin": bytes([n]) * (1000 * n) for d in ("a", "b/c") for n in range(5)}
    for path, data in content.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    writer = ArtifactWriter(store, uri)
    writer.add_tree(source, "x/")
    manifest = writer.commit(ArtifactKind.CHECKPOINT, PRODUCER, {"dataset": value_hash(2)}, {"loss": 0.5})
    ref = ArtifactRef(uri=uri, digest=manifest.digest())
    assert [f.path for f in manifest.files] == sorted(f"x/{path}" for path in content)
    assert read_manifest(store, ref) == manifest
    assert find_manifest(store, uri) == (manifest, ref)
    there = fetch(store, ref, tmp_path / "there")
    assert {p.relative_to(there / "x").as_posix(): p.read_bytes() for p in files.local_files(there / "x")} == content
    assert Manifest.model_validate_json((there / "manifest.json").read_bytes()).digest() == ref.digest


def test_nothing_can_be_read_before_the_manifest(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    ArtifactWriter(store, uri).add_bytes(b"data", "file")
    assert find_manifest(store, uri) is None
    with pytest.raises(TerminalFailure, match=r"holds no manifest\.json") as failure:
        fetch(store, ArtifactRef(uri=uri, digest=value_hash(0)), tmp_path / "there")
    assert failure.value.reason is Reason.ARTIFACT_NOT_FOUND
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("rel", ["../x", "/x", "a/../b", "manifest.json", "", "a//b", "./a"])
def test_paths_that_leave_the_artifact_are_refused(rel: str, store: ObjectStore, uri: str) -> None:
    with pytest.raises(ValueError, match=r"relative path|cannot be added"):
        ArtifactWriter(store, uri).add_bytes(b"", rel)


def test_a_committed_artifact_takes_no_more_files(store: ObjectStore, uri: str) -> None:
    writer = ArtifactWriter(store, uri)
    writer.add_bytes(b"1", "a")
    with pytest.raises(ValueError, match="cannot be added"):
        writer.add_bytes(b"2", "a")
    writer.commit(ArtifactKind.REPORT, PRODUCER, {}, {})
    with pytest.raises(ValueError, match="cannot be added"):
        writer.add_bytes(b"1", "b")


@pytest.mark.bad_input
@pytest.mark.parametrize("at", [0, 50_000, 99_999])
def test_one_flipped_byte_is_found_and_named(
    at: int, s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path
) -> None:
    ref = write(store, uri, {"good": b"x", "weights/bad": bytes(100_000)})
    flip(s3_server.file(f"{uri}/weights/bad"), at)
    with pytest.raises(TerminalFailure, match="weights/bad does not match its manifest") as failure:
        fetch(store, ref, tmp_path / "there")
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED
    assert not (tmp_path / "there").exists()


@pytest.mark.bad_input
def test_a_flipped_byte_in_the_manifest_is_found(s3_server: S3Server, store: ObjectStore, uri: str) -> None:
    ref = write(store, uri, {"a": b"x"})
    flip(s3_server.file(f"{uri}/manifest.json"), 20)
    with pytest.raises(TerminalFailure, match="was changed or replaced") as failure:
        read_manifest(store, ref)
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED


@pytest.mark.bad_input
def test_a_truncated_file_is_named_with_both_sizes(
    s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path
) -> None:
    ref = write(store, uri, {"a": bytes(1000)})
    s3_server.file(f"{uri}/a").write_bytes(bytes(999))
    with pytest.raises(TerminalFailure, match="999 bytes where 1000 are recorded"):
        fetch(store, ref, tmp_path / "there")


@pytest.mark.bad_input
def test_a_missing_file_is_named(s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path) -> None:
    ref = write(store, uri, {"a": b"1", "b": b"2"})
    s3_server.file(f"{uri}/b").unlink()
    with pytest.raises(TerminalFailure, match=f"{uri}/b") as failure:
        fetch(store, ref, tmp_path / "there")
    assert failure.value.reason is Reason.ARTIFACT_NOT_FOUND


@pytest.mark.bad_input
def test_a_manifest_that_points_outside_is_refused(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    ref = write(store, uri, {"a": b"1"})
    text = read_manifest(store, ref).canonical().replace(b'"path":"a"', b'"path":"../a"')
    store.put_bytes(f"{uri}/manifest.json", text)
    evil = ArtifactRef(uri=uri, digest=Manifest.model_validate_json(text).digest())
    with pytest.raises(TerminalFailure, match="cannot be read"):
        fetch(store, evil, tmp_path / "there")


def test_only_fetches_what_was_asked_for(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    ref = write(store, uri, {"items.jsonl": b"1", "tasks/train.jsonl": b"2", "interactions.parquet": b"3"})
    there = fetch(store, ref, tmp_path / "there", only=["*.jsonl"])
    assert sorted(p.relative_to(there).as_posix() for p in files.local_files(there)) == [
        "items.jsonl",
        "manifest.json",
        "tasks/train.jsonl",
    ]


def test_a_second_fetch_downloads_nothing(
    store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = write(store, uri, {"a": b"1"})
    fetch(store, ref, tmp_path / "there")
    monkeypatch.setattr(ObjectStore, "download", lambda *_: pytest.fail("downloaded again"))
    fetch(store, ref, tmp_path / "there")


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = write(store, uri, {f"file-{n}": bytes([n]) * 1000 for n in range(20)})
    fetched: list[str] = []
    lock = threading.Lock()
    download = ObjectStore.download

    def stop_after_five(self: ObjectStore, source: str, path: Path) -> None:
        with lock:
            if len(fetched) == 5:
                raise RetryableFailure(Reason.STORE_UNREACHABLE, "gone")
            fetched.append(source)
        download(self, source, path)

    monkeypatch.setattr(ObjectStore, "download", stop_after_five)
    with pytest.raises(RetryableFailure):
        fetch(store, ref, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    monkeypatch.setattr(ObjectStore, "download", download)
    again = count_downloads(monkeypatch)
    fetch(store, ref, tmp_path / "there")
    assert len(again) == 15
    assert not set(again) & set(fetched)


def test_a_new_version_replaces_the_old_folder(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    first, second = write(store, f"{uri}/1", {"a": b"1", "old": b""}), write(store, f"{uri}/2", {"a": b"2"})
    fetch(store, first, tmp_path / "there")
    there = fetch(store, second, tmp_path / "there")
    assert (there / "a").read_bytes() == b"2"
    assert not (there / "old").exists()


def test_processes_that_fetch_the_same_artifact_wait_for_each_other(
    store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = write(store, uri, {f"file-{n}": bytes(1000) for n in range(10)})
    downloads = count_downloads(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fetch(store, ref, tmp_path / "there"), range(4)))
    assert len(downloads) == 10


@pytest.mark.bad_input
def test_a_disk_that_is_too_small_is_found_before_the_download(
    store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = write(store, uri, {"a": bytes(1000)})
    usage = type("Usage", (), {"free": 999})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RetryableFailure, match=r"compute\.resources\.scratch") as failure:
        fetch(store, ref, tmp_path / "there")
    assert failure.value.reason is Reason.OUT_OF_DISK
