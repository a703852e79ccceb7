"""An object store in memory, as strongly consistent as S3: each request is one step, and a test says whose turn it is.

The actors' code is the real one, with this in place of `star_jobs.storage.ObjectStore`.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.storage.s3 import ObjectStore, StoredObject


def _nothing() -> None:
    """Take no turn."""


class Objects(dict[str, tuple[bytes, str]]):
    """What the store holds: URI -> content and version. Every write has a version of its own."""

    versions = itertools.count(1)

    def write(self, uri: str, data: bytes) -> None:
        self[uri] = (data, f'"{next(self.versions)}"')

    def under(self, prefix: str) -> list[str]:
        """URIs under `prefix/`, in key order."""
        return sorted(uri for uri in self if uri.startswith(f"{prefix}/"))


class MemoryStore(ObjectStore):
    """One client of the store; `turn` is called before each request, and may wait, or raise as a crash does."""

    def __init__(self, objects: Objects, turn: Callable[[], None] = _nothing) -> None:
        self.objects, self.turn = objects, turn

    def get_bytes(self, uri: str) -> bytes:
        self.turn()
        if uri not in self.objects:
            raise TerminalFailure(Reason.ARTIFACT_NOT_FOUND, f"could not read {uri}: no such object")
        return self.objects[uri][0]

    def find_version(self, uri: str) -> tuple[bytes, str] | None:
        self.turn()
        return self.objects.get(uri)

    def put_version(self, uri: str, data: bytes, version: str | None) -> bool:
        self.turn()
        there = self.objects.get(uri)
        if (there[1] if there else None) != version:
            return False
        self.objects.write(uri, data)
        return True

    def put_bytes(self, uri: str, data: bytes) -> None:
        self.turn()
        self.objects.write(uri, data)

    def upload(self, path: Path, uri: str) -> None:
        self.put_bytes(uri, path.read_bytes())

    def download(self, uri: str, path: Path) -> None:
        data = self.get_bytes(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def sha256(self, uri: str) -> str:
        return hashlib.sha256(self.get_bytes(uri)).hexdigest()

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        self.turn()
        for uri in self.objects.under(prefix_uri):
            yield StoredObject(uri.removeprefix(f"{prefix_uri}/"), len(self.objects[uri][0]))

    def delete(self, uri: str) -> None:
        self.turn()
        self.objects.pop(uri, None)
