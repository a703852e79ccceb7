"""Checkpoints between places: a model's folder into a store, and a checkpoint with its proofs out of one, and back in.

An exported checkpoint is a folder of two: `checkpoint/`, the artifact as it is, its `manifest.json` included, and
`checkpoint.proofs/`, its proofs. Brought into another store it has the same digest, so that pins, gates and signatures
hold there. Manifests go last, as everywhere.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from star_contracts.artifact import (
    MANIFEST_NAME,
    ArtifactKind,
    ArtifactRef,
    FileEntry,
    Manifest,
    Producer,
    artifact_uri,
)
from star_contracts.base import sha256_digest, value_hash
from star_contracts.errors import Reason
from star_contracts.proofs import CHECKPOINT_INPUT, proofs_uri
from star_jobs.errors import TerminalFailure
from star_jobs.models.folder import checkpoint_files, describe
from star_jobs.storage import ArtifactWriter, ObjectStore, fetch, find_manifest, read_manifest
from star_jobs.storage.files import file_entry, matches, safe_relative

CHECKPOINT = "checkpoint"
PROOFS = proofs_uri(CHECKPOINT)
KIND, STEP = "Checkpoint", "import"
FIRST = 1


@dataclass(frozen=True)
class Home:
    """Where an imported checkpoint goes."""

    store: ObjectStore
    root: str
    """`s3://bucket[/prefix]`: the store's uri, as in the chart's values."""
    namespace: str
    name: str

    def uri(self, content: str) -> str:
        """Return the prefix of content of a digest: other content lies elsewhere."""
        return artifact_uri(
            self.root, self.namespace, KIND, self.name, FIRST, f"{STEP}-{content.removeprefix('sha256:')[:16]}"
        )


def is_exported(folder: Path) -> bool:
    """Say whether a folder holds an exported checkpoint."""
    return (folder / CHECKPOINT / MANIFEST_NAME).is_file()


def import_model(folder: Path, home: Home) -> ArtifactRef:
    """Write a Hugging Face folder as a checkpoint. Equal content is written once.

    Raises TerminalFailure(InvalidModel) for what vLLM could not load, and what the store raises.
    """
    describe(folder, str(folder))
    files = checkpoint_files(folder)
    entries = tuple(sorted((file_entry(path, path.name) for path in files), key=lambda entry: entry.path))
    content = value_hash([[entry.path, entry.sha256] for entry in entries])
    uri = home.uri(content)
    found = find_manifest(home.store, uri)
    if found is not None and found[0].files == entries:  # what it claims to be of may be anything
        return found[1]
    writer = ArtifactWriter(home.store, uri)
    for path in files:
        writer.add_file(path, path.name)
    producer = Producer(kind=KIND, namespace=home.namespace, name=home.name, uid="", step=STEP, work_hash=content)
    manifest = writer.commit(ArtifactKind.CHECKPOINT, producer, {}, {})
    return ArtifactRef(uri=uri, digest=manifest.digest())


def import_exported(folder: Path, home: Home) -> ArtifactRef:
    """Write an exported checkpoint and its proofs, as they are.

    Raises JobFailure; ArtifactCorrupted names both digests.
    """
    manifest = _local_manifest(folder / CHECKPOINT)
    _require_files(folder / CHECKPOINT, manifest.files, manifest.digest())
    describe(folder / CHECKPOINT, str(folder))
    ref = ArtifactRef(uri=home.uri(manifest.digest()), digest=manifest.digest())
    _require_kind(manifest, str(folder))
    _put(folder / CHECKPOINT, manifest, ref.uri, home.store)
    for proof in sorted((folder / PROOFS).glob(f"*/{MANIFEST_NAME}")):
        found = _local_manifest(proof.parent)
        about = found.inputs.get(CHECKPOINT_INPUT)
        if about != ref.digest:
            raise _corrupted(f"the proof in {proof.parent} is of {about}, and the checkpoint is {ref.digest}")
        _require_files(proof.parent, found.files, found.digest())
        _put(proof.parent, found, f"{proofs_uri(ref.uri)}/{proof.parent.name}", home.store)
    return ref


def export(store: ObjectStore, ref: ArtifactRef, folder: Path) -> int:
    """Download a checkpoint and its proofs, every file verified; return how many proofs there are.

    Raises JobFailure.
    """
    _require_kind(read_manifest(store, ref), ref.uri)
    fetch(store, ref, folder / CHECKPOINT)
    count = 0
    for uri in proofs(store, ref.uri):
        found = find_manifest(store, uri)
        if found is not None and found[0].inputs.get(CHECKPOINT_INPUT) == ref.digest:
            fetch(store, found[1], folder / PROOFS / uri.rpartition("/")[2])
            count += 1
    return count


def proofs(store: ObjectStore, uri: str) -> Iterator[str]:
    """Yield the prefixes of the proofs of the checkpoint at a prefix."""
    root, end = proofs_uri(uri), f"/{MANIFEST_NAME}"
    for one in store.list(root):
        if one.path.endswith(end) and one.path.count("/") == 1:
            yield f"{root}/{one.path.removesuffix(end)}"


def copy(store: ObjectStore, ref: ArtifactRef, home: Home, scratch: Path | None = None) -> tuple[ArtifactRef, int]:
    """Bring a checkpoint and its proofs into another store, by way of a local folder that has room for it."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        count = export(store, ref, Path(folder))
        return import_exported(Path(folder), home), count


def _put(folder: Path, manifest: Manifest, uri: str, store: ObjectStore) -> None:
    if store.find_bytes(f"{uri}/{MANIFEST_NAME}") == manifest.canonical():
        return
    for entry in manifest.files:
        store.upload(folder / entry.path, f"{uri}/{entry.path}")
    store.put_bytes(f"{uri}/{MANIFEST_NAME}", manifest.canonical())


def _require_files(folder: Path, entries: Sequence[FileEntry], digest: str) -> None:
    for entry in entries:
        path = folder / entry.path
        if not path.is_file():
            raise _corrupted(f"{path} is missing, and the manifest {digest} has it")
        if not matches(path, entry):
            have = f"sha256:{file_entry(path, entry.path).sha256}"
            raise _corrupted(f"{path} is {have}, and the manifest {digest} has it as sha256:{entry.sha256}")


def _local_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest, which must be in its canonical form, as its digest is of that."""
    data = (folder / MANIFEST_NAME).read_bytes()
    try:
        manifest = Manifest.model_validate_json(data)
        for entry in manifest.files:
            safe_relative(entry.path)
    except (ValidationError, ValueError) as error:
        raise _corrupted(f"{folder / MANIFEST_NAME} cannot be read as a manifest") from error
    if manifest.canonical() != data:
        have, is_now = sha256_digest(data), manifest.digest()
        raise _corrupted(f"{folder / MANIFEST_NAME} is {have}, and would be {is_now} if this project had written it")
    return manifest


def _require_kind(manifest: Manifest, where: str) -> None:
    if manifest.kind is not ArtifactKind.CHECKPOINT:
        text = f"{where} is an artifact of kind {manifest.kind}, and no checkpoint; name a model's"
        raise TerminalFailure(Reason.INVALID_MODEL, text)


def _corrupted(text: str) -> TerminalFailure:
    return TerminalFailure(Reason.ARTIFACT_CORRUPTED, f"{text}; export it again")
