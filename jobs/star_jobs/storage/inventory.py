"""What lies under a prefix of raw files: the version of a source that no digest names."""

import hashlib
from collections.abc import Callable

from star_contracts.artifact import Inventory
from star_contracts.errors import Reason
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage.s3 import ObjectStore


def take_inventory(store: ObjectStore, uri: str, wanted: Callable[[str], bool]) -> Inventory:
    """Return the inventory of the objects under `uri/` whose relative key is wanted.

    One pass over the listing, in memory that does not grow with it: a prefix may hold millions of objects. The digest
    is the sha256 of a line `key NUL size NUL version LF` an object, in key order; the version is the ETag, or the time
    of writing in a store that has none.
    """
    digest, objects, size, newest = hashlib.sha256(), 0, 0, ""
    for item in store.list(uri):
        if wanted(item.path):
            digest.update(f"{item.path}\0{item.bytes}\0{item.version}\n".encode())
            objects, size, newest = objects + 1, size + item.bytes, max(newest, item.modified)
    return Inventory(digest=f"sha256:{digest.hexdigest()}", objects=objects, bytes=size, newest=newest or None)


def require_pinned(found: Inventory, uri: str, pinned: str | None) -> None:
    """Raise TerminalFailure(SourceChanged) when a source is pinned and is another by now."""
    if pinned is not None and found.digest != pinned:
        raise TerminalFailure(
            Reason.SOURCE_CHANGED,
            f"spec.source.digest is {pinned}, and {uri} is {_told(found)}: pin that one, or put the files back",
        )


def require_unchanged(before: Inventory, after: Inventory, uri: str) -> None:
    """Raise RetryableFailure(SourceChanged) when a source was written to while it was read."""
    if before.digest != after.digest:
        raise RetryableFailure(
            Reason.SOURCE_CHANGED,
            f"{uri} changed while it was read: it was {_told(before)} and is now {_told(after)}; "
            "let its writer finish, or write each version under a prefix of its own; it is tried again",
        )


def _told(found: Inventory) -> str:
    newest = f", the newest of {found.newest}" if found.newest else ""
    return f"{found.digest} ({found.objects} objects, {found.bytes} bytes{newest})"
