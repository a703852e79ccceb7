"""Pull requests by the REST APIs of GitHub, GitLab and Gitea.

https://docs.github.com/en/rest/pulls/pulls
https://docs.gitlab.com/ee/api/merge_requests.html
https://docs.gitea.com/api (repoListPullRequests and its like)
"""

import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from star_contracts.errors import Reason
from star_contracts.promotion import Forge, ForgeKind, PromotionState, PullRequest
from star_jobs.errors import TerminalFailure
from star_jobs.promote.credentials import Secrets, host_of
from star_jobs.promote.forgehttp import ForgeClient, Refusal

_GITHUB = "github.com"
_EXISTS = (409, 422)
"""What forges answer to a second pull request of a branch."""


@dataclass(frozen=True)
class Request:
    """A pull request, in whichever words its forge has."""

    ref: PullRequest
    title: str
    body: str
    commit: str | None = None
    """Of a merged one: the commit that brought it into the branch, where the forge names it."""

    @property
    def state(self) -> PromotionState:
        """Open, Merged or Closed."""
        return self.ref.state


class ForgeApi(Protocol):
    """What a promotion asks of a forge. All raise JobFailure."""

    def find(self, head: str, base: str) -> Request | None:
        """Return the newest pull request of this branch of the repository itself, whatever its state."""

    def get(self, number: int) -> Request:
        """Return a pull request."""

    def create(self, head: str, base: str, title: str, body: str) -> Request:
        """Open one."""

    def update(self, number: int, title: str, body: str) -> Request:
        """Give it another title and text."""

    def close(self, number: int, reason: str) -> Request:
        """Say why in a comment, and close it."""


def ensure(api: ForgeApi, head: str, base: str, title: str, body: str) -> Request:
    """Return the open pull request of a branch with this text: found, brought up to date, or opened.

    One that was merged or closed is returned as it is. Two that open it at once end with one: forges refuse the second.
    """
    found = api.find(head, base)
    if found is None:
        try:
            return api.create(head, base, title, body)
        except Refusal as refusal:
            found = api.find(head, base) if refusal.status in _EXISTS else None
            if found is None:
                raise
    if found.state is PromotionState.OPEN and (found.title, found.body.strip()) != (title, body.strip()):
        return api.update(found.ref.number, title, body)
    return found


Reader = Callable[[Any, Mapping[str, Any]], Request]


def _understood(read: Reader) -> Reader:
    """Let an answer that has not the fields of its forge's API be the forge's fault, not a failure nobody foresaw."""

    def wrapped(self: Any, item: Mapping[str, Any]) -> Request:
        try:
            return read(self, item)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TerminalFailure(
                Reason.FORGE_REFUSED,
                f"the forge's answer is no pull request ({type(error).__name__}: {error}): "
                "give forge.kind and forge.url as they are",
            ) from error

    return wrapped


class GitHub:
    """GitHub, and GitHub Enterprise Server."""

    def __init__(self, client: ForgeClient, path: str) -> None:
        self._client, self._path, self._owner = client, f"/repos/{path}", path.partition("/")[0]

    def find(self, head: str, base: str) -> Request | None:
        """As ForgeApi.find."""
        query: dict[str, str | int] = {"head": f"{self._owner}:{head}", "base": base, "state": "all", "per_page": 100}
        items = self._client.items(f"{self._path}/pulls", **query)
        found = [item for item in items if item["head"]["ref"] == head and item["base"]["ref"] == base]
        return _newest(found, "number", self._request)

    def get(self, number: int) -> Request:
        """As ForgeApi.get."""
        return self._request(self._client.get(f"{self._path}/pulls/{number}"))

    def create(self, head: str, base: str, title: str, body: str) -> Request:
        """As ForgeApi.create."""
        given = {"head": head, "base": base, "title": title, "body": body}
        return self._request(self._client.send("POST", f"{self._path}/pulls", given))

    def update(self, number: int, title: str, body: str) -> Request:
        """As ForgeApi.update."""
        given = {"title": title, "body": body}
        return self._request(self._client.send("PATCH", f"{self._path}/pulls/{number}", given))

    def close(self, number: int, reason: str) -> Request:
        """As ForgeApi.close."""
        if reason:
            self._client.send("POST", f"{self._path}/issues/{number}/comments", {"body": reason})
        return self._request(self._client.send("PATCH", f"{self._path}/pulls/{number}", {"state": "closed"}))

    @_understood
    def _request(self, item: Mapping[str, Any]) -> Request:
        merged = bool(item.get("merged") or item.get("merged_at"))
        ref = PullRequest(
            number=item["number"],
            url=item.get("html_url") or "",
            state=_state(merged, item["state"] == "open"),
            mergeable=item.get("mergeable"),
        )
        return Request(ref, item["title"], item.get("body") or "", item.get("merge_commit_sha") if merged else None)


