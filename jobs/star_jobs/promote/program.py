"""The git program, run: bounded in time and in what it keeps on disk, stopped when the pod is, its answers told apart.

git's sentence                       -> reason
no such host, refused, cut off, 5xx     GitUnreachable (again later)
401, 403, publickey                     GitAccessDenied
host key, certificate                   GitHostUnverified
no such repository or branch, a hook    GitRefused, with the server's own words
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from star_contracts.errors import Reason
from star_contracts.promotion import PromotionLimits
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.promote.credentials import Secrets

_POLL_SECONDS = 0.1
_QUOTED = 500
"""Characters of git's words that a sentence quotes."""
_MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of git's output that are read."""

NO_USER = "No user exists for uid"
"""What ssh and ssh-keygen say where /etc/passwd does not know the id that the pod runs as."""
_SIGNS: tuple[tuple[str, type[JobFailure], Reason, str], ...] = (
    (
        NO_USER,
        TerminalFailure,
        Reason.GIT_REFUSED,
        "ssh works only for a user id that /etc/passwd knows: the image has 65532, CRI-O (OpenShift) adds its own: "
        "take https for target.repository and sign with GPG, or leave podSecurity.runAsUser of the chart as it is",
    ),
    (
        r"host key verification failed|no .* host key is known|remote host identification has changed",
        TerminalFailure,
        Reason.GIT_HOST_UNVERIFIED,
        "the host's key is not among `known_hosts` of the Git Secret: add the line that its operator publishes",
    ),
    (
        r"certificate (verif|problem|is|has|signed|subject|chain)|server certificate|self.signed certificate|issuer",
        TerminalFailure,
        Reason.GIT_HOST_UNVERIFIED,
        "the host's certificate is not believed: put its authority into `ca.crt` of the Git Secret",
    ),
    (
        r"authentication failed|could not read (username|password)|permission denied|error: 40[13]|access denied"
        r"|invalid (username|credentials)|load key|terminal prompts disabled|error in libcrypto",
        TerminalFailure,
        Reason.GIT_ACCESS_DENIED,
        "look at `username` and `password`, or `ssh-privatekey`, of the Git Secret, and at the account's right to push",
    ),
    (
        r"error: 30[1278]|redirect",
        TerminalFailure,
        Reason.GIT_REFUSED,
        "the address redirects, which is not followed with a password: write the new address in target.repository",
    ),
    (
        r"could not resolve|connection (refused|reset|timed out|closed)|timed out|network is unreachable|no route to"
        r"|unexpected disconnect|early eof|hung up|error: (429|5\d\d)|temporary failure|failed to connect"
        r"|couldn't connect|operation too slow|empty reply|transfer closed|tls|ssl",
        RetryableFailure,
        Reason.GIT_UNREACHABLE,
        "it is tried again",
    ),
    (
        r"couldn't find remote ref|not our ref",
        TerminalFailure,
        Reason.GIT_REFUSED,
        "target.branch is not there: create it, or correct it",
    ),
    (
        r"not found|does not appear to be a git repository|error: 404|not exist",
        TerminalFailure,
        Reason.GIT_REFUSED,
        "target.repository is not there, or these credentials may not see it",
    ),
    (
        r"protocol .* not (allowed|supported)|transport .* not allowed",
        TerminalFailure,
        Reason.GIT_REFUSED,
        "give target.repository by https or ssh",
    ),
)


@dataclass
class GitProgram:
    """Runs git in one bare repository."""

    repository: Path
    """Folder of the bare repository."""
    scratch: Path
    """Folder for all else."""
    environment: Mapping[str, str]
    secrets: Secrets
    limits: PromotionLimits
    stopping: threading.Event
    begun: float = field(default_factory=time.monotonic)

    def run(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Return what git wrote. Raises JobFailure when it ends with a code other than 0."""
        code, out, errors = self.attempt(*arguments, stdin=stdin, env=env)
        if code != 0:
            raise self.failure(arguments[0], errors)
        return out

    def attempt(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """Run git; return its code, its output and its words. Raises JobFailure: out of time or room, or stopped."""
        given, out, errors = (self.scratch / name for name in ("stdin", "stdout", "stderr"))
        given.write_bytes(stdin)
        with given.open("rb") as standard_in, out.open("wb") as standard_out, errors.open("wb") as standard_error:
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=self.repository,
                env={**self.environment, **(env or {})},
                stdin=standard_in,
                stdout=standard_out,
                stderr=standard_error,
                start_new_session=True,
            )
            try:
                self._wait(process, arguments[0])
            finally:
                _end(process)
        with out.open("rb") as file:
            answer = file.read(_MAX_ANSWER)
        with errors.open("rb") as file:
            words = file.read(64 * 1024).decode(errors="replace")
        return process.returncode, answer, self.secrets.scrubbed(words)

    def failure(self, command: str, words: str) -> JobFailure:
        """Return the failure that git's words mean."""
        quoted = quote(words)
        for pattern, failure, reason, advice in _SIGNS:
            if re.search(pattern, words, re.IGNORECASE):
                return failure(reason, f"git {command}: {quoted}; {advice}")
        return TerminalFailure(Reason.GIT_REFUSED, f"git {command} failed: {quoted}; see this pod's log")

    def _wait(self, process: "subprocess.Popen[bytes]", command: str) -> None:
        while True:
            try:
                process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            else:
                self._require_room()
                return
            if self.stopping.is_set():
                raise RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; what was pushed is found again")
            if time.monotonic() - self.begun > self.limits.seconds:
                raise RetryableFailure(
                    Reason.GIT_UNREACHABLE,
                    f"git {command} was ended: {self.limits.seconds} seconds were for all together; it is tried again",
                )
            self._require_room()

    def _require_room(self) -> None:
        if size_of(self.scratch) > self.limits.fetch_bytes:
            raise TerminalFailure(
                Reason.GIT_TOO_LARGE,
                f"the repository is larger than {self.limits.fetch_bytes} bytes, even without history and with the one "
                "file that is needed: keep what is deployed in a repository of its own, or let the server filter blobs "
                "(uploadpack.allowFilter)",
            )


def quote(words: str) -> str:
    """Return the lines of git's words that say something, on one line and not too long."""
    lines = [line.strip() for line in words.splitlines()]
    telling = [
        line for line in lines if re.match(r"(fatal|error|remote|ssh|ERROR|!|Permission|Host|Load key|No user)", line)
    ]
    text = " ".join(" ".join(telling or lines).split())
    return text[:_QUOTED] or "it said nothing"


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, those that vanish meanwhile left out."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - a hot loop
            except FileNotFoundError:
                continue
    return total


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what git has started as well: helpers keep connections open."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
