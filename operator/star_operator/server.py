"""The operator's HTTP face: /healthz, /readyz and /metrics on one port, the reports of pods on another."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from star_contracts.online import ONLINE_PATH, OnlineReport
from star_contracts.progress import PROGRESS_PATH, ProgressReport
from star_operator.api.stardeployment import StarDeployment
from star_operator.core.errors import StarError
from star_operator.core.queue import Key
from star_operator.core.rates import Rate, Rates
from star_operator.kube.tokens import TokenReviewer
from star_operator.metrics import ONLINE_REPORTS, PROGRESS_REPORTS
from star_operator.reconcilers.context import Context

log = structlog.get_logger(__name__)

MAX_REPORT_BYTES = 16_384
STATUS_INTERVAL_SECONDS = 3.0
"""A resource's status follows its reports no faster than this."""

STANDBY_SECONDS = 1
"""After so long a client may have another replica."""

BODY_SECONDS = 5.0
"""A report comes within so long."""
METRICS_SECONDS = 1.0
"""The metrics are written anew no more often than this: whoever may ask, may ask without end."""
EACH_TOKEN = Rate(burst=20, per_second=2)
"""A pod sends a report every 2 s at most, a gateway every 30 s for each of its processes."""
EACH_NAMESPACE = Rate(burst=2000, per_second=200)
"""Of many pods some reports are put off, and figures are some seconds older."""
EACH_ADDRESS = Rate(burst=200, per_second=5)
"""Of tokens that are not known. Where the network hides pods, an address stands for a whole node."""

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""
Listening = Callable[[], Context | None]
"""Returns where reports are kept; None in a replica that stands by."""


