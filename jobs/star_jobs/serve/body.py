"""The border of every request's body: its type, its size, the time it takes, and what it says.

A body is refused while it is read, so that memory stays flat; a long one is parsed in a thread, one at a time, so that
probes and everybody else are answered meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from star_jobs.serve.disconnect import ClientGone
from star_jobs.serve.problems import Problem
from star_jobs.serve.strictjson import BadJson, JsonObject, parse_object

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HELD_BYTES = 32 * MAX_BODY_BYTES
"""Of all bodies that are being read or answered."""
_PARSED_AT_ONCE = 64 * 1024
"""Bytes up to which parsing takes no longer than changing threads would be worth."""
_READ_AWAY = 4
"""Times the largest body: what is read to its end although it is refused."""
_LENGTH_DIGITS = 18
_HELD = "body_bytes"

T = TypeVar("T")


class Bodies:
    """Reads bodies. For use from one event loop."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes of the requests in flight."""
        self._parsing = asyncio.Lock()

    async def read(self, request: Request, understand: Callable[[JsonObject], T], seconds: float) -> T:
        """Return what `understand` makes of the body, a JSON object that has to arrive within `seconds`.

        Raises Problem 408, 413, 415, 422 or 503, ClientGone, or what `understand` raises.
        """
        _check_headers(request)
        try:
            async with asyncio.timeout(seconds):
                raw = await self._read(request)
        except TimeoutError:
            detail = f"the body did not arrive within {seconds:g} s; send the request again."
            raise Problem(408, "body-too-slow", detail, body_left=True, close=True) from None
        except ClientDisconnect:
            raise ClientGone from None
        if len(raw) <= _PARSED_AT_ONCE:
            return understand(_parsed(raw))
        async with self._parsing:
            return await asyncio.to_thread(lambda: understand(_parsed(raw)))

    def release(self, request_state: dict[str, object]) -> None:
        """Take note that a request is over: its body is gone."""
        held = request_state.get(_HELD, 0)
        assert isinstance(held, int)
        self.held -= held

    async def _read(self, request: Request) -> bytes:
        state = request.scope["state"]
        state[_HELD] = 0
        chunks = []
        async for chunk in request.stream():
            state[_HELD] += len(chunk)
            self.held += len(chunk)
            if state[_HELD] > MAX_BODY_BYTES:
                raise _too_large(_declared(request))
            if self.held > MAX_HELD_BYTES:
                detail = "the bodies of the requests in flight fill the gateway's memory; retry."
                raise Problem(503, "too-many-bytes", detail, retry_after=1, body_left=True, close=True)
            chunks.append(chunk)
        return b"".join(chunks)


def _parsed(raw: bytes) -> JsonObject:
    try:
        return parse_object(raw)
    except BadJson as error:
        detail = f"{error}; see /openapi.json for the request's fields."
        raise Problem(422, "invalid-request", detail, field=error.field) from None


def _check_headers(request: Request) -> None:
    headers = request.headers
    kind, *parameters = (
        part.strip().lower() for part in (headers.get("content-type") or "application/json").split(";")
    )
    given = dict(part.partition("=")[::2] for part in parameters)
    charset = given.get("charset", "utf-8").strip('"')
    if not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        detail = f"content-type {kind} is not taken; send JSON with `Content-Type: application/json`."
        raise Problem(415, "unsupported-media-type", detail, field="content-type")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        detail = "content-type names another charset than UTF-8, which JSON is written in; send UTF-8."
        raise Problem(415, "unsupported-media-type", detail, field="content-type")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        detail = "compressed bodies are not taken; send the body as it is, without Content-Encoding."
        raise Problem(415, "unsupported-encoding", detail, field="content-encoding")
    if (declared := _declared(request)) is not None and declared > MAX_BODY_BYTES:
        raise _too_large(declared)


def _declared(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length[:_LENGTH_DIGITS]) if length.isascii() and length.isdecimal() else None


def _too_large(declared: int | None) -> Problem:
    """A little too much is read and thrown away, and the connection lives; much, or nobody knows how much, ends it."""
    detail = f"the body is larger than {MAX_BODY_BYTES} bytes, and at most these are taken; send less at once."
    close = declared is None or declared > _READ_AWAY * MAX_BODY_BYTES
    return Problem(413, "too-large", detail, field="body", body_left=True, close=close)
