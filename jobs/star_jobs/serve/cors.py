"""Pages of other origins: which ones may call from a browser (the Fetch standard's CORS protocol)."""

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from star_jobs.serve.problems import Problem

if TYPE_CHECKING:
    from star_jobs.serve.gateway import Gateway

REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-Id", "X-Star-Revision", "X-Star-User")
ANSWER_HEADERS = ("Retry-After", "X-Request-Id", "X-Star-Checkpoint", "X-Star-Revision")


class Cors:
    """ASGI middleware that follows the configuration's `allowedOrigins`; without any, nothing is said of origins."""

    def __init__(self, app: ASGIApp, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway
        self._origins: tuple[str, ...] = ()
        self._allowing: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event (ASGI)."""
        origins = self._gateway.config.allowed_origins
        if origins != self._origins:
            self._origins = origins
            self._allowing = _Allowing(
                self._app,
                allow_origins=origins,
                allow_methods=("GET", "HEAD", "POST"),
                allow_headers=REQUEST_HEADERS,
                expose_headers=ANSWER_HEADERS,
            )
        await (self._allowing if origins else self._app)(scope, receive, send)


class _Allowing(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; a refusal is a problem document like every other."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        detail = f"{bytes(answer.body).decode()}; the deployment's gateway.allowedOrigins lists the origins it takes."
        refusal = Problem(answer.status_code, "origin-not-allowed", detail, field="origin").response()
        refusal.headers["Vary"] = answer.headers["Vary"]
        return refusal
