"""The operator's HTTP face: /healthz, /readyz and /metrics on one port, the reports of pods on another."""

from collections.abc import Callable
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
from star_operator.kube.resources import STAR_TYPES
from star_operator.kube.tokens import TokenReviewer
from star_operator.metrics import ONLINE_REPORTS, PROGRESS_REPORTS
from star_operator.reconcilers.context import Context

log = structlog.get_logger(__name__)

MAX_REPORT_BYTES = 16_384
STATUS_INTERVAL_SECONDS = 3.0
"""A resource's status follows its reports no faster than this."""

STANDBY_SECONDS = 1
"""After so long a client may have another replica."""

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

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


def progress_app(listening: Listening, reviewer: TokenReviewer) -> web.Application:
    """Return the application that takes reports: progress of job pods, and online figures of gateways.

    Only who leads keeps them. Each answer ends its connection, so that the next report may reach another replica.
    """

    async def progress(request: web.Request) -> web.Response:
        context = listening()
        if context is None:
            return _standing_by()
        result, response = await _take(request, reviewer, ProgressReport, partial(_progress, context))
        PROGRESS_REPORTS.labels(result).inc()
        return response

    async def online(request: web.Request) -> web.Response:
        context = listening()
        if context is None:
            return _standing_by()
        result, response = await _take(request, reviewer, OnlineReport, partial(_online, context))
        ONLINE_REPORTS.labels(result).inc()
        return response

    async def end_connection(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Connection"] = "close"

    app = web.Application(client_max_size=MAX_REPORT_BYTES)
    app.on_response_prepare.append(end_connection)
    app.add_routes([web.post(PROGRESS_PATH, progress), web.post(ONLINE_PATH, online)])
    return app


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
    request: web.Request, reviewer: TokenReviewer, model: type[ReportT], keep: Callable[[ReportT], None]
) -> tuple[str, web.Response]:
    """Read a report, find out whose it is, and keep it: a token speaks for its own namespace alone."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or not token.isascii():
        wanted = {"WWW-Authenticate": "Bearer"}
        text = "send the pod's token as Authorization: Bearer\n"
        return "unauthorized", web.Response(status=401, text=text, headers=wanted)
    what = "a progress report" if model is ProgressReport else "a report of online figures"
    try:
        report = model.model_validate_json(await request.read())
    except ValidationError as error:
        return "invalid", web.Response(status=400, text=f"not {what}: {_first(error)}\n")
    except web.HTTPRequestEntityTooLarge:
        return "invalid", web.Response(status=413, text=f"a report has at most {MAX_REPORT_BYTES} bytes\n")
    if isinstance(report, ProgressReport) and report.target.kind not in STAR_TYPES:
        return "invalid", web.Response(
            status=400, text="not a progress report: target.kind is none of the operator's\n"
        )
    try:
        namespace = await reviewer.namespace_of(token)
    except StarError as error:
        log.warning("token not reviewed", reason=error.reason)
        text, later = "the token could not be reviewed; try again\n", {"Retry-After": "5"}
        return "error", web.Response(status=503, text=text, headers=later)
    if namespace is None or namespace != report.target.namespace:
        return "forbidden", web.Response(status=403, text="the token is not of the resource's namespace\n")
    keep(report)
    return "accepted", web.Response(status=202)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{field}: {first['msg']}".encode(errors="backslashreplace").decode()
