"""API keys from a mounted file, one a line; compared in constant time, re-read when the file changes, never logged."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from star_jobs.serve.problems import Problem

_SCHEME = "bearer"


@dataclass(frozen=True)
class ApiKeys:
    """The keys that are let in. Only their hashes are kept, so that no traceback or dump can show one."""

    digests: tuple[bytes, ...]
    required: bool

    @classmethod
    def read(cls, path: str | None) -> "ApiKeys":
        """Read the keys; `None` lets everybody in. Empty lines and lines that start with `#` are skipped.

        Raises ValueError, without any of the content, when the file cannot be read or has no key.
        """
        if path is None:
            return cls(digests=(), required=False)
        try:
            # Editors put a byte order mark in front, which is no part of the first key.
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise ValueError(f"apiKeysFile {path} cannot be read ({type(error).__name__}); mount the secret") from None
        except UnicodeDecodeError:
            raise ValueError(f"apiKeysFile {path} is not UTF-8; write the secret's keys as plain text") from None
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise ValueError(f"apiKeysFile {path} has no key; put one key on each line")
        return cls(digests=tuple(_digest(key) for key in keys), required=True)

    def check(self, authorization: str | None) -> None:
        """Let a request's `Authorization` header pass. Raises Problem 401 otherwise, with the same words each time."""
        if not self.required:
            return
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()  # as the header's bytes came
        # Every key is compared whatever the outcome of the others: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self.digests]
        if scheme.lower() != _SCHEME or not any(matches):
            raise unauthorized()


def unauthorized() -> Problem:
    """Return the one answer to every request without a good key."""
    return Problem(401, "unauthorized", "send one of the deployment's API keys as `Authorization: Bearer <key>`.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
