"""Fetching the files of a source out of the store."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from star_jobs.datasets.faults import invalid
from star_jobs.datasets.values import shown
from star_jobs.runtime import JobContext
from star_jobs.storage.s3 import CONCURRENCY

_NAME_BYTES = 255
"""Of a file's name, on all file systems in use."""
_LISTED = 5
"""Objects that an error names."""


def download(source: str, wanted: Callable[[str], bool], job: JobContext) -> Path:
    """Fetch the source's files of a format into a folder.

    Raises TerminalFailure(InvalidDataset) when there are none, or one's name cannot be that of a file.
    """
    there = [item.path for item in job.store.list(source)]
    paths = [path for path in there if wanted(path)]
    if not paths:
        some = ", ".join(map(shown, islice(there, _LISTED))) or "nothing"
        raise invalid(f"{source} holds no file of this format (it holds {some}): check spec.source and spec.format")
    check_names(paths)
    folder = job.scratch / "source"
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(lambda path: job.store.download(f"{source}/{path}", folder / path), paths))
    return folder


def check_names(paths: Sequence[str]) -> None:
    """Raise TerminalFailure(InvalidDataset) for an object whose name cannot be that of a file below a folder."""
    folders = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    for path in paths:
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > _NAME_BYTES for part in parts):
            raise invalid(f"the source has an object {shown(path)}, which cannot be the name of a file: rename it")
        if path in folders:
            raise invalid(f"the source has both an object {shown(path)} and others below it: rename it")
