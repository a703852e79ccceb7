"""Errors of the gateway as problem documents (RFC 9457): which field, what was wrong, what to do."""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure
from star_jobs.llm.failures import EndpointBusy, RequestRefused
from star_jobs.serve.strictjson import path, printable

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:star:problem:"
LINGER_SECONDS = 30.0
"""How long a client is listened to that goes on sending what was refused (nginx's `lingering_time`)."""
_ERRORS_SHOWN = 20
_BUSY_SECONDS = 5.0

REASON_STATUS: Mapping[Reason, tuple[int, str]] = {
    Reason.LLM_UNREACHABLE: (503, "backend-unreachable"),
    Reason.LLM_ACCESS_DENIED: (502, "backend-refused"),
    Reason.LLM_OUTPUT_INVALID: (502, "backend-answer-unusable"),
    Reason.INVALID_MODEL: (502, "backend-model"),
}
"""What a failure of the student's backend is answered with; anything else is a 500."""


class Problem(Exception):
    """A request that cannot be answered.

    Problem
    ├── 4xx: the caller's: a field, a key, too much at once
    └── 5xx: ours: no backend, past the deadline, draining
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        body_left: bool = False,
        close: bool = False,
    ) -> None:
        """`body_left` tells that the request's body was not read to its end, `close` that the connection has to go."""
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.body_left = body_left
        self.close = close

    def document(self) -> dict[str, Any]:
        """Return the problem document's members."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            document["field"] = self.field
        return document

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.close:
            headers["Connection"] = "close"
        kind = LingeringResponse if self.body_left else JSONResponse
        return kind(self.document(), status_code=self.status, media_type=MEDIA_TYPE, headers=headers)


def no_server(seconds: float) -> Problem:
    """Return the answer to a request that was held for a server until its deadline."""
    detail = (
        f"no server runs and none has started within {seconds:g} s; they are scaled to nothing when idle: retry, "
        "or raise the deployment's gateway.deadlineSeconds above the time that a server takes to start."
    )
    return Problem(503, "scaled-to-zero", detail, retry_after=10)


def of_failure(failure: JobFailure, revision: str) -> Problem:
    """Turn a failure of the code shared with the jobs (LLM client, look-ups) into a problem."""
    if isinstance(failure, RequestRefused):
        # Nearly always a prompt past the model's context length, which the caller can shorten.
        detail = "the model refused the request; send fewer candidates or a shorter history"
        return Problem(422, "refused-by-backend", f"{detail} ({failure.message}).")
    if isinstance(failure, EndpointBusy):
        seconds = max(1, math.ceil(_BUSY_SECONDS if failure.seconds is None else failure.seconds))
        detail = f"revision {revision} has too much to do; retry after {seconds} s"
        return Problem(429, "backend-busy", f"{detail}, or raise the deployment's replicas.", retry_after=seconds)
    status, kind = REASON_STATUS.get(failure.reason, (500, "internal"))
    detail = f"revision {revision}: {failure.message}"
    return Problem(status, kind, detail, retry_after=5 if status == HTTPStatus.SERVICE_UNAVAILABLE else None)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Answer a body that does not fit the schema: the first error in words, the first few of all in `errors`."""
    listed = [
        {"field": path(*_location(error.get("loc", ()))), "message": printable(str(error.get("msg", "")))}
        for error in errors[:_ERRORS_SHOWN]
    ]
    first = listed[0]
    more = f" (and {len(errors) - 1} more, see `errors`)" if len(errors) > 1 else ""
    problem = Problem(
        422,
        "invalid-request",
        f"{first['field']}: {first['message']}{more}; see /openapi.json for the request's fields.",
        field=first["field"],
    )
    document = problem.document() | {"errors": listed}
    return JSONResponse(document, status_code=422, media_type=MEDIA_TYPE)


def _location(location: Sequence[int | str]) -> Sequence[int | str]:
    """Leave out pydantic's leading `body` or `query`, which says nothing to a caller."""
    return location[1:] if location and location[0] in ("body", "query", "path", "header") else location


def internal(request_id: str) -> Problem:
    """Return the one answer to every error of ours; the log has its insides."""
    return Problem(500, "internal", f"an error that is ours; look for request {request_id} in the gateway's log.")


async def problem_handler(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def validation_handler(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for a body, path or query that does not fit."""
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors())


async def http_handler(request: Request, error: Exception) -> Response:
    """Handler for the router's own errors: unknown path, wrong method. OPTIONS asks which methods there are."""
    assert isinstance(error, HTTPException)
    allow = {"Allow": _methods(error)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else {}
    if allow and request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is no {printable(request.url.path)!r} here; see /openapi.json for the endpoints."
    elif allow:
        detail = f"method: {request.url.path} takes {allow['Allow']}, not {request.method[:20]}; see /openapi.json."
    else:
        detail = str(error.detail)
    response = Problem(error.status_code, "no-such-endpoint", detail).response()
    response.headers.update(allow)
    return response


def _methods(error: HTTPException) -> str:
    taken = {method.strip() for method in (error.headers or {}).get("Allow", "").split(",")}
    return ", ".join(sorted(taken | {"OPTIONS"} | ({"HEAD"} if "GET" in taken else set())))


class LingeringResponse(JSONResponse):
    """An answer given before the request's body has come to its end.

    The client has the whole answer at once. What it still sends is thrown away for a moment: a connection closed while
    somebody sends is reset, and the answer with it (RFC 9112, 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
