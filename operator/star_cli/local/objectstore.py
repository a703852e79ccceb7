"""The S3 server of the local cluster: versitygw over a folder, with a root credential of its own.

https://github.com/versity/versitygw. Usable alone, as tests of the storage code do.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError

from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_atomic
from star_cli.local.paths import Layout
from star_cli.local.processes import Processes, ProcessSpec
from star_jobs.storage.failures import STORE_ERRORS, answer_of, failure_of

_READY_SECONDS = 30.0
_NAME = "versitygw"
_OURS_ALREADY = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


@dataclass(frozen=True)
class Credentials:
    """A credential of an S3 server; what is secret is kept out of representations."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary credentials."""


def load_credentials(path: Path) -> Credentials:
    """The credential in `path`, made at random and stored with mode 0600 where there is none."""
    try:
        data = json.loads(path.read_text())
        return Credentials(str(data["access_key"]), str(data["secret_key"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        made = Credentials(f"STAR{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        content = {"access_key": made.access_key, "secret_key": made.secret_key}
        write_atomic(path, json.dumps(content), mode=0o600)
        return made


@dataclass
class ObjectStore:
    """An S3 server whose data are in `layout`, listening on `addresses` at one port."""

    layout: Layout
    port: int
    addresses: Sequence[str] = ("127.0.0.1",)
    binaries: Binaries = field(default_factory=Binaries)
    cgroups: tuple[Path, ...] = ()
    ends_with_parent: bool = False

    def __post_init__(self) -> None:
        self.processes = Processes(self.layout.records, self.layout.logs)

    @property
    def endpoint(self) -> str:
        """URL for programs on this machine."""
        return f"http://{self.addresses[0]}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """The root credential."""
        return load_credentials(self.layout.credentials)

    def start(self, bucket: str) -> None:
        """Have the server running and `bucket` in it.

        Raises:
            LocalClusterError: it does not come up, or refuses to make the bucket.
        """
        data = self.layout.root / "s3"
        data.mkdir(parents=True, exist_ok=True)
        listen = [option for address in self.addresses for option in ("--port", f"{address}:{self.port}")]
        options = ["--quiet", "--keep-alive", "--region", "us-east-1", "--health", "/-/health"]
        spec = ProcessSpec(
            _NAME,
            (str(self.binaries.ensure(_NAME)), *listen, *options, "posix", str(data)),
            env={
                "ROOT_ACCESS_KEY_ID": self.credentials.access_key,
                "ROOT_SECRET_ACCESS_KEY": self.credentials.secret_key,
            },
            cgroups=self.cgroups,
            ends_with_parent=self.ends_with_parent,
        )
        self.processes.ensure(spec)
        self.processes.wait_ready(_NAME, self.healthy, _READY_SECONDS)
        make_bucket(self.endpoint, self.credentials, bucket)

    def stop(self) -> None:
        """End the server; its data stay."""
        self.processes.stop(_NAME)

    def healthy(self) -> bool:
        """Whether the server answers."""
        try:
            return httpx.get(f"{self.endpoint}/-/health", timeout=2.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def make_bucket(endpoint: str, credentials: Credentials, bucket: str) -> None:
    """Have `bucket` on the S3 server at `endpoint`.

    Raises:
        LocalClusterError: the server refuses it.
    """
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.session_token,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    try:
        client.create_bucket(Bucket=bucket)
    except STORE_ERRORS as error:
        if not isinstance(error, ClientError) or answer_of(error).code not in _OURS_ALREADY:
            raise LocalClusterError(failure_of(error, f"could not make bucket {bucket}", endpoint).message) from error
