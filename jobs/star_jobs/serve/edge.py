"""Around every request: its id, the API key, the access log, metrics, and how a draining process says goodbye.

A plain ASGI middleware, as Starlette's BaseHTTPMiddleware hides a client's disconnect from the endpoint.
"""

import re
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from star_jobs.serve.auth import unauthorized
from star_jobs.serve.problems import Problem

if TYPE_CHECKING:
    from star_jobs.serve.gateway import Gateway

OPEN_PATHS = ("/healthz", "/readyz", "/metrics")
"""Asked by the cluster: no key, no log line, no metrics."""
ROUTES = (
    "/v1/recommend",
    "/v1/recommend:batch",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/v1/feedback",
    "/openapi.json",
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = structlog.get_logger("star.gateway.access")


def request_id(scope: Scope) -> str:
    """Return the id of the request: the caller's `X-Request-Id` or one of our own."""
    return str(scope["state"]["request_id"])


class Edge:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: uvicorn hands the same lifespan state to every request.
        scope["state"] = {**scope.get("state", {}), "request_id": _request_id(Headers(scope=scope))}
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        await self._observed(scope, receive, send)

    async def _observed(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        code = 500

        async def answer(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                self._add_headers(scope, message)
            await send(message)

        try:
            if self._allowed(scope):
                await self._app(scope, receive, answer)
            else:
                await unauthorized().response()(scope, receive, answer)
        finally:
            self._record(scope, 499 if scope["state"].get("gone") else code, time.monotonic() - started)

    def _allowed(self, scope: Scope) -> bool:
        try:
            self._gateway.keys.check(Headers(scope=scope).get("authorization"))
        except Problem:
            self._gateway.metrics.rejected.labels("unauthorized").inc()
            return False
        return True

    def _add_headers(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = request_id(scope)
        if self._gateway.draining:
            # Kept-alive connections would otherwise stay with a process that is about to go.
            headers["connection"] = "close"

    def _record(self, scope: Scope, code: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in ROUTES else "other"
        revision = scope["state"].get("revision", "")
        self._gateway.metrics.requests.labels(route, str(code), revision).inc()
        self._gateway.metrics.seconds.labels(route, revision).observe(seconds)
        _log.info(
            "request",
            route=route,
            method=scope["method"],
            code=code,
            seconds=round(seconds, 4),
            revision=revision,
            request_id=request_id(scope),
        )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
