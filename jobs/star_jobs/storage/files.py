"""Local files on their way to and from the store: digests, sizes, verified downloads."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from star_contracts.artifact import FileEntry
from star_contracts.errors import Reason
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage.s3 import ObjectStore

_GIB = 1024**3


def sha256_file(path: Path) -> str:
    """Return the lower-case hex sha256 of a file, read in blocks."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def file_entry(path: Path, relative: str) -> FileEntry:
    """Describe a local file as a manifest does."""
    return FileEntry(path=relative, bytes=path.stat().st_size, sha256=sha256_file(path))


def local_files(folder: Path) -> list[Path]:
    """Return every regular file under a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def safe_relative(path: str) -> str:
    """Return `path` when it stays inside its artifact; raise ValueError otherwise."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or str(PurePosixPath(path)) != path:
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def matches(path: Path, entry: FileEntry) -> bool:
    """Tell whether a local file is exactly the one of the manifest."""
    return path.is_file() and path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256


def verified_download(store: ObjectStore, uri: str, entry: FileEntry, path: Path) -> None:
    """Download one file, unless the right one is there already; it gets its name only once its digest is right.

    Raises TerminalFailure: ArtifactCorrupted when size or sha256 differ, ArtifactNotFound when it is missing.
    """
    if matches(path, entry):
        return
    part = path.with_name(path.name + ".part")
    store.download(uri, part)
    size = part.stat().st_size
    if size != entry.bytes or sha256_file(part) != entry.sha256:
        part.unlink()
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED,
            f"{uri} does not match its manifest: {size} bytes where {entry.bytes} are recorded"
            if size != entry.bytes
            else f"{uri} does not match its manifest: its sha256 differs, so its content was changed; "
            "restore it, or delete the artifact and run its stage again",
        )
    part.replace(path)


def require_space(folder: Path, entries: Sequence[FileEntry]) -> None:
    """Fail early, with figures, when the files cannot fit on the disk under `folder` (which must exist)."""
    needed = sum(entry.bytes for entry in entries)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RetryableFailure(
            Reason.OUT_OF_DISK,
            f"the input needs {needed / _GIB:.2f} GiB and {folder} has {free / _GIB:.2f} GiB free: give the stage more "
            "room (compute.resources.scratch)",
        )
