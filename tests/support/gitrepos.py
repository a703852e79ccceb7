"""Bare repositories on this disk, made and looked at with the real git program, and promotions into them."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from star_contracts.promotion import (
    Author,
    PromotionIdentity,
    PromotionLimits,
    PromotionOutcome,
    PromotionSpec,
    PromotionTarget,
)
from star_jobs.promote.credentials import Secrets
from star_jobs.promote.forge import ForgeApi
from star_jobs.promote.git import opened
from star_jobs.promote.run import Tools, act
from star_jobs.promote.signing import Signer

OLD = "sha256:" + "0" * 64
PATH = "envs/prod/student.yaml"
FILE = f"""\
kind: StarDeployment
spec:
  gates: {{}} # kept
  checkpoint:
    uri: s3://models/old
    digest: {OLD}
"""
_WHO = {f"GIT_{role}_{what}": "x@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


@dataclass
class BareRepository:
    """A repository as a server has it."""

    path: Path

    @classmethod
    def create(cls, path: Path, files: Mapping[str, str]) -> "BareRepository":
        path.mkdir(parents=True)
        repository = cls(path)
        repository.git("init", "--quiet", "--bare", "--initial-branch=main", ".")
        with (path / "config").open("a") as config:
            config.write("[uploadpack]\nallowFilter = true\nallowAnySHA1InWant = true\n[http]\nreceivepack = true\n")
            config.write("[gc]\nauto = 0\n[core]\nlogAllRefUpdates = always\n[fastimport]\nunpackLimit = 10000\n")
        repository.commit(files, "begin")
        return repository

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        code, out = self.try_git(*arguments, stdin=stdin, env=env)
        assert code == 0, out
        return out

    def try_git(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1", **_WHO, **(env or {})}
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=clean, input=stdin, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def commit(self, files: Mapping[str, str], *messages: str, branch: str = "main") -> None:
        """Commit on the server's side, as somebody else's push would; each message is a commit.

        A text that begins with `->` is a symbolic link, one that begins with `@` a submodule's commit.
        """
        known = self.git("for-each-ref", f"refs/heads/{branch}") != ""
        stream = []
        for message in messages:
            who = f"committer x <x@example.com> {int(time.time())} +0000"
            stream.append(f"commit refs/heads/{branch}\n{who}\n{_data(message)}")
            stream.append(f"from refs/heads/{branch}^0\n" if known and len(stream) == 1 else "")
            for path, text in files.items():
                if text.startswith("@"):
                    stream.append(f"M 160000 {text[1:]} {path}\n")
                else:
                    mode = "120000" if text.startswith("->") else "100644"
                    stream.append(f"M {mode} inline {path}\n{_data(text.removeprefix('->'))}")
        self.git("fast-import", "--quiet", stdin="".join(stream))

    def tip(self, branch: str = "main") -> str:
        return self.git("rev-parse", branch).strip()

    def show(self, path: str = PATH, branch: str = "main") -> str:
        return self.git("show", f"{branch}:{path}")

    def messages(self, branch: str = "main") -> list[str]:
        """Messages from the branch's end back."""
        return [text.strip("\n") for text in self.git("log", "-z", "--format=%B", branch).split("\0") if text.strip()]

    def branches(self) -> set[str]:
        return set(self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split())


def promotion_spec(repository: str, number: int = 1, name: str = "p", **changes: Any) -> PromotionSpec:
    """A promotion of checkpoint `number`. A repository on this disk is no address that users may give."""
    target = PromotionTarget(repository="https://git.example.com/a.git", branch="main", path=PATH)
    spec = PromotionSpec(
        promotion=PromotionIdentity(namespace="team", name=name, uid=f"{name}-uid-0001"),
        target=target.model_copy(update={"repository": repository}),
        uri=f"s3://models/checkpoint-{number}",
        digest=digest(number),
        author=Author(name="STAR", email="star@example.com"),
    )
    return spec.model_copy(update=changes)


def run_on(
    spec: PromotionSpec,
    scratch: Path,
    secrets: Path | None = None,
    forge: ForgeApi | None = None,
    between: Callable[[str], None] = lambda _step: None,
    protocols: tuple[str, ...] = ("file",),
    limits: PromotionLimits | None = None,
) -> PromotionOutcome:
    """Run a promotion as its Job does, on a repository that only tests may reach."""
    found = Secrets(secrets or scratch / "no-secrets")
    signer = Signer(spec.signing, found)
    arguments = (spec.target.repository, scratch, found, limits or spec.limits, threading.Event(), signer, protocols)
    with opened(*arguments) as git:
        return act(spec, Tools(git, forge, structlog.get_logger(), between))
