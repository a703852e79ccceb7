"""The border of a model folder: its text files read, or an InvalidModel that names the file and what to do.

What a user uploaded as a model can be anything: cut short, a Git LFS pointer, another encoding, a link to nowhere. All
of it ends as one terminal failure, before an engine is started.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

LFS_POINTER = b"version https://git-lfs"
LFS_ADVICE = "fetch the files themselves (git lfs pull) and upload them again"
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-8 and UTF-16: the engines read plain UTF-8."""
_LIMIT = 256 << 20
"""Bytes of a text file; the largest tokenizers have some 30 MiB."""


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder."""

    path: Path
    name: str
    """What its user calls it: its artifact's URI or its id on a hub."""

    def problem(self, what: str, advice: str) -> TerminalFailure:
        """Return the failure to raise: `what` completes "the model ...", `advice` says what to do."""
        return TerminalFailure(Reason.INVALID_MODEL, f"the model {self.name} {what}: {advice}")

    def has(self, file: str) -> bool:
        """Tell whether there is such an entry, be it a link to nowhere."""
        try:
            return (self.path / file).exists() or (self.path / file).is_symlink()
        except (OSError, ValueError):  # no file can have that name
            return False

    def json(self, file: str) -> dict[str, Any]:
        """Return the JSON object in a file. Raises TerminalFailure(InvalidModel)."""
        text = self.text(file)
        try:
            value = json.loads(text)
        except RecursionError:
            raise self.problem(f"has a {file} that is nested too deeply", "upload it again") from None
        except ValueError as error:
            raise self.problem(f"has a {file} that is not JSON ({error})", "upload it again") from error
        if not isinstance(value, dict):
            raise self.problem(f"has a {file} that is not a JSON object", "upload it again")
        return value

    def text(self, file: str) -> str:
        """Return a file's text. Raises TerminalFailure(InvalidModel)."""
        data = self._read(file)
        if not data.strip():
            raise self.problem(f"has an empty {file}", "upload it again")
        if data.startswith(LFS_POINTER):
            raise self.problem(f"has a Git LFS pointer in place of {file}", LFS_ADVICE)
        if data.startswith(_MARKS):
            raise self.problem(f"has a {file} that begins with a byte order mark", "save it as UTF-8 without one")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.problem(
                f"has a {file} that is not UTF-8 (byte {error.start} is {data[error.start]:#04x})", "save it as UTF-8"
            ) from error

    def _read(self, file: str) -> bytes:
        path = self.path / file
        try:
            if path.stat().st_size > _LIMIT:
                raise self.problem(f"has a {file} of more than {_LIMIT >> 20} MiB", "upload the file it should be")
            return path.read_bytes()
        except FileNotFoundError:
            raise self.missing(file) from None
        except OSError as error:
            raise self.problem(f"has a {file} that cannot be read ({error.strerror})", "upload it as a file") from error

    def missing(self, file: str) -> TerminalFailure:
        """Return the failure to raise for a file that is not there."""
        if (self.path / file).is_symlink():
            return self.problem(f"has a link to nowhere in place of {file}", "upload the file itself")
        return self.problem(f"has no {file}", "point to a Hugging Face model folder, and upload all of it")
