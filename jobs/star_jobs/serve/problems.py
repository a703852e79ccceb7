"""Errors of the gateway as problem documents (RFC 9457): which field, what was wrong, what to do."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure
from star_jobs.llm.failures import RequestRefused

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:star:problem:"

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
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.field = field
        self.retry_after = retry_after

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
        return JSONResponse(self.document(), status_code=self.status, media_type=MEDIA_TYPE, headers=headers)


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
    status, kind = REASON_STATUS.get(failure.reason, (500, "internal"))
    detail = f"revision {revision}: {failure.message}"
    return Problem(status, kind, detail, retry_after=5 if status == HTTPStatus.SERVICE_UNAVAILABLE else None)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Answer a body that does not fit the schema: the first error in words, all of them in `errors`."""
    listed = [{"field": _field(error.get("loc", ())), "message": str(error.get("msg", ""))} for error in errors]
    first = listed[0]
    more = f" (and {len(listed) - 1} more, see `errors`)" if len(listed) > 1 else ""
    problem = Problem(
        422,
        "invalid-request",
        f"{first['field']}: {first['message']}{more}; see /openapi.json for the request's fields.",
        field=first["field"],
    )
    document = problem.document() | {"errors": listed}
    return JSONResponse(document, status_code=422, media_type=MEDIA_TYPE)


def _field(location: Sequence[int | str]) -> str:
    """Render pydantic's location as `candidates[3]`; the leading `body` or `query` says nothing to a caller."""
    parts = list(location[1:] if location and location[0] in ("body", "query", "path", "header") else location)
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "body"


async def problem_handler(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def validation_handler(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for a body, path or query that does not fit."""
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors())


async def http_handler(_request: Request, error: Exception) -> JSONResponse:
    """Handler for the router's own errors: unknown path, wrong method."""
    assert isinstance(error, HTTPException)
    detail = (
        f"{error.detail}; see /openapi.json for the endpoints."
        if error.status_code in (404, 405)
        else str(error.detail)
    )
    return Problem(error.status_code, "no-such-endpoint", detail).response()
