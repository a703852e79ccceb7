"""The files an image is made from: listed, hashed, and laid out as a build context that holds nothing else."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from star_cli.images.errors import ImagesError

_SKIPPED_FOLDERS = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_SKIPPED_SUFFIXES = {".pyc", ".tmp"}
HASH_LENGTH = 12


def files_below(root: Path, paths: Iterable[str]) -> list[str]:
    """All files at or below `paths`, relative to `root`, sorted and without caches.

    Raises:
        ImagesError: a path is not there.
    """
    found: set[str] = set()
    for path in paths:
        start = root / path
        if not start.exists():
            raise ImagesError(f"{path} is missing, and an image is made from it; run this in a complete checkout")
        found.update(str(file.relative_to(root)) for file in _walk(start))
    return sorted(found)


def _walk(start: Path) -> Iterator[Path]:
    if start.is_file():
        yield start
        return
    for folder, names, files in os.walk(start):
        names[:] = [name for name in names if name not in _SKIPPED_FOLDERS]
        yield from (Path(folder, name) for name in files if Path(name).suffix not in _SKIPPED_SUFFIXES)


def content_hash(root: Path, files: Iterable[str], arguments: Mapping[str, str]) -> str:
    """Hash (12 hex digits of sha256) of files' paths, contents and build arguments: an image's identity.

    Modification times do not count, so that a fresh clone finds the images of another.
    """
    digest = hashlib.sha256()
    for name, value in sorted(arguments.items()):
        digest.update(f"{name}={value}\0".encode())
    for file in files:
        content = hashlib.sha256((root / file).read_bytes()).hexdigest()
        digest.update(f"{file}\0{content}\0".encode())
    return digest.hexdigest()[:HASH_LENGTH]


def lay_out(root: Path, files: Iterable[str], target: Path) -> None:
    """Put files into the build context `target`."""
    for file in files:
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        # a copy, as another process may rewrite the file in place while the image is built
        copy.write_bytes((root / file).read_bytes())
        copy.chmod(0o644)
