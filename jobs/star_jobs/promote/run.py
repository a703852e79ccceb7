"""`star-job promote`: a checkpoint's digest goes to its place in a Git repository, once.

Nothing is kept between two runs but what the repository, and the forge, say: a commit of this promotion is known again
by its trailer wherever it is in the branch's history, and a pull request by its branch. So a run that was killed at any
line is started again from the beginning, and makes what is missing. A branch that moved is fetched anew, and the edit
made anew on what stands there then; what is pushed only ever goes on from the branch's end.
"""

import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from star_contracts.errors import Reason
from star_contracts.promotion import (
    PromotionAction,
    PromotionMode,
    PromotionOutcome,
    PromotionSpec,
    PromotionState,
)
from star_contracts.result import JobResult
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.promote.credentials import Secrets, git_dir
from star_jobs.promote.edit import Standing, edit, read
from star_jobs.promote.forge import ForgeApi, Request, connect, ensure
from star_jobs.promote.git import HISTORY, PROTOCOLS, CommitInfo, Git, Moved, opened
from star_jobs.promote.message import FROM, commit_message, is_of, request_body, subject, trailers
from star_jobs.promote.orders import read_orders
from star_jobs.promote.signing import Signer
from star_jobs.promote.verify import verify
from star_jobs.runtime import work_dir
from star_jobs.storage import ObjectStore

Logger = structlog.stdlib.BoundLogger
_SKEW = timedelta(hours=1)
"""Clocks of committers may be off by this much."""
_DEEPEST = HISTORY * 256


def _pass(_step: str) -> None:
    """Between two steps: nothing."""


@dataclass
class Tools:
    """What a run stands on. Tests give their own."""

    git: Git
    forge: ForgeApi | None
    log: Logger
    between: Callable[[str], None] = field(default=_pass)
    """Called between the steps, with the name of the one that is done."""


def promote(stopping: threading.Event) -> JobResult:
    """Do what the promotion's spec says. Raises JobFailure."""
    return JobResult(promotion=run_promotion(read_orders(), stopping))


def run_promotion(
    spec: PromotionSpec,
    stopping: threading.Event,
    protocols: tuple[str, ...] = PROTOCOLS,
    between: Callable[[str], None] = _pass,
) -> PromotionOutcome:
    """Run one promotion with the Secret's files and the real git program. Raises JobFailure."""
    secrets = Secrets(git_dir())
    log = structlog.get_logger().bind(promotion=spec.promotion.trailer(), action=spec.action)
    if spec.store is not None and spec.action is PromotionAction.PROMOTE:
        verify(spec, ObjectStore(spec.store))
        log.info("checkpoint and proofs are what they are said to be", reports=len(spec.reports))
    root = work_dir() / "promotion"
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True)))
        signer = Signer(spec.signing, secrets)
        git = stack.enter_context(
            opened(spec.target.repository, scratch / "git", secrets, spec.limits, stopping, signer, protocols)
        )
        forge = None
        if spec.forge is not None and spec.mode is PromotionMode.PULL_REQUEST:
            authorities = ssl.create_default_context(cafile=str(secrets.bundle(scratch)))
            connection, forge = connect(spec.forge, spec.target.repository, secrets, authorities, stopping)
            stack.enter_context(connection)
        return act(spec, Tools(git, forge, log, between))


def act(spec: PromotionSpec, tools: Tools) -> PromotionOutcome:
    """Do what the spec says with these tools. Raises JobFailure."""
    if tools.forge is None:
        commit = _Commit(spec, tools, spec.target.branch)
        return commit.look() if spec.action is PromotionAction.CLOSE else commit.run()
    request = _known_request(spec, tools.forge)
    if spec.action is PromotionAction.CLOSE and request is None:
        return _Commit(spec, tools, spec.target.branch).look()
    if spec.action is PromotionAction.CLOSE and request is not None and request.state is PromotionState.OPEN:
        request = tools.forge.close(request.ref.number, spec.reason)
        tools.log.info("closed the pull request", number=request.ref.number)
    if spec.action is not PromotionAction.PROMOTE and request is None:
        raise TerminalFailure(
            Reason.FORGE_REFUSED,
            f"there is no pull request of branch {spec.head_branch()} into {spec.target.branch}: it was never opened",
        )
    if request is not None and (spec.action is not PromotionAction.PROMOTE or request.state is not PromotionState.OPEN):
        return _seen(spec, tools, request)
    return _open(spec, tools, tools.forge)


