"""The object store: a thin, typed edge over boto3 that speaks `s3://` URIs and raises only JobFailures.

Transfers are multipart, concurrent and retried, and memory stays flat for objects of any size.
Credentials come from where boto3 looks for them, never from arguments: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
(with AWS_SESSION_TOKEN, where they are temporary), or the role of the pod's service account.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from star_contracts.errors import Reason
from star_contracts.job import Store
from star_jobs.errors import TerminalFailure
from star_jobs.storage.failures import STORE_ERRORS, NotAnObjectStore, failure_of, is_of_the_store, keep_the_answer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

CONCURRENCY = 8
"""Requests in flight in one transfer, and files in flight in a tree."""
_MIB = 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=16 * _MIB, multipart_chunksize=16 * _MIB, max_concurrency=CONCURRENCY)
ATTEMPTS = 10
"""Tries of one request, with growing pauses of a quarter of a minute in all: a store that restarts is waited for."""
_OTHER_VERSION = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"})
"""Answers to a conditional write whose condition does not hold (NoSuchKey: it was deleted meanwhile)."""


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing."""

    path: str
    """Key relative to the listed prefix."""
    bytes: int
    version: str = ""
    """What the store knows its content by: the ETag, or the time it was written where there is none."""
    modified: str = ""
    """When it was written: RFC 3339, UTC."""


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of `s3://bucket/key`.

    Raises TerminalFailure(InvalidJobSpec) for anything else.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise TerminalFailure(Reason.INVALID_JOB_SPEC, f"{uri!r} is not an object URI: write it as s3://bucket/key")
    return bucket, key.strip("/")


