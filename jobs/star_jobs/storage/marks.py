"""Marks of what is let go: whoever is about to use a prefix looks here first.

What it relies on (Amazon S3, `Data consistency model` and `Conditional requests`): a read after a write sees it, and of
several conditional writes of one object exactly one succeeds. The argument stands in docs/retention.md.
"""

import uuid
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from star_contracts.errors import Reason
from star_contracts.retention import Mark, MarkState, mark_uri
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage.s3 import ObjectStore


def find_mark(store: ObjectStore, uri: str) -> tuple[Mark, str] | None:
    """Return the mark at an object's URI and its version, or None. Raises TerminalFailure(ArtifactCorrupted)."""
    found = store.find_version(uri)
    if found is None:
        return None
    try:
        return Mark.model_validate_json(found[0]), found[1]
    except ValidationError as error:
        text = f"{uri} is not a mark of retention ({error.errors()[0]['msg']}); delete it"
        raise TerminalFailure(Reason.ARTIFACT_CORRUPTED, text) from error


def write_mark(store: ObjectStore, uri: str, mark: Mark, version: str | None) -> bool:
    """Write a mark in place of that version (None: where there is none). False when it is another by now."""
    data = mark.model_dump_json(by_alias=True).encode()
    if store.put_version(uri, data, version):
        return True
    # A write whose answer was lost is tried again by the client, and then finds itself.
    return store.find_bytes(uri) == data


def take_up(store: ObjectStore, uri: str) -> bool:
    """Say whether a prefix may be used from now on, and spare it where it is marked; False when it is condemned.

    Call it before the first object under the prefix is read or written.
    """
    place = mark_uri(uri)
    while place is not None:
        try:
            found = find_mark(store, place)
        except TerminalFailure as failure:
            if failure.reason is not Reason.STORE_ACCESS_DENIED:
                raise
            return True  # a prefix of somebody else's, where this account sees no marks: not ours to delete
        if found is None or found[0].state is MarkState.SPARED:
            return True
        mark, version = found
        if mark.state is MarkState.CONDEMNED:
            return False
        spared = mark.model_copy(
            update={"state": MarkState.SPARED, "by": f"use-{uuid.uuid4().hex}", "at": datetime.now(UTC)}
        )
        try:
            written = write_mark(store, place, spared, version)
        except TerminalFailure as failure:
            if failure.reason is not Reason.STORE_ACCESS_DENIED:
                raise
            structlog.get_logger().warning("marked for deletion, and not this account's to spare", uri=uri)
            return True
        if written:
            structlog.get_logger().info("spared what was marked for deletion", uri=uri)
            return True
    return True


def require_use(store: ObjectStore, uri: str) -> None:
    """Take a prefix up. Raises RetryableFailure(BeingDeleted) when it is condemned."""
    if not take_up(store, uri):
        raise RetryableFailure(
            Reason.BEING_DELETED,
            f"{uri} was let go and is being deleted just now; it is tried again: work areas are then begun anew, an "
            "artifact's stage has to be run again (docs/retention.md says what is kept, and how to pin it)",
        )
