"""A forge's REST API over HTTPS: the token in a header, rate limits waited for, errors told apart by their class.

401, 403            ForgeAccessDenied       (403 with a spent rate limit: as 429)
404, 409, 422, 4xx  ForgeRefused, with the forge's own sentence
429, 5xx, no answer ForgeUnreachable        after a few tries
3xx                 ForgeRefused: no token follows a redirect
link-local          ForgeRefused            before anything is sent (promote.reach)
"""

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.promote.reach import guard

_TRIES = 4
_PAUSE_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0
"""A rate limit that lasts longer is left to the next Job."""
_MAX_ANSWER = 8 * 1024 * 1024
_QUOTED = 300
_TIMEOUT = httpx.Timeout(30.0)
PAGES = 20
"""Pages of a list that are read at most."""


class Refusal(TerminalFailure):
    """The forge said no."""

    def __init__(self, status: int, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.status = status


@dataclass
class ForgeClient:
    """Asks one forge. Use it as a context."""

    base: str
    """URL that paths are added to."""
    headers: Mapping[str, str]
    """With the token."""
    secret: str
    """The token: taken out of all that is quoted."""
    authorities: ssl.SSLContext | bool = True
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._client = httpx.Client(verify=self.authorities, timeout=_TIMEOUT, follow_redirects=False)
        self._guard = guard(self.base)

    def __enter__(self) -> "ForgeClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Return the JSON of an answer. Raises JobFailure."""
        return self._json(self._ask("GET", path, query=query))

    def find(self, path: str) -> Any | None:
        """Return the JSON of an answer; None for 404. Raises JobFailure."""
        try:
            return self.get(path)
        except Refusal as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON and return the answer's. Raises JobFailure."""
        return self._json(self._ask(method, path, body=body))

    def items(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """Yield a list's items, page by page as the `Link` header says, PAGES at most. Raises JobFailure."""
        response = self._ask("GET", path, query=query)
        for _ in range(PAGES):
            found = self._json(response)
            yield from (item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()
            following = response.links.get("next", {}).get("url")
            if following is None:
                return
            response = self._ask("GET", self._own(following))

    def _own(self, url: str) -> str:
        """Return the path of a page's URL, which must be the forge's own: no token goes elsewhere."""
        if not url.startswith(f"{self.base}/"):
            raise TerminalFailure(
                Reason.FORGE_REFUSED, f"the forge's next page is elsewhere ({url}): look at forge.url"
            )
        return url.removeprefix(self.base)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        for attempt in range(1, _TRIES + 1):
            failure, pause = self._try(method, path, query, body)
            if isinstance(failure, httpx.Response):
                return failure
            if attempt == _TRIES or pause > MAX_WAIT_SECONDS or self.stopping.wait(pause):
                raise failure
        raise AssertionError("unreachable")

    def _try(
        self, method: str, path: str, query: Mapping[str, str | int] | None, body: Mapping[str, Any] | None
    ) -> tuple[httpx.Response | JobFailure, float]:
        """Ask once; return the answer, or what to raise after the last try and how long to wait for the next one."""
        try:
            response = self._client.request(
                method,
                self.base + path,
                params=query or None,
                json=body,
                headers=dict(self.headers),
                extensions={"trace": self._guard},
            )
        except httpx.HTTPError as error:
            detail = self._quoted(str(error))
            if "certificate" in detail.lower():
                message = f"the forge's certificate is not believed ({detail}): put its authority into `ca.crt`"
                return TerminalFailure(Reason.GIT_HOST_UNVERIFIED, f"{message} of the Git Secret"), MAX_WAIT_SECONDS + 1
            return RetryableFailure(Reason.FORGE_UNREACHABLE, f"{self.base} does not answer ({detail})"), _PAUSE_SECONDS
        if response.is_success:
            return response, 0
        if response.status_code >= 500 or _limited(response):
            said = f"{self.base} answers {response.status_code}: {self._said(response)}; it is asked again later"
            return RetryableFailure(Reason.FORGE_UNREACHABLE, said), _wait(response)
        raise self._refusal(method, response)

    def _refusal(self, method: str, response: httpx.Response) -> Refusal:
        status, path = response.status_code, response.request.url.path
        said = f"the forge answers {status} to {method} {path}: {self._said(response)}"
        if status in (401, 403):
            advice = "look at `token` (or `password`) of the Git Secret and at its right to open pull requests"
            return Refusal(status, Reason.FORGE_ACCESS_DENIED, f"{said}; {advice}")
        if response.is_redirect:
            return Refusal(status, Reason.FORGE_REFUSED, f"{said}; it redirects: write the new address in forge.url")
        return Refusal(status, Reason.FORGE_REFUSED, f"{said}; look at target.repository, target.branch and forge")

    def _json(self, response: httpx.Response) -> Any:
        try:
            if len(response.content) > _MAX_ANSWER:
                raise ValueError("too long")
            return response.json() if response.content else None
        except ValueError as error:
            raise TerminalFailure(
                Reason.FORGE_REFUSED,
                f"{self.base} answers what is no JSON to {response.request.url.path}: give forge.kind and forge.url",
            ) from error

    def _said(self, response: httpx.Response) -> str:
        """Return the forge's own sentence, whatever shape it has."""
        try:
            body = response.json()
        except ValueError:
            body = response.text
        return self._quoted(" ".join(_sentences(body))) or response.reason_phrase

    def _quoted(self, text: str) -> str:
        return " ".join(text.replace(self.secret, "***").split())[:_QUOTED] if self.secret else text[:_QUOTED]


def _sentences(body: Any) -> Iterator[str]:
    """Yield what an error says: GitHub's `message` and `errors`, GitLab's `message` or `error`, Gitea's `message`."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, list):
        for each in body:
            yield from _sentences(each)
    elif isinstance(body, dict):
        for key in ("message", "error", "error_description", "errors"):
            yield from _sentences(body.get(key))
        if "message" not in body and "error" not in body:
            for key, value in body.items():
                yield from (f"{key} {each}" for each in _sentences(value))


def _limited(response: httpx.Response) -> bool:
    spent = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    return response.status_code == 429 or (response.status_code == 403 and spent)


def _wait(response: httpx.Response) -> float:
    """Return how many seconds the forge wants to be left alone."""
    after, reset = response.headers.get("retry-after"), response.headers.get("x-ratelimit-reset")
    if after is not None and after.isdecimal():
        return float(after)
    if after is not None:
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            return _PAUSE_SECONDS
    if _limited(response) and reset is not None and reset.isdecimal():
        return max(0.0, float(reset) - time.time())
    return _PAUSE_SECONDS
