"""Signatures of commits: by an SSH or an OpenPGP key from the Secret, made by git with ssh-keygen or gpg."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from star_contracts.errors import Reason
from star_contracts.promotion import GitFile, Signing
from star_jobs.errors import TerminalFailure
from star_jobs.promote.credentials import Secrets
from star_jobs.promote.program import GitProgram

_FINGERPRINT = re.compile(r"^fpr:(?:[^:]*:){8}([0-9A-F]{40,64}):", re.MULTILINE)
_SECONDS = 60
"""For one call of gpg."""


@dataclass(frozen=True)
class SigningArguments:
    """What git is told in addition."""

    config: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Signer:
    """Signs with the Secret's key, or not at all."""

    def __init__(self, signing: Signing, secrets: Secrets) -> None:
        self._signing = signing
        self._secrets = secrets
        self._arguments = SigningArguments()

    def arguments(self) -> SigningArguments:
        """Return what `git commit-tree` is told."""
        return self._arguments

    @contextmanager
    def ready(self, program: GitProgram) -> Iterator[None]:
        """Have the key ready while it lasts. Raises TerminalFailure(SigningFailed) where there is no usable one."""
        if self._signing is Signing.NONE:
            yield
            return
        key = self._secrets.private_copy(GitFile.SIGNING_KEY, program.scratch)
        if key is None:
            raise _failed(f"the Git Secret has no {GitFile.SIGNING_KEY}: add the private key, or set signing to None")
        if self._signing is Signing.SSH:
            self._arguments = SigningArguments(("-c", "gpg.format=ssh"), (f"-S{key}",))
            yield
            return
        # gpg's agent listens on a socket, whose path may have about a hundred characters: it is kept short.
        with tempfile.TemporaryDirectory(prefix="gpg-") as home:
            try:
                identity = _import(key, Path(home), program)
                environment = {"GNUPGHOME": home}
                self._arguments = SigningArguments(("-c", "gpg.format=openpgp"), (f"-S{identity}",), environment)
                yield
            finally:
                _end_agent(program, Path(home))


def _import(key: Path, home: Path, program: GitProgram) -> str:
    """Give the key to gpg; return its fingerprint."""
    home.chmod(0o700)
    code, _ = _gpg(program, home, "--quiet", "--import", str(key))
    if code != 0:
        raise _failed(f"{GitFile.SIGNING_KEY} in the Git Secret is no OpenPGP key: give it armoured, no passphrase")
    _, listed = _gpg(program, home, "--with-colons", "--list-secret-keys")
    match = _FINGERPRINT.search(listed)
    if match is None:
        raise _failed(f"{GitFile.SIGNING_KEY} in the Git Secret is a public key: give the private one")
    return match.group(1)


def _gpg(program: GitProgram, home: Path, *arguments: str) -> tuple[int, str]:
    if shutil.which("gpg") is None:
        raise _failed("the image has no gpg: sign with SSH, or use the image `git` of this version")
    done = subprocess.run(
        ["gpg", "--batch", *arguments],
        env={**program.environment, "GNUPGHOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def _end_agent(program: GitProgram, home: Path) -> None:
    """End the agent that gpg has started, which would hold its folder."""
    if shutil.which("gpgconf") is not None:
        environment = {**program.environment, "GNUPGHOME": str(home)}
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, timeout=_SECONDS, check=False)


def _failed(message: str) -> TerminalFailure:
    return TerminalFailure(Reason.SIGNING_FAILED, message)
