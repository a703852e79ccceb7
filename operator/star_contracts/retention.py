"""What is let go in the store: the marks that stand for it, and the sweep's orders and answer.

A prefix (an artifact, a work area) is let go in two steps. First it is marked: an object beside the namespace's
artifacts says so. Once it has been marked for its grace period, and nothing has taken it up again, a later sweep
condemns it and deletes it. Whoever is about to read a prefix looks for its mark first and spares it; what is condemned
is not there any more. Each change of a mark is a conditional write, so that of sparing and condemning one wins.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model, value_hash
from star_contracts.job import Store

SWEEP_SPEC_PATH = "/etc/star/sweep.json"
RETENTION = "retention"
"""Folder of a namespace's marks; no kind has this name."""
_DEPTH = 4
"""Segments of a prefix below its namespace: kind, name, attempt (or `work`), step."""


def namespace_root(uri: str) -> str | None:
    """Return `<store>/<namespace>` of a prefix that has the shape of ours; None where it cannot have one."""
    parts = uri.removeprefix("s3://").split("/")
    return uri.rsplit("/", _DEPTH)[0] if len(parts) >= _DEPTH + 2 and all(parts) else None


def mark_uri(uri: str) -> str | None:
    """Return the object that is a prefix's mark; None for one that is none of ours, and is never deleted."""
    root = namespace_root(uri)
    return None if root is None else f"{root}/{RETENTION}/{value_hash(uri).removeprefix('sha256:')[:32]}.json"


class Letting(Model):
    """A prefix that is let go."""

    uri: S3Uri
    """The prefix."""
    digest: Digest | None = None
    """The artifact that lies there; None for a work area, or for half-written work."""
    memos: tuple[S3Uri, ...] = ()
    """Objects that may remember it; deleted with it where they name it."""
    grace_seconds: int = Field(default=86400, ge=0)
    """How long it stays marked before it is deleted."""


class MarkState(StrEnum):
    """How far a prefix is let go."""

    MARKED = "Marked"
    """It may still be used, which spares it."""
    SPARED = "Spared"
    """Somebody uses it."""
    CONDEMNED = "Condemned"
    """It is being deleted: nobody may begin to use it, and there is no way back."""


class Mark(Model):
    """The content of a mark. No two writes of it are equal: `by` and `at` tell them apart."""

    state: MarkState
    letting: Letting
    by: str
    """The sweep that wrote it, or whoever spared it: unique."""
    at: datetime
    """When the grace period began; for what is not marked, when it was written."""


class SweepSpec(Model):
    """What a sweep is told. It was written down after all marks of earlier sweeps, which is what it may act on."""

    store: Store
    root: S3Uri
    """`<store>/<namespace>`: nothing outside is touched."""
    sweep: str
    """Which sweep this is: unique in the namespace."""
    now: datetime
    """When it was decided, by the operator's clock, which is the only one that counts."""
    let_go: tuple[Letting, ...] = ()
    """To be marked."""
    kept: frozenset[Digest] = frozenset()
    """Digests of artifacts that resources have or refer to, and of whatever pods that may still run were told: never
    condemned. Work hashes are among them, as a pod may just have found an artifact of equal work."""
    recorded: frozenset[Digest] = frozenset()
    """Artifacts that a resource which is kept has as its own: their marks are taken off."""
    used: frozenset[S3Uri] = frozenset()
    """Prefixes that pods of this namespace, or resources of others, name: never condemned."""
