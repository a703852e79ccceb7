"""What a promotion needs of Git, by the git program: a branch's tip and its last messages, one file, a commit, a push.

The repository is bare, shallow and without the files' contents but for the one that is asked for: nothing is checked
out, so no filter runs and no symbolic link is followed. A push is never forced: the server takes it where the branch
still ends at the commit that it was made on, and `Moved` says where not.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from star_contracts.errors import Reason
from star_contracts.promotion import Author, PromotionLimits
from star_jobs.errors import TerminalFailure
from star_jobs.promote.credentials import Secrets, environment
from star_jobs.promote.program import NO_USER, GitProgram, quote
from star_jobs.promote.reach import pinned
from star_jobs.promote.signing import Signer
from star_jobs.promote.yamltext import MAX_BYTES

PROTOCOLS = ("https", "ssh")
"""What a repository may be reached by."""
HISTORY = 64
"""Commits that are fetched at first."""
_MOVED = (
    "fetch first",
    "non-fast-forward",
    "stale info",
    "failed to update ref",
    "cannot lock ref",
    "reference already",
)
_REGULAR = ("100644", "100755")
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a folder"}


class Moved(Exception):
    """The branch does not end any more where the commit was made."""


@dataclass(frozen=True)
class CommitInfo:
    """A commit, as far as it is read."""

    id: str
    at: datetime
    """When it was committed, by its committer's clock."""
    message: str


@dataclass(frozen=True)
class FileInfo:
    """A file in a commit."""

    mode: str
    blob: str
    data: bytes


