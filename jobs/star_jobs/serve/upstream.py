"""The OpenAI-compatible pass-through, what is answered: the first backend that answers, its answer checked.

Streams pass through event by event. A client that goes away closes the upstream connection, which makes vLLM abort the
generation. What a backend says is checked as a caller's body is: no client is given what no JSON reader can read.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from star_contracts.serving import Backend
from star_jobs.llm.connections import ReconnectingClient
from star_jobs.serve.backends import BackendHandle, BackendPool
from star_jobs.serve.disconnect import ClientGone, unless_gone
from star_jobs.serve.events import BrokenStream, EventStream
from star_jobs.serve.problems import Problem
from star_jobs.serve.proxy import Call, candidates
from star_jobs.serve.strictjson import BadJson, parse_object

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_EVENT_STREAM = "text/event-stream"
_UNAVAILABLE = (502, 503, 504)
_OURS = (401, 403, 404)
"""What a backend says to the gateway, not to its caller: the key and the model are the deployment's."""
_PASSED_ON = ("retry-after",)
_SHORT_WORDS = (413, 429)
_PARSED_AT_ONCE = 64 * 1024
MAX_ANSWER_VALUES = 20_000_000
"""Values in a backend's answer, whose size is bounded already: 20 log-probabilities a token are 100 of them."""
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True)
class Upstream:
    """An open answer of a backend."""

    backend: Backend
    response: httpx2.Response

    @property
    def is_stream(self) -> bool:
        """Tell whether the answer comes event by event."""
        kind = self.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return self.response.status_code == 200 and kind == _EVENT_STREAM

    @property
    def headers(self) -> dict[str, str]:
        """Headers for the client: the type of the content, who answered, and when to come again."""
        given = ((name, self.response.headers.get(name)) for name in _PASSED_ON)
        kept = {name: value for name, value in given if value is not None and value.isascii()}
        return kept | {
            "content-type": _EVENT_STREAM if self.is_stream else "application/json",
            "x-star-revision": self.backend.revision,
            "x-star-checkpoint": self.backend.checkpoint,
        }


async def open_awake(call: Call, pool: BackendPool, stack: AsyncExitStack) -> Upstream:
    """Send the call as `open_upstream` does, once a backend is up where the servers are scaled to nothing."""
    while True:
        moment = await pool.awake()
        try:
            return await open_upstream(call, pool, stack)
        except Problem:
            if not pool.slept_since(moment):
                raise


async def open_upstream(call: Call, pool: BackendPool, stack: AsyncExitStack) -> Upstream:
    """Send the call to the first backend that answers; `stack` keeps its lease and its connection.

    A backend that cannot be reached, or answers 502-504, is passed over, and known as down from then on.
    Raises Problem 503 when none answers.
    """
    detail = ""
    for handle in candidates(call, pool):
        async with AsyncExitStack() as attempt:
            await attempt.enter_async_context(handle.lease())
            try:
                response = await _send(call, handle, pool.http)
            except httpx2.TransportError as error:
                detail = f"revision {handle.backend.revision} cannot be reached ({type(error).__name__})"
                pool.failed(handle, detail)
                continue
            attempt.push_async_callback(response.aclose)
            if response.status_code in _UNAVAILABLE:
                detail = f"revision {handle.backend.revision} answered {response.status_code}"
                pool.failed(handle, detail)
                continue
            await stack.enter_async_context(attempt.pop_all())
            return Upstream(handle.backend, response)
    raise Problem(503, "backend-unreachable", f"no backend answers: {detail}; retry.", retry_after=5)


async def _send(call: Call, handle: BackendHandle, http: ReconnectingClient) -> httpx2.Response:
    backend = handle.backend
    headers = {
        "content-type": "application/json",
        "x-request-id": call.caller.request_id,
        "accept-encoding": "identity",
        **handle.headers,
    }
    url, content = f"{backend.base_url}/{call.path}", call.content(backend.model)
    return await http.send(http.build_request("POST", url, content=content, headers=headers), stream=True)


async def whole_answer(upstream: Upstream) -> Response:
    """Read an answer that is no stream. Raises Problem 502 for one that no client could use."""
    status, revision = upstream.response.status_code, upstream.backend.revision
    content = await _content(upstream)
    try:
        if len(content) > _PARSED_AT_ONCE:  # log-probabilities of a long answer: others are answered meanwhile
            await asyncio.to_thread(parse_object, content, MAX_ANSWER_VALUES)
        else:
            parse_object(content)
    except BadJson as error:
        if status in _SHORT_WORDS:  # proxies in front of a server say this in plain text
            raise _refused(status, revision, upstream.headers.get("retry-after")) from None
        detail = f"revision {revision} answered {status} with what is no JSON object ({error}); see its log."
        raise Problem(502, "backend-answer-unusable", detail) from None
    if status in _OURS or not (status == 200 or 400 <= status < 500):
        said = content[:300].decode(errors="replace")
        detail = f"revision {revision} answered {status}: {said}; see its log."
        raise Problem(502, "backend-refused", detail)
    return Response(content, status_code=status, headers=upstream.headers)


def _refused(status: int, revision: str, retry_after: str | None) -> Problem:
    if status == 413:
        return Problem(422, "refused-by-backend", f"revision {revision} takes no prompt of this size; send less.")
    seconds = int(retry_after) if retry_after and retry_after.isdecimal() and len(retry_after) < 6 else 1
    return Problem(429, "backend-busy", f"revision {revision} has too much to do; retry.", retry_after=seconds)


async def _content(upstream: Upstream) -> bytes:
    content = bytearray()
    try:
        async for chunk in upstream.response.aiter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                detail = (
                    f"revision {upstream.backend.revision} answered more than {MAX_ANSWER_BYTES} bytes; ask for less."
                )
                raise Problem(502, "backend-answer-unusable", detail)
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        detail = f"revision {upstream.backend.revision} broke off its answer ({type(error).__name__}); retry."
        raise Problem(502, "backend-answer-unusable", detail) from None
    return bytes(content)


class StreamedAnswer(Response):
    """Passes a stream on as it comes, until it ends, the client goes, or the deadline passes."""

    def __init__(self, upstream: Upstream, stack: AsyncExitStack, ends_at: float) -> None:
        """Take over `stack`, closed when the stream is over; `ends_at` is on the event loop's clock, in seconds."""
        super().__init__(status_code=upstream.response.status_code, headers=upstream.headers | _STREAM_HEADERS)
        # A stream's length is not known: Response sets one for its empty body.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._upstream = upstream
        self._stack = stack
        self._ends_at = ends_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI). Raises ClientGone, for the access log."""
        async with self._stack:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                await unless_gone(receive, self._pump(send))
            except ClientGone:
                scope["state"]["gone"] = True

    async def _pump(self, send: Send) -> None:
        revision, stream = self._upstream.backend.revision, EventStream()
        try:
            async with asyncio.timeout_at(self._ends_at):
                async for chunk in self._upstream.response.aiter_bytes():
                    for event in stream.feed(chunk):
                        await send(_part(event))
            if last := stream.end():
                await send(_part(last))
        except TimeoutError:
            await send(_error_event("the deadline passed before the stream ended"))
        except (httpx2.TransportError, httpx2.DecodingError, BrokenStream) as error:
            await send(_error_event(f"revision {revision} broke off ({error or type(error).__name__})"))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _error_event(message: str) -> dict[str, Any]:
    """Return a stream's last words, in the form OpenAI clients raise as an APIError."""
    data = json.dumps({"error": {"message": message, "type": "server_error", "code": None}})
    return _part(f"data: {data}\n\n".encode())


def _part(content: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": True}