class Gitea(GitHub):
    """Gitea and Forgejo: GitHub's words, but for how pull requests are found."""

    def find(self, head: str, base: str) -> Request | None:
        """As ForgeApi.find."""
        item = self._client.find(f"{self._path}/pulls/{quote(base, safe='')}/{quote(head)}")
        if item is not None:
            return self._request(item)
        items = self._client.items(f"{self._path}/pulls", state="open", base_branch=base, limit=50)
        found = [item for item in items if item["head"]["ref"] == head and item["base"]["ref"] == base]
        return _newest([item for item in found if not _forked(item)], "number", self._request)


class GitLab:
    """GitLab: merge requests."""

    def __init__(self, client: ForgeClient, path: str) -> None:
        self._client, self._path = client, f"/projects/{quote(path, safe='')}/merge_requests"

    def find(self, head: str, base: str) -> Request | None:
        """As ForgeApi.find."""
        query: dict[str, str | int] = {"source_branch": head, "target_branch": base, "state": "all", "per_page": 100}
        items = self._client.items(self._path, **query)
        own = [item for item in items if item.get("source_project_id") == item.get("target_project_id")]
        return _newest(own, "iid", self._request)

    def get(self, number: int) -> Request:
        """As ForgeApi.get."""
        return self._request(self._client.get(f"{self._path}/{number}"))

    def create(self, head: str, base: str, title: str, body: str) -> Request:
        """As ForgeApi.create."""
        given = {"source_branch": head, "target_branch": base, "title": title, "description": body}
        return self._request(self._client.send("POST", self._path, given))

    def update(self, number: int, title: str, body: str) -> Request:
        """As ForgeApi.update."""
        given = {"title": title, "description": body}
        return self._request(self._client.send("PUT", f"{self._path}/{number}", given))

    def close(self, number: int, reason: str) -> Request:
        """As ForgeApi.close."""
        if reason:
            self._client.send("POST", f"{self._path}/{number}/notes", {"body": reason})
        return self._request(self._client.send("PUT", f"{self._path}/{number}", {"state_event": "close"}))

    @_understood
    def _request(self, item: Mapping[str, Any]) -> Request:
        merged = item["state"] == "merged"
        ref = PullRequest(
            number=item["iid"],
            url=item.get("web_url") or "",
            state=_state(merged, item["state"] in ("opened", "locked")),
            mergeable=False if item.get("has_conflicts") else None,
        )
        commit = item.get("merge_commit_sha") or item.get("squash_commit_sha") or item.get("sha")
        return Request(ref, item["title"], item.get("description") or "", commit if merged else None)


_APIS: Mapping[ForgeKind, tuple[Callable[[ForgeClient, str], ForgeApi], str, str]] = {
    ForgeKind.GITHUB: (GitHub, "/api/v3", "Bearer"),
    ForgeKind.GITLAB: (GitLab, "/api/v4", "Bearer"),
    ForgeKind.GITEA: (Gitea, "/api/v1", "token"),
}


def connect(
    forge: Forge, repository: str, secrets: Secrets, authorities: ssl.SSLContext | bool, stopping: threading.Event
) -> tuple[AbstractContextManager[object], ForgeApi]:
    """Return the API of a repository's forge, and the connection to be closed after it.

    Raises TerminalFailure(ForgeAccessDenied) without a token.
    """
    token = secrets.token()
    if token is None:
        raise TerminalFailure(
            Reason.FORGE_ACCESS_DENIED, "the Git Secret has neither token nor password: pull requests need one"
        )
    make, version, scheme = _APIS[forge.kind]
    root = forge.url.rstrip("/") if forge.url else f"https://{_https_host(repository)}"
    on_github = forge.kind is ForgeKind.GITHUB and urlsplit(root).hostname == _GITHUB
    base = f"https://api.{_GITHUB}" if on_github else root + version
    headers = {"Authorization": f"{scheme} {token}", "Accept": "application/json", "User-Agent": "star-job"}
    if on_github:
        headers |= {"X-GitHub-Api-Version": "2022-11-28"}
    client = ForgeClient(base, headers, token, authorities, stopping)
    return client, make(client, repository_path(repository, urlsplit(root).path))


def repository_path(repository: str, below: str) -> str:
    """Return `owner/name` of a repository's URL, without the path that its forge lies below."""
    parts = urlsplit(repository)
    path = parts.path if parts.scheme else repository.partition(":")[2]
    path = path.strip("/").removesuffix(".git")
    prefix = below.strip("/")
    return path.removeprefix(f"{prefix}/") if prefix else path


def _https_host(repository: str) -> str:
    """Return where the forge is asked by default: for a repository over SSH, its host's usual port."""
    host = host_of(repository)
    return host if repository.startswith("https://") else host.partition(":")[0]


def _newest(items: list[dict[str, Any]], number: str, read: Callable[[Mapping[str, Any]], Request]) -> Request | None:
    return read(max(items, key=lambda item: int(item[number]))) if items else None


def _forked(item: Mapping[str, Any]) -> bool:
    return bool(item["head"].get("repo_id") != item["base"].get("repo_id"))


def _state(merged: bool, is_open: bool) -> PromotionState:
    if merged:
        return PromotionState.MERGED
    return PromotionState.OPEN if is_open else PromotionState.CLOSED
