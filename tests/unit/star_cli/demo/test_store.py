import hashlib
from pathlib import Path

import pytest

from star_cli.demo.store import Store, StoreAccess, credentials_from_environment
from star_cli.errors import StarctlError
from star_cli.local.objectstore import Credentials
from tests.support.artifacts import put_artifact
from tests.support.s3 import S3Server, free_port


def test_what_is_already_there_is_not_sent_again(store: Store, s3_server: S3Server, tmp_path: Path) -> None:
    file = tmp_path / "ratings"
    file.write_bytes(b"1\t2\t3\n")
    uri = f"{s3_server.new_uri()}/ratings"
    digest = hashlib.sha256(b"1\t2\t3\n").hexdigest()
    assert store.upload(file, uri) == (digest, True)
    assert store.upload(file, uri) == (digest, False)
    file.write_bytes(b"4\t5\t6\n")
    assert store.upload(file, uri)[1], "another content of the same size"
    assert store.read(uri) == b"4\t5\t6\n"


def test_artifacts_are_read_with_their_digests_checked(store: Store, s3_server: S3Server) -> None:
    ref = put_artifact(s3_server, {"report.json": b"{}"})
    assert store.has(ref)
    assert store.file(ref, "report.json") == b"{}"
    with pytest.raises(StarctlError, match=r"has no file other\.json"):
        store.file(ref, "other.json")
    s3_server.file(f"{ref.uri}/report.json").write_bytes(b"[]")
    with pytest.raises(StarctlError, match="is not what its manifest says"):
        store.file(ref, "report.json")


def test_a_changed_manifest_and_a_lost_one_are_told_apart(store: Store, s3_server: S3Server) -> None:
    ref = put_artifact(s3_server, {"a": b"a"})
    manifest = s3_server.file(f"{ref.uri}/manifest.json")
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert not store.has(ref)
    with pytest.raises(StarctlError, match="it was changed"):
        store.manifest(ref)
    manifest.unlink()
    assert not store.has(ref)
    with pytest.raises(StarctlError, match="is gone from the store"):
        store.manifest(ref)


def test_wrong_credentials_are_named_without_being_shown(s3_server: S3Server, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()
    stranger = Store(StoreAccess(s3_server.endpoint, Credentials("stranger", "not-the-secret")))
    with pytest.raises(StarctlError, match=r"could not write s3://star/f: .* refused the credentials") as refused:
        stranger.upload(file, "s3://star/f")
    assert "not-the-secret" not in str(refused.value)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()
    endpoint = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StarctlError, match=endpoint):
        Store(StoreAccess(endpoint, Credentials("a", "b"))).upload(file, "s3://star/f")


def test_credentials_of_an_own_store_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(StarctlError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        credentials_from_environment()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert credentials_from_environment() == Credentials("key", "secret")