class ObjectStore:
    """An S3-compatible store."""

    def __init__(self, store: Store, attempts: int = ATTEMPTS, profile: str | None = None) -> None:
        self.endpoint = store.endpoint or "AWS S3"
        config = Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=CONCURRENCY * (CONCURRENCY + 1),
            s3={"addressing_style": "path" if store.path_style else "virtual"},
            # Not every S3-compatible server understands the trailing checksums that boto3 sends by default;
            # the manifest's sha256 protects the content end to end.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._errors("connect to", f"the store at {self.endpoint}"):
            self._client: S3Client = boto3.session.Session(profile_name=profile).client(
                "s3", endpoint_url=store.endpoint, region_name=store.region, config=config
            )
            self._client.meta.events.register("after-call.s3", keep_the_answer)
            self._client.meta.events.register("before-call.s3.HeadBucket", _ask_once)

    def get_bytes(self, uri: str) -> bytes:
        """Return a small object's content. Raises TerminalFailure(ArtifactNotFound) when there is none."""
        bucket, key = split_uri(uri)
        with self._errors("read", uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def find_bytes(self, uri: str) -> bytes | None:
        """Return a small object's content, or None when there is no such object."""
        try:
            return self.get_bytes(uri)
        except TerminalFailure as failure:
            if self._is_missing(uri, failure):
                return None
            raise

    def find_version(self, uri: str) -> tuple[bytes, str] | None:
        """Return a small object's content and its version (ETag), or None when there is no such object."""
        bucket, key = split_uri(uri)
        try:
            with self._errors("read", uri):
                found = self._client.get_object(Bucket=bucket, Key=key)
                return found["Body"].read(), found["ETag"]
        except TerminalFailure as failure:
            if self._is_missing(uri, failure):
                return None
            raise

    def _is_missing(self, uri: str, failure: TerminalFailure) -> bool:
        """Say whether an object is not there, and not merely denied.

        S3 answers 403 for what is not there to an account whose right to list is bound to a prefix: its list tells.
        """
        if failure.reason is not Reason.STORE_ACCESS_DENIED:
            return failure.reason is Reason.ARTIFACT_NOT_FOUND
        try:
            return not self.has(uri)
        except TerminalFailure:
            return False

    def put_version(self, uri: str, data: bytes, version: str | None) -> bool:
        """Write a small object in place of that version, None being none at all; False when it is another by now.

        A server that ignores conditions (`If-Match`, `If-None-Match`) answers True always: `star_jobs.sweep` looks.
        """
        bucket, key = split_uri(uri)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        with self._errors("write", uri):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _OTHER_VERSION:
                    return False
                raise
        return True

    def has(self, uri: str) -> bool:
        """Say whether there is an object, without its content."""
        bucket, key = split_uri(uri)
        folder, _, name = key.rpartition("/")
        return any(one.path == name for one in self.list(f"s3://{bucket}/{folder}"))

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Write a small object in one request: it is there whole or not at all."""
        bucket, key = split_uri(uri)
        with self._errors("write", uri):
            self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def upload(self, path: Path, uri: str) -> None:
        """Upload a file of any size, in concurrent parts."""
        bucket, key = split_uri(uri)
        with self._errors("write", uri):
            self._client.upload_file(str(path), bucket, key, Config=_TRANSFER)

    def download(self, uri: str, path: Path) -> None:
        """Download an object of any size, in concurrent parts; the file appears when it is whole."""
        bucket, key = split_uri(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("read", uri):
            try:
                self._client.download_file(bucket, key, str(path), Config=_TRANSFER)
            except ClientError as error:
                self._explain(error, bucket, key)
                raise

    def sha256(self, uri: str) -> str:
        """Return the lower-case hex sha256 of an object of any size, read as a stream.

        Raises TerminalFailure(ArtifactNotFound) when there is none.
        """
        bucket, key = split_uri(uri)
        found = hashlib.sha256()
        with self._errors("read", uri):
            for chunk in self._client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_MIB):
                found.update(chunk)
        return found.hexdigest()

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        """Yield the objects under `prefix_uri/`, in key order."""
        bucket, prefix = split_uri(prefix_uri)
        prefix = f"{prefix}/" if prefix else ""
        with self._errors("list", prefix_uri):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                _require_listing(page)
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        when = _written(item.get("LastModified"))
                        yield StoredObject(
                            item["Key"].removeprefix(prefix), item["Size"], item.get("ETag") or when, when
                        )

    def delete(self, uri: str) -> None:
        """Delete one object; deleting what is not there is no error."""
        bucket, key = split_uri(uri)
        with self._errors("delete", uri):
            self._client.delete_object(Bucket=bucket, Key=key)

    def delete_tree(self, prefix_uri: str) -> None:
        """Delete every object under `prefix_uri/`."""
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(lambda item: self.delete(f"{prefix_uri}/{item.path}"), self.list(prefix_uri)))

    def _explain(self, error: ClientError, bucket: str, key: str) -> None:
        """Ask again for one byte where the answer to HEAD, which has no body, could not say why it was refused."""
        if error.operation_name == "HeadObject" and error.response.get("Error", {}).get("Code") != "404":
            self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()

    @contextmanager
    def _errors(self, action: str, what: str) -> Iterator[None]:
        try:
            yield
        except STORE_ERRORS as error:
            raise failure_of(error, f"could not {action} {what}", self.endpoint) from error
        except OSError as error:
            if not is_of_the_store(error):
                raise
            raise failure_of(error, f"could not {action} {what}", self.endpoint) from error


def _require_listing(page: "ListObjectsV2OutputTypeDef") -> None:
    """Raise NotAnObjectStore for a page that is none, or one that says there are more and not how to ask for them."""
    if page.get("IsTruncated") and not page.get("NextContinuationToken"):
        raise NotAnObjectStore("the first part of a listing, and no way to the next (ListObjectsV2)")
    if not page.keys() & {"IsTruncated", "KeyCount", "Name"}:
        raise NotAnObjectStore("something that is no listing (ListObjectsV2)")
    if any("Key" not in item or "Size" not in item for item in page.get("Contents", [])):
        raise NotAnObjectStore("a listing of objects without key or size")


def _written(moment: datetime | None) -> str:
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else ""
    except OverflowError:  # of no year
        return ""


def _ask_once(context: dict[str, Any], **_: object) -> None:
    """Handler of botocore's `before-call`: keep it from asking for ever.

    Where a redirect names no region botocore asks for the bucket, and so again where that is redirected too: by a proxy
    that answers 301 to everything.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True
