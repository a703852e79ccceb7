"""The object store against a real S3 server, and against none."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_contracts.job import Store
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage import ObjectStore
from tests.support.s3 import S3Server, free_port, start_s3


def test_small_objects_read_back_and_list_in_order(store: ObjectStore, uri: str) -> None:
    for name in ("b", "a/x", "a/y"):
        store.put_bytes(f"{uri}/{name}", name.encode())
    assert store.get_bytes(f"{uri}/a/x") == b"a/x"
    assert [(item.path, item.bytes) for item in store.list(uri)] == [("a/x", 3), ("a/y", 3), ("b", 1)]
    assert [item.path for item in store.list(f"{uri}/a")] == ["x", "y"]


def test_a_prefix_is_a_folder_not_a_string(store: ObjectStore, uri: str) -> None:
    store.put_bytes(f"{uri}/part-10", b"")
    store.put_bytes(f"{uri}/part-1/file", b"")
    assert [item.path for item in store.list(f"{uri}/part-1")] == ["file"]


def test_a_missing_object_is_none_or_a_terminal_failure(store: ObjectStore, uri: str) -> None:
    assert store.find_bytes(f"{uri}/none") is None
    with pytest.raises(TerminalFailure, match="no such object") as failure:
        store.get_bytes(f"{uri}/none")
    assert failure.value.reason is Reason.ARTIFACT_NOT_FOUND


def test_delete_tree_removes_the_folder_and_nothing_beside_it(store: ObjectStore, uri: str) -> None:
    for name in ("gone/a", "gone/b/c", "stays"):
        store.put_bytes(f"{uri}/{name}", b"1")
    store.delete_tree(f"{uri}/gone")
    assert [item.path for item in store.list(uri)] == ["stays"]


def test_large_files_move_in_parts_with_flat_memory(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    size = 300 * 1024 * 1024
    source, copy = tmp_path / "source", tmp_path / "copy"
    block = os.urandom(1024 * 1024)
    with source.open("wb") as out:
        for _ in range(size // len(block)):
            out.write(block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.upload(source, f"{uri}/large")
    store.download(f"{uri}/large", copy)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert copy.stat().st_size == size
    assert copy.read_bytes()[-len(block) :] == block
    assert grown_mib < 200, f"peak memory grew by {grown_mib:.0f} MiB for a 300 MiB file"


@pytest.mark.bad_input
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "http://no-such-host.invalid:7070"])
def test_an_unreachable_store_is_retryable_and_named(
    endpoint: str, store: ObjectStore, uri: str, tmp_path: Path
) -> None:
    unreachable = ObjectStore(Store(endpoint=endpoint.format(port=free_port())), attempts=2)
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(RetryableFailure, match="does not answer") as failure:
        unreachable.upload(tmp_path / "file", f"{uri}/x")
    assert failure.value.reason is Reason.STORE_UNREACHABLE
    assert unreachable.endpoint in failure.value.message


def test_a_store_that_starts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "late")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "late")
    late = ObjectStore(Store(endpoint=f"http://127.0.0.1:{port}"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(late.find_bytes, "s3://star/x")
        assert not wait([answer], timeout=1).done, "it keeps trying"
        with start_s3(port) as server:
            assert server.endpoint == late.endpoint
            with pytest.raises(TerminalFailure, match="refused the credentials"):  # and so it was reached
                answer.result(timeout=60)


@pytest.mark.bad_input
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_terminal_and_never_shown(
    variable: str, s3_server: S3Server, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3_server.environment(), variable: "not-the-right-one"}.items():
        monkeypatch.setenv(name, value)
    wrong = ObjectStore(s3_server.store())
    (tmp_path / "file").write_bytes(b"1")
    for action in (lambda: wrong.get_bytes(f"{uri}/x"), lambda: wrong.upload(tmp_path / "file", f"{uri}/x")):
        with pytest.raises(TerminalFailure, match="refused the credentials") as failure:
            action()
        assert failure.value.reason is Reason.STORE_ACCESS_DENIED
        assert s3_server.secret_key not in failure.value.message
        assert "not-the-right-one" not in failure.value.message


@pytest.mark.bad_input
def test_missing_credentials_say_where_they_belong(
    s3_server: S3Server, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(TerminalFailure, match="Secret must hold AWS_ACCESS_KEY_ID") as failure:
        ObjectStore(s3_server.store()).get_bytes(f"{uri}/x")
    assert failure.value.reason is Reason.STORE_ACCESS_DENIED


@pytest.mark.bad_input
def test_a_missing_bucket_is_named(store: ObjectStore) -> None:
    with pytest.raises(TerminalFailure, match="no such bucket") as failure:
        store.find_bytes("s3://not-there/x")
    assert failure.value.reason is Reason.STORE_MISCONFIGURED


@pytest.mark.bad_input
def test_a_bad_endpoint_is_an_invalid_spec() -> None:
    with pytest.raises(TerminalFailure, match="Invalid endpoint") as failure:
        ObjectStore(Store(endpoint="store:7070 please"))
    assert failure.value.reason is Reason.INVALID_JOB_SPEC


@pytest.mark.bad_input
@pytest.mark.parametrize("uri", ["http://x/y", "s3:/bucket/x", "bucket/x", ""])
def test_a_uri_that_is_not_s3_is_refused(uri: str, store: ObjectStore) -> None:
    with pytest.raises(TerminalFailure, match="s3://bucket/key") as failure:
        store.get_bytes(uri)
    assert failure.value.reason is Reason.INVALID_JOB_SPEC