@dataclass
class Git:
    """One repository on the server, and its shallow copy here."""

    program: GitProgram
    signer: Signer

    def fetch(self, branch: str, depth: int = HISTORY) -> tuple[CommitInfo, ...]:
        """Fetch a branch's last commits; return them, the newest first; none where there is no such branch."""
        ref = f"refs/star/{branch}"
        code, _, words = self.program.attempt(
            *("fetch", "--quiet", f"--depth={depth}", "--filter=blob:none", "--no-tags", "--no-write-fetch-head"),
            *("--no-recurse-submodules", "origin", f"+refs/heads/{branch}:{ref}"),
        )
        if code != 0:
            if "couldn't find remote ref" in words:
                return ()
            raise self.program.failure("fetch", words)
        output = self.program.run("log", "-z", "--format=%H%n%ct%n%B", ref).decode(errors="replace")
        records = (record.split("\n", 2) for record in output.split("\0") if record)
        return tuple(CommitInfo(name, datetime.fromtimestamp(int(at), UTC), text) for name, at, text in records)

    def whole(self) -> bool:
        """Whether all history has been fetched."""
        return not (self.program.repository / "shallow").exists()

    def read(self, commit: str, path: str) -> FileInfo:
        """Return a file.

        Raises TerminalFailure: PlaceNotFound, or PlaceRefused for what is no plain file, or too large.
        """
        mode, blob = self._entry(commit, path)
        header, _, data = self.program.run("cat-file", "--batch", stdin=f"{blob}\n".encode()).partition(b"\n")
        size = int(header.split(b" ")[2])
        if size > MAX_BYTES:
            raise TerminalFailure(
                Reason.PLACE_REFUSED, f"{path} has {size} bytes, and more than {MAX_BYTES} are not edited"
            )
        return FileInfo(mode, blob, data[:size])

    def _entry(self, commit: str, path: str) -> tuple[str, str]:
        parts = path.split("/")
        if not all(parts) or ".." in parts or "." in parts:
            raise TerminalFailure(
                Reason.PLACE_REFUSED, f"target.path {path!r} leaves the repository: give a plain path"
            )
        listed = self.program.run("ls-tree", "-z", commit, "--", path).decode(errors="replace")
        if not listed:
            raise self._missing(commit, parts)
        mode, _, blob = listed.split("\t", 1)[0].split(" ")
        if mode not in _REGULAR:
            kind = _KINDS.get(mode, "no plain file")
            raise TerminalFailure(Reason.PLACE_REFUSED, f"target.path {path} is {kind}: name the file itself")
        return mode, blob

    def _missing(self, commit: str, parts: list[str]) -> TerminalFailure:
        """Say which part of a path is not there, or leads elsewhere."""
        path = "/".join(parts)
        for end in range(1, len(parts)):
            part = "/".join(parts[:end])
            mode = self.program.run("ls-tree", "-z", commit, "--", part).decode(errors="replace")[:6]
            if mode in ("120000", "160000"):
                return TerminalFailure(
                    Reason.PLACE_REFUSED,
                    f"target.path {path} goes through {part}, which is {_KINDS[mode]}: name the file itself",
                )
        return TerminalFailure(
            Reason.PLACE_NOT_FOUND, f"target.path {path} is not in the branch: correct it, or add the file first"
        )

    def commit(self, parent: str, path: str, file: FileInfo, data: bytes, message: str, author: Author) -> str:
        """Make the commit that gives one file another content; return its id."""
        blob = self.program.run("hash-object", "-w", "--no-filters", "--stdin", stdin=data).decode().strip()
        index = {"GIT_INDEX_FILE": str(self.program.scratch / "index")}
        self.program.run("read-tree", parent, env=index)
        self.program.run("update-index", "--cacheinfo", f"{file.mode},{blob},{path}", env=index)
        tree = self.program.run("write-tree", "--missing-ok", env=index).decode().strip()
        who = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in _names(author)}
        arguments = self.signer.arguments()
        code, out, words = self.program.attempt(
            *(*arguments.config, "commit-tree", *arguments.flags, "-p", parent, "-F", "-", tree),
            stdin=message.encode(errors="replace"),
            env={**who, **arguments.environment},
        )
        if code != 0 and NO_USER in words:
            raise self.program.failure("commit-tree", words)
        if code != 0:
            raise TerminalFailure(
                Reason.SIGNING_FAILED if arguments.flags else Reason.GIT_REFUSED,
                f"the commit could not be made: {quote(words)}; look at `signing-key` of the Git Secret",
            )
        return out.decode().strip()

    def push(self, commit: str, branch: str) -> None:
        """Let the branch end at the commit. Raises Moved, and JobFailure for what the server says otherwise."""
        code, out, words = self.program.attempt(
            "push", "--porcelain", "--no-verify", "origin", f"{commit}:refs/heads/{branch}"
        )
        said = out.decode(errors="replace") + words
        rejected = [line for line in out.decode(errors="replace").splitlines() if line.startswith("!")]
        if code == 0 and not rejected:
            return
        if any(sign in line for sign in _MOVED for line in rejected):
            raise Moved
        if rejected:
            raise TerminalFailure(
                Reason.GIT_REFUSED,
                f"the server does not take the commit into {branch}: "
                f"{self.program.secrets.scrubbed(quote(words + chr(10) + rejected[0]))}; "
                "let the account push to this branch, or use mode PullRequest",
            )
        raise self.program.failure("push", said)


def _names(author: Author) -> tuple[tuple[str, str], ...]:
    return ("NAME", author.name), ("EMAIL", author.email)


def _lay_out(bare: Path, repository: str) -> None:
    """Write what makes a folder an empty bare repository (gitrepository-layout(5))."""
    for folder in ("objects", "refs"):
        (bare / folder).mkdir()
    (bare / "HEAD").write_text("ref: refs/heads/star\n")
    url = repository.replace("\\", "\\\\").replace('"', '\\"')
    (bare / "config").write_text(
        f'[core]\n\trepositoryformatversion = 0\n\tbare = true\n[remote "origin"]\n\turl = "{url}"\n'
    )


@contextmanager
def opened(
    repository: str,
    scratch: Path,
    secrets: Secrets,
    limits: PromotionLimits,
    stopping: threading.Event,
    signer: Signer,
    protocols: tuple[str, ...] = PROTOCOLS,
) -> Iterator[Git]:
    """Prepare an empty copy of the repository below `scratch`, which goes when it is done."""
    bare = scratch / "repository.git"
    bare.mkdir(parents=True)
    try:
        found = environment(secrets, repository, scratch, protocols, pinned(repository))
        program = GitProgram(bare, scratch, found, secrets, limits, stopping)
        _lay_out(bare, repository)
        with signer.ready(program):
            yield Git(program, signer)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
