"""A fake of the forges' REST APIs, in this process: what GitHub, GitLab and Gitea answer about pull requests.

Only what promotions ask for, in each one's own words, pages and errors included. It has no repositories.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from star_contracts.promotion import ForgeKind

TOKEN = "a-very-secret-token"
PROJECT = "team/fleet"
_ROOTS = {
    ForgeKind.GITHUB: f"/api/v3/repos/{PROJECT}",
    ForgeKind.GITEA: f"/api/v1/repos/{PROJECT}",
    ForgeKind.GITLAB: "/api/v4/projects/team%2Ffleet",
}
_AUTHORIZATION = {ForgeKind.GITHUB: "Bearer", ForgeKind.GITLAB: "Bearer", ForgeKind.GITEA: "token"}


@dataclass
class Answer:
    """What is answered instead, once."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Pull:
    """A pull request, in nobody's words."""

    number: int
    head: str
    base: str
    title: str
    body: str
    state: str = "open"
    fork: bool = False
    commit: str = "c" * 40
    conflicts: bool = False


@dataclass
class FakeForge:
    kind: ForgeKind
    url: str = ""
    pulls: list[Pull] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """Given first, one a request."""
    asked: list[str] = field(default_factory=list)
    """`<method> <path>?<query>` of every request."""
    page: int = 2
    """Items of a page."""

    def add(self, head: str, state: str = "open", base: str = "main", **more: Any) -> Pull:
        pull = Pull(len(self.pulls) + 1, head, base, "title", "body", state, **more)
        self.pulls.append(pull)
        return pull

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        root = _ROOTS[self.kind]
        if not path.startswith(root):
            return Answer(404, {"message": "Not Found"})
        rest = path.removeprefix(root)
        if self.kind is ForgeKind.GITLAB:
            return self._gitlab(method, rest.removeprefix("/merge_requests"), query, body)
        if rest.startswith("/issues/"):
            self.comments.append(body["body"])
            return Answer(201, {"id": 1})
        return self._github(method, rest.removeprefix("/pulls"), query, body)

    def _github(self, method: str, rest: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        parts = [unquote(part) for part in rest.strip("/").split("/", 1)]
        if method == "GET" and rest == "":
            owner, _, head = query.get("head", "").rpartition(":")
            found = [
                pull
                for pull in self.pulls
                if query.get("state") in ("all", pull.state)
                and (not head or (pull.head == head and (not pull.fork) == (owner == "team")))
            ]
            return self._list(found, query, self._github_item)
        if method == "GET" and len(parts) == 2:  # Gitea's by base and head
            found = [pull for pull in self.pulls if (pull.base, pull.head) == tuple(parts) and not pull.fork]
            return Answer(200, self._github_item(found[-1])) if found else Answer(404, {"message": "not found"})
        if method == "POST":
            if any((pull.head, pull.state) == (body["head"], "open") and not pull.fork for pull in self.pulls):
                if self.kind is ForgeKind.GITEA:
                    return Answer(409, {"message": "pull request already exists for these targets"})
                said = [{"message": f"A pull request already exists for team:{body['head']}."}]
                return Answer(422, {"message": "Validation Failed", "errors": said})
            pull = self.add(body["head"], base=body["base"])
            pull.title, pull.body = body["title"], body["body"]
            return Answer(201, self._github_item(pull))
        pull = self.pulls[int(parts[0]) - 1]
        if method == "PATCH":
            pull.title, pull.body = body.get("title", pull.title), body.get("body", pull.body)
            pull.state = body.get("state", pull.state)
        return Answer(200, self._github_item(pull))

    def _github_item(self, pull: Pull) -> dict[str, Any]:
        merged = pull.state == "merged"
        return {
            "number": pull.number,
            "html_url": f"{self.url}/{PROJECT}/pulls/{pull.number}",
            "state": "open" if pull.state == "open" else "closed",
            "title": pull.title,
            "body": pull.body or None,
            "merged": merged,
            "merged_at": "2026-01-01T00:00:00Z" if merged else None,
            "merge_commit_sha": pull.commit,
            "mergeable": not pull.conflicts,
            "head": {"ref": pull.head, "repo_id": 2 if pull.fork else 1},
            "base": {"ref": pull.base, "repo_id": 1},
        }

    def _gitlab(self, method: str, rest: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        if method == "GET" and rest == "":
            found = [pull for pull in self.pulls if pull.head == query["source_branch"]]
            return self._list(found, query, self._gitlab_item)
        if rest.endswith("/notes"):
            self.comments.append(body["body"])
            return Answer(201, {"id": 1})
        if method == "POST":
            for pull in self.pulls:
                if (pull.head, pull.state, pull.fork) == (body["source_branch"], "open", False):
                    said = f"Another open merge request already exists for this source branch: !{pull.number}"
                    return Answer(409, {"message": [said]})
            pull = self.add(body["source_branch"], base=body["target_branch"])
            pull.title, pull.body = body["title"], body["description"]
            return Answer(201, self._gitlab_item(pull))
        pull = self.pulls[int(rest.strip("/")) - 1]
        if method == "PUT":
            pull.title, pull.body = body.get("title", pull.title), body.get("description", pull.body)
            pull.state = "closed" if body.get("state_event") == "close" else pull.state
        return Answer(200, self._gitlab_item(pull))

    def _gitlab_item(self, pull: Pull) -> dict[str, Any]:
        return {
            "iid": pull.number,
            "web_url": f"{self.url}/{PROJECT}/-/merge_requests/{pull.number}",
            "state": {"open": "opened"}.get(pull.state, pull.state),
            "title": pull.title,
            "description": pull.body,
            "merge_commit_sha": pull.commit if pull.state == "merged" else None,
            "squash_commit_sha": None,
            "sha": "d" * 40,
            "has_conflicts": pull.conflicts,
            "source_project_id": 2 if pull.fork else 1,
            "target_project_id": 1,
        }

    def _list(self, found: list[Pull], query: dict[str, str], item: Any) -> Answer:
        page = int(query.get("page", 1))
        rest = found[(page - 1) * self.page :]
        links = {}
        if len(rest) > self.page:
            query = {**query, "page": str(page + 1)}
            joined = "&".join(f"{key}={value}" for key, value in query.items())
            root = _ROOTS[self.kind] + ("/merge_requests" if self.kind is ForgeKind.GITLAB else "/pulls")
            links = {"Link": f'<{self.url}{root}?{joined}>; rel="next"'}
        return Answer(200, [item(pull) for pull in rest[: self.page]], links)


@contextmanager
def serving(kind: ForgeKind) -> Iterator[FakeForge]:
    """Serve a fake forge on this machine."""
    forge = FakeForge(kind)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            forge.asked.append(f"{self.command} {self.path}")
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            if forge.answers:
                answer = forge.answers.pop(0)
            elif self.headers.get("authorization") != f"{_AUTHORIZATION[kind]} {TOKEN}":
                answer = Answer(401, {"message": f"Bad credentials: {self.headers.get('authorization')}"})
            else:
                answer = forge.answer(self.command, parts.path, dict(parse_qsl(parts.query)), body)
            data = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, text in answer.headers.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
