"""The artifact store as this machine reaches it: uploads that are skipped when done, artifacts read by digest."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from star_cli.errors import StarctlError
from star_cli.local.objectstore import Credentials, make_bucket
from star_contracts.artifact import MANIFEST_NAME, ArtifactRef, Manifest
from star_contracts.base import sha256_digest
from star_jobs.storage.failures import STORE_ERRORS, answer_of, failure_of, keep_the_answer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")
_SHA256 = "sha256"
"""Metadata key under which an upload's hash is kept."""


@dataclass(frozen=True)
class StoreAccess:
    """An S3-compatible store and who may use it."""

    endpoint: str
    credentials: Credentials
    region: str = "us-east-1"


class Store:
    """Reads and writes objects by `s3://bucket/key`."""

    def __init__(self, access: StoreAccess) -> None:
        import boto3
        from botocore.config import Config

        self._access = access
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=access.endpoint,
            aws_access_key_id=access.credentials.access_key,
            aws_secret_access_key=access.credentials.secret_key,
            aws_session_token=access.credentials.session_token,
            region_name=access.region,
            config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 4}),
        )
        self._client.meta.events.register("after-call.s3", keep_the_answer)

    def make_bucket(self, uri: str) -> None:
        """Have the bucket of `s3://bucket[/prefix]`."""
        make_bucket(self._access.endpoint, self._access.credentials, _split(uri)[0])

    def upload(self, file: Path, uri: str) -> tuple[str, bool]:
        """Have the file at `uri`; returns its sha256 in hex, and whether it had to be sent.

        Raises:
            StarctlError: the store refuses it.
        """
        bucket, key = _split(uri)
        with file.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
        if self._stored_hash(bucket, key) == digest:
            return digest, False
        try:
            self._client.upload_file(str(file), bucket, key, ExtraArgs={"Metadata": {_SHA256: digest}})
        except STORE_ERRORS as error:
            raise self._refused("write", uri, error) from error
        return digest, True

    def has(self, ref: ArtifactRef) -> bool:
        """Whether the artifact is there, under this digest."""
        try:
            return sha256_digest(self.read(f"{ref.uri}/{MANIFEST_NAME}")) == ref.digest
        except FileNotFoundError:
            return False

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The artifact's manifest, its digest checked.

        Raises:
            StarctlError: it is not there, or it is another one.
        """
        uri = f"{ref.uri}/{MANIFEST_NAME}"
        try:
            data = self.read(uri)
        except FileNotFoundError as error:
            raise StarctlError(f"{uri} is gone from the store; it was {ref.digest}") from error
        if sha256_digest(data) != ref.digest:
            raise StarctlError(f"{uri} has digest {sha256_digest(data)} instead of {ref.digest}: it was changed")
        return Manifest.model_validate_json(data)

    def file(self, ref: ArtifactRef, path: str) -> bytes:
        """A small file of an artifact, its hash checked against the manifest."""
        entry = next((file for file in self.manifest(ref).files if file.path == path), None)
        if entry is None:
            raise StarctlError(f"artifact {ref.uri} has no file {path}")
        data = self.read(f"{ref.uri}/{path}")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise StarctlError(f"{ref.uri}/{path} is not what its manifest says: it was changed")
        return data

    def read(self, uri: str) -> bytes:
        """A small object. Raises FileNotFoundError where there is none, StarctlError for everything else."""
        bucket, key = _split(uri)
        try:
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except STORE_ERRORS as error:
            if _is_missing(error):
                raise FileNotFoundError(uri) from error
            raise self._refused("read", uri, error) from error

    def _stored_hash(self, bucket: str, key: str) -> str | None:
        try:
            return self._client.head_object(Bucket=bucket, Key=key)["Metadata"].get(_SHA256)
        except STORE_ERRORS as error:
            if isinstance(error, ClientError) and answer_of(error).code.isdecimal():
                return None  # a refusal of HEAD has no words: the upload's has
            raise self._refused("read", f"s3://{bucket}/{key}", error) from error

    def _refused(self, action: str, uri: str, error: Exception) -> StarctlError:
        return StarctlError(failure_of(error, f"could not {action} {uri}", self._access.endpoint).message)


def credentials_from_environment() -> Credentials:
    """The store's credentials where the cluster is not ours.

    Raises:
        StarctlError: they are not set.
    """
    access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        raise StarctlError(
            "with --kubeconfig the store's credentials come from the environment: "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return Credentials(access, secret, os.environ.get("AWS_SESSION_TOKEN") or None)


def json_lines(data: bytes) -> Iterator[Any]:
    """The values of a JSON Lines file."""
    import json

    return (json.loads(line) for line in data.splitlines() if line.strip())


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ClientError) and answer_of(error).code in _MISSING


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
