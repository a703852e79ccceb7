"""A real S3 server for tests: versitygw as a process, over a folder that is thrown away.

@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from star_cli.local.binaries import Binaries
from star_contracts.job import Store

BUCKET = "star"
_START_SECONDS = 20.0


@dataclass(frozen=True)
class S3Server:
    """A running server. Its root account's credentials are `access_key` and `secret_key`."""

    endpoint: str
    access_key: str
    secret_key: str
    root: Path
    """The folder behind it: a bucket is a folder, an object a file."""

    def store(self) -> Store:
        """The job spec's description of this server."""
        return Store(endpoint=self.endpoint)

    def environment(self) -> dict[str, str]:
        """The credentials as a job pod gets them."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def account(self, *rights: str) -> dict[str, str]:
        """The credentials of a new account that may do this with the bucket's objects, and nothing else."""
        found = self.user()
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [found["AWS_ACCESS_KEY_ID"]]},
            "Action": list(rights),
            "Resource": f"arn:aws:s3:::{BUCKET}/*",
        }
        self.put_policy({"Version": "2012-10-17", "Statement": [statement]})
        return found

    def user(self) -> dict[str, str]:
        """The credentials of a new account, which may do nothing."""
        name, secret = f"account-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        root = ["--access", self.access_key, "--secret", self.secret_key, "--endpoint-url", self.endpoint]
        user = ["create-user", "--access", name, "--secret", secret, "--role", "user"]
        subprocess.run([str(Binaries().ensure("versitygw")), "admin", *root, *user], check=True, timeout=30)
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}

    def put_policy(self, document: dict[str, Any]) -> None:
        """Give the bucket this policy, in place of the one that it has."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(document))

    def new_uri(self, name: str = "test") -> str:
        """A prefix nobody else uses."""
        return f"s3://{BUCKET}/{name}-{uuid.uuid4().hex[:12]}"

    def file(self, uri: str) -> Path:
        """The file behind an object, to damage or to look at."""
        return self.root / uri.removeprefix("s3://")


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def taken_port() -> Iterator[int]:
    """A TCP port that somebody listens on already: whoever would listen there fails."""
    with socket.create_server(("", 0)) as listener:
        port: int = listener.getsockname()[1]
        yield port


@contextmanager
def start_s3(port: int | None = None, certificate: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """Run a server with an empty bucket `star` for the length of a `with` block; on a free port, or on this one.

    With a certificate and its key, both PEM files, it speaks TLS.
    """
    binary = Binaries().ensure("versitygw")
    folder = Path(tempfile.mkdtemp(prefix="star-s3-"))
    root = folder / "data"
    (root / BUCKET).mkdir(parents=True)
    port = port or free_port()
    tls = ["--cert", str(certificate[0]), "--key", str(certificate[1])] if certificate else []
    accounts = ["--iam-dir", str(folder / "accounts")]
    (folder / "accounts").mkdir()
    scheme = "https" if certificate else "http"
    server = S3Server(f"{scheme}://127.0.0.1:{port}", "test-access", uuid.uuid4().hex, root)
    environment = {**os.environ, "ROOT_ACCESS_KEY_ID": server.access_key, "ROOT_SECRET_ACCESS_KEY": server.secret_key}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), "--quiet", "--port", f"127.0.0.1:{port}", *tls, *accounts, "posix", str(root)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, port, folder / "log")
        yield server
    finally:
        died = process.poll()
        process.terminate()
        process.wait(timeout=10)
        said = (folder / "log").read_text()[-2000:]
        shutil.rmtree(folder, ignore_errors=True)
        if died is not None:
            raise RuntimeError(f"versitygw ended in mid-test with {died}: {said}")


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"versitygw did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)  # between polls, under the deadline above
