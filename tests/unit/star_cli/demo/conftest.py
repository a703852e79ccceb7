from collections.abc import Iterator

import pytest

from star_cli.demo.store import Store, StoreAccess
from star_cli.local.objectstore import Credentials
from tests.support.s3 import S3Server, start_s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture
def store(s3_server: S3Server) -> Store:
    return Store(StoreAccess(s3_server.endpoint, Credentials(s3_server.access_key, s3_server.secret_key)))
