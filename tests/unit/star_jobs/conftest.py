"""Fixtures of the jobs' tests: a real S3 server and a store that talks to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_jobs.storage import ObjectStore
from tests.support.jobs import JobRunner
from tests.support.s3 import S3Server, start_s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return ObjectStore(s3_server.store())


@pytest.fixture
def uri(s3_server: S3Server) -> str:
    """A prefix of this test alone."""
    return s3_server.new_uri()


@pytest.fixture
def jobs(s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path) -> JobRunner:
    """Runs stages as pods would."""
    return JobRunner(s3_server, store, uri, tmp_path)