def _known_request(spec: PromotionSpec, forge: ForgeApi) -> Request | None:
    if spec.pull_request is not None:
        return forge.get(spec.pull_request.number)
    return forge.find(spec.head_branch(), spec.target.branch)


def _seen(spec: PromotionSpec, tools: Tools, request: Request) -> PromotionOutcome:
    """Return the outcome of a pull request that is there; of a merged one, with what the place says now."""
    standing = None
    if request.state is PromotionState.MERGED:
        tip = _fetch(tools.git, spec)[0]
        standing = _standing(tools.git, tip, spec).pinned()
    return PromotionOutcome(
        state=request.state,
        commit=request.commit,
        standing=standing,
        branch=spec.head_branch(),
        pull_request=request.ref,
    )


def _open(spec: PromotionSpec, tools: Tools, forge: ForgeApi) -> PromotionOutcome:
    """Push the branch, where it is not there yet, and open the pull request, or bring its text up to date."""
    outcome = _Commit(spec, tools, spec.head_branch()).run()
    if outcome.state is not PromotionState.COMMITTED or outcome.branch == spec.target.branch:
        return outcome
    standing = Standing(outcome.from_uri, outcome.from_digest)
    request = ensure(forge, spec.head_branch(), spec.target.branch, subject(spec), request_body(spec, standing))
    tools.between("opened")
    tools.log.info("the pull request is open", number=request.ref.number, url=request.ref.url)
    opened_now = request.state is PromotionState.OPEN
    return outcome.model_copy(
        update={
            "state": PromotionState.OPENED if opened_now else request.state,
            "commit": request.commit or outcome.commit,
            "pull_request": request.ref,
        }
    )


def _fetch(git: Git, spec: PromotionSpec, depth: int = HISTORY) -> tuple[CommitInfo, ...]:
    history = git.fetch(spec.target.branch, depth)
    if not history:
        raise TerminalFailure(
            Reason.GIT_REFUSED,
            f"target.branch {spec.target.branch} is not in {spec.target.repository}: create it, or correct it",
        )
    return history


def _standing(git: Git, tip: CommitInfo, spec: PromotionSpec) -> Standing:
    """Return what the place says; nothing, where others have taken it away since."""
    try:
        return read(git.read(tip.id, spec.target.path).data, spec.target)
    except TerminalFailure:
        return Standing(None, None)


