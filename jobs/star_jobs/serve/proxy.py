"""The OpenAI-compatible pass-through: `/v1/chat/completions`, `/v1/completions` and `/v1/models`.

Requests go to a revision as `/v1/recommend`'s do (sticky by the body's `user`), with the `model` rewritten to what that
backend serves. Streams pass through chunk by chunk. A client that goes away closes the upstream connection, which makes
vLLM abort the generation.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from star_contracts.serving import Backend
from star_jobs.serve.backends import BackendHandle, BackendPool
from star_jobs.serve.disconnect import ClientGone, unless_gone
from star_jobs.serve.problems import Problem
from star_jobs.serve.recommend import Caller

MAX_BODY_BYTES = 8 * 1024 * 1024
ANY_MODEL = "star"
"""The `model` that means: whichever revision this user belongs to."""

_UNAVAILABLE = (502, 503, 504)
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True)
class Call:
    """A parsed pass-through request."""

    path: str
    """`chat/completions` or `completions`."""
    body: dict[str, Any]
    user: str
    """Routing key."""
    caller: Caller

    @property
    def stream(self) -> bool:
        """Tell whether the client wants a stream."""
        return self.body.get("stream") is True


def parse_call(path: str, raw: bytes, caller: Caller, user_header: str | None) -> Call:
    """Read the body. Raises Problem 413 or 422; what the body's fields mean is left to the backend."""
    if len(raw) > MAX_BODY_BYTES:
        raise Problem(413, "too-large", f"the body has {len(raw)} bytes; at most {MAX_BODY_BYTES} are taken.")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise Problem(422, "invalid-request", f"body: not JSON ({error}).", field="body") from None
    if not isinstance(body, dict):
        raise Problem(422, "invalid-request", "body: must be a JSON object.", field="body")
    model, user = body.get("model", ANY_MODEL), body.get("user")
    if not isinstance(model, str):
        raise Problem(422, "invalid-request", "model: must be a string; GET /v1/models lists them.", field="model")
    if user is not None and not isinstance(user, str):
        raise Problem(422, "invalid-request", "user: must be a string.", field="user")
    return Call(path=path, body={**body, "model": model}, user=user or user_header or caller.request_id, caller=caller)


def candidates(call: Call, pool: BackendPool) -> list[BackendHandle]:
    """Return whom to ask, first choice first: `model` is `star`, a served model's name, or a revision.

    Raises Problem 404 for a model there is not.
    """
    backends = [handle.backend for handle in pool.handles]
    model = call.body["model"]
    if call.caller.pinned is not None or model in {backend.revision for backend in backends}:
        return pool.order(call.user, call.caller.pinned or model)
    handles = [handle for handle in pool.order(call.user) if model in (ANY_MODEL, handle.backend.model)]
    if not handles:
        raise Problem(
            404,
            "unknown-model",
            f"model: there is no {model!r} here; use one of {', '.join(model_names(backends))}.",
            field="model",
        )
    return handles


def model_names(backends: Sequence[Backend]) -> list[str]:
    """Return every name that `model` may have."""
    served = dict.fromkeys(backend.model for backend in backends)
    return list(dict.fromkeys([ANY_MODEL, *served, *(backend.revision for backend in backends)]))


def model_list(backends: Sequence[Backend]) -> dict[str, Any]:
    """Return the answer of `/v1/models`: each name with the revisions that may answer to it."""

    def entry(name: str) -> dict[str, Any]:
        answering = [b for b in backends if name in (ANY_MODEL, b.model, b.revision)]
        revisions = [{"revision": b.revision, "checkpoint": b.checkpoint, "weight": b.weight} for b in answering]
        return {"id": name, "object": "model", "created": 0, "owned_by": "star", "revisions": revisions}

    return {"object": "list", "data": [entry(name) for name in model_names(backends)]}


@dataclass(frozen=True)
class Upstream:
    """An open answer of a backend."""

    backend: Backend
    response: httpx.Response

    @property
    def headers(self) -> dict[str, str]:
        """Headers for the client: the type of the content, and who answered."""
        return {
            "content-type": self.response.headers.get("content-type", "application/json"),
            "x-star-revision": self.backend.revision,
            "x-star-checkpoint": self.backend.checkpoint,
        }


async def open_awake(call: Call, pool: BackendPool, stack: AsyncExitStack) -> Upstream:
    """Send the call as `open_upstream` does, once a backend is up where the servers are scaled to nothing."""
    while True:
        await pool.awake()
        try:
            return await open_upstream(call, pool, stack)
        except Problem:
            if not pool.asleep:
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
            backend = handle.backend
            try:
                response = await _send(call, backend, pool.http)
            except httpx.TransportError as error:
                detail = f"revision {backend.revision} cannot be reached ({type(error).__name__})"
                pool.failed(handle, detail)
                continue
            attempt.push_async_callback(response.aclose)
            if response.status_code in _UNAVAILABLE:
                detail = f"revision {backend.revision} answered {response.status_code}"
                pool.failed(handle, detail)
                continue
            await stack.enter_async_context(attempt.pop_all())
            return Upstream(backend, response)
    raise Problem(503, "backend-unreachable", f"no backend answers: {detail}; retry.", retry_after=5)


async def _send(call: Call, backend: Backend, http: httpx.AsyncClient) -> httpx.Response:
    request = http.build_request(
        "POST",
        f"{backend.base_url}/{call.path}",
        json={**call.body, "model": backend.model},
        headers={"x-request-id": call.caller.request_id, "accept-encoding": "identity"},
    )
    return await http.send(request, stream=True)


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
        try:
            async with asyncio.timeout_at(self._ends_at):
                async for chunk in self._upstream.response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            await send(_error_event("the deadline passed before the stream ended"))
        except httpx.TransportError as error:
            await send(_error_event(f"revision {self._upstream.backend.revision} broke off ({type(error).__name__})"))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _error_event(message: str) -> dict[str, Any]:
    """Return a stream's last words, in the form OpenAI clients raise as an APIError."""
    data = json.dumps({"error": {"message": message, "type": "server_error", "code": None}})
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}
