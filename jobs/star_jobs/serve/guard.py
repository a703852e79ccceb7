"""Nobody in without a good key, and no error out without a problem document: it would end the connection."""

from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from star_jobs.serve.edge import OPEN_PATHS, request_id
from star_jobs.serve.problems import Problem, internal

if TYPE_CHECKING:
    from star_jobs.serve.gateway import Gateway

_log = structlog.get_logger("star.gateway")


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check_key(scope)
            await self._app(scope, receive, answer)
        except Problem as problem:
            await problem.response()(scope, receive, send)
        except Exception:
            _log.exception("request failed", request_id=request_id(scope))
            if started:
                raise  # half an answer can only be broken off
            await internal(request_id(scope)).response()(scope, receive, send)

    def _check_key(self, scope: Scope) -> None:
        # OPTIONS tells what everybody may know, and browsers send it without a key.
        if scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return
        try:
            self._gateway.keys.check(Headers(scope=scope).get("authorization"))
        except Problem:
            self._gateway.metrics.rejected.labels("unauthorized").inc()
            raise
