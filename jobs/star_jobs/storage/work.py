"""Resumable state of a piece of work: small objects and whole folders under its work prefix.

The prefix depends on what is computed, not on the attempt, so a retry in a new pod continues where the last one ended.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import TypeAdapter

from star_contracts.artifact import FileEntry
from star_contracts.base import canonical_json
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.storage.files import file_entry, local_files, safe_relative, verified_download
from star_jobs.storage.s3 import CONCURRENCY, ObjectStore

_COMPLETE = ".complete.json"
_ENTRIES = TypeAdapter(tuple[FileEntry, ...])


class WorkArea:
    """Objects under one `s3://` prefix. Names are relative paths with `/`."""

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self._store = store
        self.uri = uri

    def put(self, name: str, data: bytes) -> None:
        """Write one object, whole or not at all."""
        self._store.put_bytes(f"{self.uri}/{name}", data)

    def get(self, name: str) -> bytes | None:
        """Return an object's content, or None when it is not there."""
        return self._store.find_bytes(f"{self.uri}/{name}")

    def delete(self, name: str) -> None:
        """Delete one object; deleting what is not there is no error."""
        self._store.delete(f"{self.uri}/{name}")

    def upload_tree(self, folder: Path, name: str) -> None:
        """Upload a folder's files under `name/`, then the marker that makes it count as complete."""

        def upload(path: Path) -> FileEntry:
            entry = file_entry(path, path.relative_to(folder).as_posix())
            self._store.upload(path, f"{self.uri}/{name}/{entry.path}")
            return entry

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            entries = list(pool.map(upload, local_files(folder)))
        self.put(name + _COMPLETE, canonical_json([entry.to_json_dict() for entry in entries]))

    def download_tree(self, name: str, destination: Path) -> Path | None:
        """Download a complete tree into `destination`, verified by digest; None when there is no complete one.

        Raises TerminalFailure(ArtifactCorrupted) when a file does not match what was uploaded, or the marker is none.
        """
        marker = self.get(name + _COMPLETE)
        if marker is None:
            return None
        entries = self._entries(name, marker)

        def download(entry: FileEntry) -> None:
            verified_download(self._store, f"{self.uri}/{name}/{entry.path}", entry, destination / entry.path)

        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(download, entries))
        return destination

    def _entries(self, name: str, marker: bytes) -> tuple[FileEntry, ...]:
        try:
            entries = _ENTRIES.validate_json(marker)
            for entry in entries:
                safe_relative(entry.path)
        except ValueError as error:
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{self.uri}/{name}{_COMPLETE} does not list the files of a tree ({error}); delete it, so that the "
                "work goes on from an earlier one",
            ) from error
        return entries

    def trees(self, prefix: str = "") -> list[str]:
        """Return the names of the complete trees in the folder `prefix`, sorted."""
        return [name.removesuffix(_COMPLETE) for name in self.list(prefix) if name.endswith(_COMPLETE)]

    def delete_tree(self, name: str) -> None:
        """Delete a tree, its marker first, so that a half-deleted one never counts as complete."""
        self.delete(name + _COMPLETE)
        self._store.delete_tree(f"{self.uri}/{name}")

    def list(self, prefix: str = "") -> list[str]:
        """Return the names of the objects in the folder `prefix`, sorted."""
        where = f"{self.uri}/{prefix}".rstrip("/")
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        return [folder + item.path for item in self._store.list(where)]
