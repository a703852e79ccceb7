"""The artifact contract in code: write files then the manifest, read by digest, never half of anything."""

import fcntl
import fnmatch
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from star_contracts.artifact import MANIFEST_NAME, ArtifactKind, ArtifactRef, FileEntry, Manifest, Producer
from star_contracts.base import sha256_digest
from star_contracts.errors import JobWarning, Reason
from star_jobs.errors import TerminalFailure
from star_jobs.storage.files import file_entry, local_files, matches, require_space, safe_relative, verified_download
from star_jobs.storage.marks import require_use
from star_jobs.storage.s3 import CONCURRENCY, ObjectStore


class ArtifactWriter:
    """Writes one artifact under a prefix. Nothing can be read from it before `commit`."""

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self._store = store
        self.uri = uri
        self._entries: dict[str, FileEntry] = {}
        self._committed = False

    def add_file(self, path: Path, rel: str) -> FileEntry:
        """Upload a local file as `rel` (relative, with `/`)."""
        entry = self._record(file_entry(path, rel))
        self._store.upload(path, f"{self.uri}/{rel}")
        return entry

    def add_bytes(self, data: bytes, rel: str) -> FileEntry:
        """Write a small file from memory as `rel`."""
        digest = sha256_digest(data).removeprefix("sha256:")
        entry = self._record(FileEntry(path=rel, bytes=len(data), sha256=digest))
        self._store.put_bytes(f"{self.uri}/{rel}", data)
        return entry

    def add_tree(self, folder: Path, prefix: str = "") -> None:
        """Upload every file of a folder, several at once; `prefix` (e.g. `tables/`) goes before their names."""

        def add(path: Path) -> None:
            self.add_file(path, prefix + path.relative_to(folder).as_posix())

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(add, local_files(folder)))

    def commit(
        self,
        kind: ArtifactKind,
        producer: Producer,
        inputs: Mapping[str, str],
        metrics: Mapping[str, float],
        warnings: Sequence[JobWarning] = (),
    ) -> Manifest:
        """Write `manifest.json`, last. From here on the artifact exists and never changes."""
        manifest = Manifest(
            kind=kind,
            files=tuple(sorted(self._entries.values(), key=lambda entry: entry.path)),
            producer=producer,
            inputs=dict(inputs),
            metrics=dict(metrics),
            warnings=tuple(warnings),
        )
        self._store.put_bytes(f"{self.uri}/{MANIFEST_NAME}", manifest.canonical())
        self._committed = True
        return manifest

    def _record(self, entry: FileEntry) -> FileEntry:
        if self._committed or entry.path == MANIFEST_NAME or entry.path in self._entries:
            raise ValueError(f"{entry.path!r} cannot be added: committed already, reserved, or there already")
        safe_relative(entry.path)
        self._entries[entry.path] = entry
        return entry


def read_manifest(store: ObjectStore, ref: ArtifactRef) -> Manifest:
    """Return the manifest of a pinned artifact.

    Raises TerminalFailure: ArtifactNotFound when there is none, ArtifactCorrupted when it is not the pinned one.
    """
    data = store.find_bytes(f"{ref.uri}/{MANIFEST_NAME}")
    if data is None:
        raise TerminalFailure(
            Reason.ARTIFACT_NOT_FOUND,
            f"{ref.uri} holds no {MANIFEST_NAME}: the artifact was never finished or was deleted; run its stage again",
        )
    found = sha256_digest(data)
    if found != ref.digest:
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED,
            f"{ref.uri} is pinned as {ref.digest} and its manifest is {found}: it was changed or replaced; "
            "pin the digest you mean, or run its stage again",
        )
    return _parse(data, ref.uri)


def find_manifest(store: ObjectStore, uri: str) -> tuple[Manifest, ArtifactRef] | None:
    """Return the manifest at a prefix and a reference that pins it, or None when nothing was finished there."""
    data = store.find_bytes(f"{uri}/{MANIFEST_NAME}")
    return None if data is None else (_parse(data, uri), ArtifactRef(uri=uri, digest=sha256_digest(data)))


def fetch(store: ObjectStore, ref: ArtifactRef, destination: Path, only: Sequence[str] | None = None) -> Path:
    """Download an artifact, every file verified, into `destination`, which appears whole or not at all.

    `only` keeps the files whose path matches one of these shell patterns (`*` crosses `/`). What is there already is
    not downloaded again, and an interrupted download goes on where it stopped. Processes that fetch the same
    artifact to the same place wait for each other.
    Raises TerminalFailure (ArtifactNotFound, ArtifactCorrupted) or RetryableFailure (StoreUnreachable, OutOfDisk,
    BeingDeleted).
    """
    require_use(store, ref.uri)
    manifest = read_manifest(store, ref)
    entries = [entry for entry in manifest.files if only is None or _selected(entry.path, only)]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _locked(destination.with_name(f".{destination.name}.lock")):
        if _is_whole(destination, ref, entries):
            return destination
        staging = destination.with_name(f".{destination.name}.partial-{ref.digest[-12:]}")
        staging.mkdir(exist_ok=True)
        _download_all(store, ref, entries, staging)
        (staging / MANIFEST_NAME).write_bytes(manifest.canonical())
        _swap(staging, destination)
    return destination


def _download_all(store: ObjectStore, ref: ArtifactRef, entries: Sequence[FileEntry], staging: Path) -> None:
    missing = [entry for entry in entries if not matches(staging / entry.path, entry)]
    require_space(staging, missing)

    def download(entry: FileEntry) -> None:
        verified_download(store, f"{ref.uri}/{entry.path}", entry, staging / entry.path)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(download, missing))


def _is_whole(destination: Path, ref: ArtifactRef, entries: Sequence[FileEntry]) -> bool:
    manifest = destination / MANIFEST_NAME
    if not manifest.is_file() or sha256_digest(manifest.read_bytes()) != ref.digest:
        return False
    sizes = {entry.path: entry.bytes for entry in entries}
    return all((destination / p).is_file() and (destination / p).stat().st_size == s for p, s in sizes.items())


def _swap(staging: Path, destination: Path) -> None:
    """Give the staged folder its name; what stood there before goes."""
    old = destination.with_name(f".{destination.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        destination.replace(old)
    staging.replace(destination)
    shutil.rmtree(old, ignore_errors=True)


def _selected(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parse(data: bytes, uri: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(data)
        for entry in manifest.files:
            safe_relative(entry.path)
    except (ValidationError, ValueError) as error:
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED, f"{uri}/{MANIFEST_NAME} cannot be read ({error}); run its stage again"
        ) from error
    return manifest