class _Commit:
    """Brings one commit into a branch: the target's own, or the pull request's, which begins at the target's."""

    def __init__(self, spec: PromotionSpec, tools: Tools, branch: str) -> None:
        self._spec, self._git, self._log, self._between = spec, tools.git, tools.log, tools.between
        self._branch = branch
        self._first: Standing | None = None

    def run(self) -> PromotionOutcome:
        """Return the outcome: Committed, now or by an earlier run, or AlreadyThere. Raises JobFailure."""
        for attempt in range(self._spec.limits.retries + 1):
            try:
                return self._attempt()
            except Moved:
                self._log.info("the branch moved: beginning anew on its new end", attempt=attempt + 1)
        raise RetryableFailure(
            Reason.BRANCH_MOVING,
            f"{self._branch} moved {self._spec.limits.retries + 1} times between its fetch and the push; "
            "it is tried again later",
        )

    def look(self) -> PromotionOutcome:
        """Return the outcome without a push: Committed by an earlier run, or Closed. Raises JobFailure."""
        history = _fetch(self._git, self._spec)
        tip, mine = history[0], self._find_own(history)
        if mine is not None:
            return self._committed(mine, self._branch, tip)
        standing = _standing(self._git, tip, self._spec)
        return self._outcome(PromotionState.CLOSED, None, self._branch, Standing(None, None), standing)

    def _attempt(self) -> PromotionOutcome:
        spec, git = self._spec, self._git
        history = _fetch(git, spec)
        tip = history[0]
        self._between("fetched")
        mine = self._find_own(history)
        if mine is not None:
            return self._committed(mine, spec.target.branch, tip)
        if self._branch != spec.target.branch:
            mine = self._own_of_request()
            if mine is not None:
                return self._committed(mine, self._branch, tip)
        file = git.read(tip.id, spec.target.path)
        standing = read(file.data, spec.target)
        self._between("read")
        if standing == Standing(spec.uri, spec.digest):
            self._log.info("the place says this already", digest=spec.digest)
            return self._outcome(PromotionState.ALREADY_THERE, None, spec.target.branch, standing, standing)
        self._require_no_conflict(standing)
        data = edit(file.data, spec.target, spec.uri, spec.digest)
        message = commit_message(spec, standing)
        commit = git.commit(tip.id, spec.target.path, file, data, message, spec.author)
        self._between("committed")
        git.push(commit, self._branch)
        self._between("pushed")
        self._log.info("pushed", commit=commit, branch=self._branch, before=standing.digest, now=spec.digest)
        now = Standing(spec.uri, spec.digest) if self._branch == spec.target.branch else standing
        return self._outcome(PromotionState.COMMITTED, commit, self._branch, standing, now)

    def _require_no_conflict(self, standing: Standing) -> None:
        """Raise where somebody else wrote to the very place since this run first looked at it."""
        if self._first is None:
            self._first = standing
        elif standing != self._first:
            target = self._spec.target
            raise TerminalFailure(
                Reason.PROMOTION_CONFLICT,
                f"{target.path} in {target.branch} was changed at the same place meanwhile: it said "
                f"{self._first.digest} and says {standing.digest}; nothing was committed. Look at that commit, and "
                "promote again if this checkpoint is still wanted",
            )

    def _find_own(self, history: tuple[CommitInfo, ...]) -> CommitInfo | None:
        """Return this promotion's commit in the branch's history, searched back to when the Promotion was created."""
        depth, created = HISTORY, self._spec.created
        while True:
            mine = next((commit for commit in history if is_of(self._spec, commit.message)), None)
            if mine is not None or created is None or depth >= _DEEPEST or self._git.whole():
                return mine
            if min(commit.at for commit in history) < created - _SKEW:
                return None
            depth *= 4
            history = _fetch(self._git, self._spec, depth)

    def _own_of_request(self) -> CommitInfo | None:
        """Return this promotion's commit on the pull request's branch; None where there is no such branch yet."""
        history = self._git.fetch(self._branch)
        mine = next((commit for commit in history if is_of(self._spec, commit.message)), None)
        if history and mine is None:
            raise TerminalFailure(
                Reason.PROMOTION_CONFLICT,
                f"branch {self._branch} is there and has no commit of this promotion: delete it, and promote again",
            )
        return mine

    def _committed(self, mine: CommitInfo, branch: str, tip: CommitInfo) -> PromotionOutcome:
        """Return the outcome of a commit that an earlier run made."""
        self._log.info("the commit of this promotion is there already", commit=mine.id, branch=branch)
        said = trailers(mine.message).get(FROM)
        before = Standing(None, said)
        now = _standing(self._git, tip, self._spec)
        return self._outcome(PromotionState.COMMITTED, mine.id, branch, before, now)

    def _outcome(
        self, state: PromotionState, commit: str | None, branch: str, before: Standing, now: Standing
    ) -> PromotionOutcome:
        return PromotionOutcome(
            state=state,
            commit=commit,
            from_digest=before.pinned(),
            from_uri=before.uri,
            standing=now.pinned(),
            branch=branch,
        )