def health_app(alive: Check, ready: Check) -> web.Application:
    """Return the application for probes and metrics."""

    def probe(check: Check) -> Callable[[web.Request], web.Response]:
        def answer(_: web.Request) -> web.Response:
            wrong = check()
            return web.Response(text="ok\n") if wrong is None else web.Response(status=503, text=f"{wrong}\n")

        return answer

    async def healthz(request: web.Request) -> web.Response:
        return probe(alive)(request)

    async def readyz(request: web.Request) -> web.Response:
        return probe(ready)(request)

    latest = _Latest()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=latest.read(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.on_response_prepare.append(_end_connection)
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@dataclass
class Door:
    """Who comes in, and how often. `clock` gives seconds."""

    reviewer: TokenReviewer
    clock: Callable[[], float] = time.monotonic
    tokens: Rates = field(default_factory=lambda: Rates(EACH_TOKEN, 20_000))
    namespaces: Rates = field(default_factory=lambda: Rates(EACH_NAMESPACE, 5_000))
    addresses: Rates = field(default_factory=lambda: Rates(EACH_ADDRESS, 20_000))

    def wait_known(self, token: str, namespace: str | None) -> int:
        """Return for how many seconds a token that is known must wait."""
        now = self.clock()
        return self.tokens.take(hash(token), now) or self.namespaces.take(namespace, now)

    def wait_unknown(self, address: str) -> int:
        """Return for how many seconds an address must wait until it may have another token reviewed."""
        return self.addresses.take(address, self.clock())


def progress_app(listening: Listening, door: Door) -> web.Application:
    """Return the application that takes reports: progress of job pods, and online figures of gateways.

    Only who leads keeps them. Each answer ends its connection, so that the next report may reach another replica.
    """

    async def progress(request: web.Request) -> web.Response:
        context = listening()
        if context is None:
            return _standing_by()
        result, response = await _take(request, door, ProgressReport, partial(_progress, context))
        PROGRESS_REPORTS.labels(result).inc()
        return response

    async def online(request: web.Request) -> web.Response:
        context = listening()
        if context is None:
            return _standing_by()
        result, response = await _take(request, door, OnlineReport, partial(_online, context))
        ONLINE_REPORTS.labels(result).inc()
        return response

    app = web.Application(client_max_size=MAX_REPORT_BYTES)
    app.on_response_prepare.append(_end_connection)
    app.add_routes([web.post(PROGRESS_PATH, progress), web.post(ONLINE_PATH, online)])
    return app


async def _end_connection(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Connection"] = "close"


class _Latest:
    """The metrics as text, written now and then."""

    def __init__(self) -> None:
        self._text, self._at = b"", float("-inf")

    def read(self) -> bytes:
        now = time.monotonic()
        if now - self._at >= METRICS_SECONDS:
            self._text, self._at = generate_latest(), now
        return self._text


def _standing_by() -> web.Response:
    headers = {"Retry-After": str(STANDBY_SECONDS)}
    return web.Response(status=503, text="this replica stands by; send the report once more\n", headers=headers)


def _progress(context: Context, report: ProgressReport) -> None:
    target = report.target
    context.progress.report(report)
    context.queue.add_after(Key(target.kind, target.namespace, target.name), STATUS_INTERVAL_SECONDS)


def _online(context: Context, report: OnlineReport) -> None:
    target = report.target
    if context.online.take(report, context.now().timestamp()):
        context.queue.add(Key(StarDeployment.INFO.kind, target.namespace, target.name))


ReportT = TypeVar("ReportT", ProgressReport, OnlineReport)


async def _take(
    request: web.Request, door: Door, model: type[ReportT], keep: Callable[[ReportT], None]
) -> tuple[str, web.Response]:
    """Read a report, find out whose it is, and keep it: a token speaks for its own namespace alone.

    What costs most comes last: a token that cannot be right, or a body that is none, has no TokenReview made.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or not token.isascii():
        return _unauthorized("send the pod's token as Authorization: Bearer")
    claims = door.reviewer.claims(token)
    if isinstance(claims, str):
        return _unauthorized(claims)
    known = door.reviewer.known(token)
    if known is not None and known.namespace is None:
        return _unauthorized("the token is not valid in this cluster")
    if wait := door.wait_known(token, known.namespace) if known else door.wait_unknown(request.remote or ""):
        return _too_many(wait)
    what = "a progress report" if model is ProgressReport else "a report of online figures"
    try:
        async with asyncio.timeout(BODY_SECONDS):
            report = model.model_validate_json(await request.read())
    except ValidationError as error:
        return "invalid", web.Response(status=400, text=f"not {what}: {_first(error)}\n")
    except web.HTTPRequestEntityTooLarge:
        return "invalid", web.Response(status=413, text=f"a report has at most {MAX_REPORT_BYTES} bytes\n")
    except TimeoutError:
        return "invalid", web.Response(status=408, text=f"send {what} within {BODY_SECONDS:.0f} s\n")
    if claims.namespace != report.target.namespace:
        return _forbidden()
    try:
        namespace = await door.reviewer.namespace_of(token)
    except StarError as error:
        log.warning("token not reviewed", reason=error.reason)
        text, later = "the token could not be reviewed; try again\n", {"Retry-After": "5"}
        return "error", web.Response(status=503, text=text, headers=later)
    if namespace is None:
        return _unauthorized("the token is not valid in this cluster")
    if namespace != report.target.namespace:
        return _forbidden()
    keep(report)
    return "accepted", web.Response(status=202)


def _unauthorized(text: str) -> tuple[str, web.Response]:
    return "unauthorized", web.Response(status=401, text=f"{text}\n", headers={"WWW-Authenticate": "Bearer"})


def _forbidden() -> tuple[str, web.Response]:
    return "forbidden", web.Response(status=403, text="the token is not of the resource's namespace\n")


def _too_many(seconds: int) -> tuple[str, web.Response]:
    text, headers = "too many reports; send the next one later\n", {"Retry-After": str(seconds)}
    return "limited", web.Response(status=429, text=text, headers=headers)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{field}: {first['msg']}".encode(errors="backslashreplace").decode()
