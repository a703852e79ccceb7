"""Artifacts: immutable, digest-pinned prefixes in S3-compatible storage.

An artifact is `<store>/<namespace>/<kind>/<name>/<attempt>/...`. Files are written first and `manifest.json` last, so a
prefix without a manifest is half-written work and is never read. The artifact's digest is the sha256 of its canonical
manifest, and the manifest lists every file's sha256: pinning the digest pins every byte.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints

from star_contracts.base import Model, canonical_json, sha256_digest
from star_contracts.errors import JobWarning

MANIFEST_NAME = "manifest.json"

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
S3_SEGMENT = r"/\.*[A-Za-z0-9!_*'()=@+-][A-Za-z0-9!_.*'()=@+-]*"
"""Never dots alone: a store that keeps objects as files would take `..` for the folder above, which is another's."""
S3_URI_PATTERN = rf"^s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]({S3_SEGMENT})+$"

Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN, max_length=71)]
S3Uri = Annotated[str, StringConstraints(pattern=S3_URI_PATTERN)]


class ArtifactKind(StrEnum):
    """What an artifact holds; the file layout of each is documented in docs/artifacts.md."""

    DATASET = "dataset"
    NEIGHBOURS = "neighbours"
    VERBALIZATION = "verbalization"
    TRAJECTORIES = "trajectories"
    SAMPLES = "samples"
    CHECKPOINT = "checkpoint"
    REPORT = "report"
    PROOF = "proof"


class FileEntry(Model):
    """One file of an artifact."""

    path: str
    """Path relative to the artifact's prefix, with `/` separators and no `..`."""
    bytes: int = Field(ge=0)
    """Size in bytes."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Lower-case hex digest of the content."""


class Producer(Model):
    """Who made an artifact."""

    kind: str
    """Kind of the resource, e.g. `SFTJob`."""
    namespace: str
    name: str
    uid: str
    """UID of the resource, so that a re-created one of the same name is told apart."""
    step: str
    """The step of the resource's plan that wrote it, e.g. `train`."""
    work_hash: Digest
    """Digest of the step's parameters and its inputs' digests: equal hash, equal work."""
    image: str = ""
    """Image reference the job ran in, for provenance; not part of the work hash."""


class ArtifactRef(Model):
    """A pinned artifact: where it is and which one it is."""

    uri: S3Uri
    """Prefix of the artifact, `s3://bucket/...` without a trailing slash."""
    digest: Digest
    """sha256 of its canonical manifest."""


class Inventory(Model):
    """What lay under a source's prefix: the version of raw files, which no manifest pins."""

    digest: Digest
    """Of the objects' keys, sizes and versions (ETags)."""
    objects: int = Field(ge=0)
    """How many of them there are."""
    bytes: int = Field(ge=0)
    """Their sizes together."""
    newest: str | None = None
    """When the newest was written: RFC 3339, UTC."""


class Manifest(Model):
    """The content of `manifest.json`."""

    format_version: Literal[1] = 1
    kind: ArtifactKind
    files: tuple[FileEntry, ...]
    """Sorted by path."""
    producer: Producer
    inputs: dict[str, Digest] = {}
    """Digests of the artifacts this one was made from, by role; `source` is the inventory of raw files."""
    metrics: dict[str, FiniteFloat] = {}
    """Headline figures, e.g. `hrAvg`."""
    warnings: tuple[JobWarning, ...] = ()
    """What whoever uses it should know, whether it was made just now or is reused."""

    def canonical(self) -> bytes:
        """Return the exact bytes stored as `manifest.json`."""
        content = self.model_dump(mode="json", by_alias=True)
        if not self.warnings:  # as in the manifests of artifacts that are older than the field
            del content["warnings"]
        return canonical_json(content)

    def digest(self) -> str:
        """Return the artifact's digest."""
        return sha256_digest(self.canonical())

    def total_bytes(self) -> int:
        """Return the sum of the files' sizes."""
        return sum(file.bytes for file in self.files)


def artifact_uri(store: str, namespace: str, kind: str, name: str, attempt: int, step: str) -> str:
    """Return the prefix of one step's artifact.

    `store` is `s3://bucket[/prefix]`; the resource's last step writes the artifact that its status shows.
    """
    return f"{store}/{namespace}/{kind.lower()}/{name}/{attempt}/{step}"


def work_uri(store: str, namespace: str, kind: str, name: str, step: str, work_hash: str) -> str:
    """Return the prefix for resumable state: it depends on the work, not on the attempt, so a retry continues it."""
    return f"{store}/{namespace}/{kind.lower()}/{name}/work/{step}-{work_hash.removeprefix('sha256:')[:16]}"


def memo_uri(store: str, namespace: str, kind: str, step: str, work_hash: str) -> str:
    """Return the object that remembers which artifact came of this work (its content is an `ArtifactRef`)."""
    return f"{store}/{namespace}/{kind.lower()}/memo/{step}-{work_hash.removeprefix('sha256:')}.json"


def memo_root(memo: str) -> str:
    """Return `<store>/<namespace>`, the prefix that a memo's artifact lies under: the memo's own namespace."""
    return memo.rsplit("/", 3)[0]
