"""Around every request: its id, the access log, metrics, and how a draining process says goodbye.

A plain ASGI middleware, as Starlette's BaseHTTPMiddleware hides a client's disconnect from the endpoint.
"""

import re
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
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
        exchange = _Exchange(scope, receive, send, draining=self._gateway.draining)
        started = time.monotonic()
        try:
            await self._app(exchange.inner_scope, exchange.receive, exchange.send)
        finally:
            self._gateway.bodies.release(scope["state"])
            if scope["path"] not in OPEN_PATHS:
                self._record(scope, exchange.code, time.monotonic() - started)

    def _record(self, scope: Scope, code: int, seconds: float) -> None:
        code = 499 if scope["state"].get("gone") else code
        route = scope["path"] if scope["path"] in ROUTES else "other"
        revision = scope["state"].get("revision", "")
        self._gateway.metrics.requests.labels(route, str(code), revision).inc()
        self._gateway.metrics.seconds.labels(route, revision).observe(seconds)
        _log.info(
            "request",
            route=route,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            code=code,
            seconds=round(seconds, 4),
            revision=revision,
            request_id=request_id(scope),
        )


class _Exchange:
    """One request with its answer, as HTTP wants them beyond what an endpoint knows."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, draining: bool) -> None:
        self.code = 500
        self._scope = scope
        self._receive = receive
        self._send = send
        self._draining = draining
        self._head = scope["method"] == "HEAD"
        self._awaits_continue = Headers(scope=scope).get("expect", "").lower() == "100-continue"

    @property
    def inner_scope(self) -> Scope:
        """The request as endpoints see it: HEAD is GET whose content is left out (RFC 9110, 9.3.2)."""
        return {**self._scope, "method": "GET"} if self._head else self._scope

    async def receive(self) -> Message:
        """Pass a part of the request on."""
        self._awaits_continue = False
        return await self._receive()

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.code = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = request_id(self._scope)
            # Kept-alive connections would otherwise stay with a process that is about to go. And a client that waits to
            # be asked for its body may now send it or not: what comes next could be either.
            if self._draining or self._awaits_continue:
                headers["connection"] = "close"
        elif self._head:
            message = {**message, "body": b""}
        await self._send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
