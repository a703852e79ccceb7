"""The gateway's HTTP endpoints. What they do is in the modules they call; see docs/gateway.md."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from star_jobs.serve.cors import Cors
from star_jobs.serve.disconnect import ClientGone, unless_gone
from star_jobs.serve.edge import Edge, request_id
from star_jobs.serve.gateway import Gateway
from star_jobs.serve.guard import Guard
from star_jobs.serve.models import (
    BatchRequest,
    BatchResponse,
    BatchResult,
    Feedback,
    FeedbackAccepted,
    Recommendation,
    RecommendRequest,
)
from star_jobs.serve.problems import Problem, http_handler, no_server, problem_handler, validation_handler
from star_jobs.serve.proxy import call_of, model_list
from star_jobs.serve.recommend import Caller, Recommender
from star_jobs.serve.strictjson import JsonObject
from star_jobs.serve.upstream import StreamedAnswer, open_awake, whole_answer

REVISION_HEADER = "x-star-revision"
USER_HEADER = "x-star-user"
CLIENT_CLOSED_REQUEST = 499
"""nginx's code for a client that went away; only the access log and the metrics ever see it."""


class _BodyRoute(APIRoute):
    """Has the gateway read an endpoint's body, where FastAPI would read it whole and validate it on the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint with its body read (FastAPI: custom Request and APIRoute class)."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        annotation: Any = self.body_field.field_info.annotation
        model: TypeAdapter[Any] = TypeAdapter(annotation)

        def understand(body: JsonObject) -> Any:
            try:
                return model.validate_python(body)
            except ValidationError as error:
                errors = error.errors(include_url=False, include_context=False, include_input=False)
                raise RequestValidationError([one | {"loc": ("body", *one["loc"])} for one in errors]) from None

        async def read_and_handle(request: Request) -> Response:
            gateway: Gateway = request.app.state.gateway
            body = await gateway.bodies.read(request, understand, gateway.config.deadline_seconds)
            return await handle(_Read(request, body))

        return read_and_handle


class _Read(Request):
    """A request whose body is read and validated already."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        """Return that there is a body."""
        return b"{}"

    async def json(self) -> Any:
        """Return what it says."""
        return self._value


router = APIRouter(route_class=_BodyRoute)


def create_app(gateway: Gateway) -> FastAPI:
    """Build the ASGI application of a gateway; its lifespan starts and stops the gateway."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    # No documentation pages: they load scripts from the internet. /openapi.json has it all.
    app = FastAPI(
        title="STAR gateway",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.state.gateway = gateway
    app.include_router(router)
    app.add_exception_handler(Problem, problem_handler)
    app.add_exception_handler(RequestValidationError, validation_handler)
    app.add_exception_handler(HTTPException, http_handler)
    app.add_exception_handler(ClientGone, _client_gone)
    for middleware in (Guard, Cors, Edge):  # the last is the outermost
        app.add_middleware(middleware, gateway=gateway)
    return app


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Gate = Annotated[Gateway, Depends(_gateway)]


@router.post("/v1/recommend")
async def recommend(body: RecommendRequest, request: Request, gateway: Gate) -> Recommendation:
    """Rank candidates for a user."""
    with gateway.admitted():
        work = gateway.recommender().recommend(body, _caller(request))
        answer = await unless_gone(request.receive, work)
    gateway.online.shown(answer)
    request.scope["state"]["revision"] = answer.revision
    return answer


@router.post("/v1/recommend:batch")
async def recommend_batch(body: BatchRequest, request: Request, gateway: Gate) -> BatchResponse:
    """Rank candidates for several users at once; each has its own outcome, and counts as a request of its own."""
    limit = min(gateway.config.max_batch, gateway.config.max_in_flight)
    if len(body.requests) > limit:
        detail = f"requests has {len(body.requests)} entries and at most {limit} are taken; send several batches."
        raise Problem(422, "too-many-requests-in-batch", detail, field="requests")
    recommender, caller = gateway.recommender(), _caller(request)
    with gateway.admitted(len(body.requests)):
        entries = (
            _batch_entry(recommender, one, Caller(f"{caller.request_id}-{index}", caller.pinned), index)
            for index, one in enumerate(body.requests)
        )
        results = await unless_gone(request.receive, _gathered(entries))
    for one in results:
        if one.recommendation is not None:
            gateway.online.shown(one.recommendation)
    return BatchResponse(results=results)


async def _gathered(entries: Any) -> list[BatchResult]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(entry) for entry in entries]
    return [task.result() for task in tasks]


async def _batch_entry(recommender: Recommender, one: RecommendRequest, caller: Caller, index: int) -> BatchResult:
    try:
        return BatchResult(index=index, recommendation=await recommender.recommend(one, caller))
    except Problem as problem:
        return BatchResult(index=index, problem=problem.document())


@router.post("/v1/chat/completions")
async def chat_completions(request: Request, gateway: Gate) -> Response:
    """Pass a chat completion through to a revision."""
    return await _pass_through("chat/completions", request, gateway)


@router.post("/v1/completions")
async def completions(request: Request, gateway: Gate) -> Response:
    """Pass a completion through to a revision."""
    return await _pass_through("completions", request, gateway)


async def _pass_through(path: str, request: Request, gateway: Gateway) -> Response:
    understand = partial(call_of, path, caller=_caller(request), user_header=request.headers.get(USER_HEADER))
    call = await gateway.bodies.read(request, understand, gateway.config.deadline_seconds)
    ends_at = asyncio.get_running_loop().time() + gateway.config.deadline_seconds
    async with AsyncExitStack() as stack:
        stack.enter_context(gateway.admitted())
        try:
            async with asyncio.timeout_at(ends_at):
                upstream = await unless_gone(request.receive, open_awake(call, gateway.pool, stack))
                request.scope["state"]["revision"] = upstream.backend.revision
                if upstream.is_stream:
                    return StreamedAnswer(upstream, stack.pop_all(), ends_at)
                return await unless_gone(request.receive, whole_answer(upstream))
        except TimeoutError:
            if gateway.pool.asleep:
                raise no_server(gateway.config.deadline_seconds) from None
            detail = f"no answer within {gateway.config.deadline_seconds:g} s; ask for fewer tokens, or for a stream."
            raise Problem(504, "deadline", detail) from None


@router.get("/v1/models")
async def models(gateway: Gate) -> dict[str, Any]:
    """List the names that `model` may have."""
    return model_list(gateway.config.backends)


@router.post("/v1/feedback", status_code=202)
async def feedback(body: Feedback, gateway: Gate) -> FeedbackAccepted:
    """Take note of what a user did with a recommended item."""
    catalogue = gateway.catalogue
    if catalogue is not None and body.item_id not in catalogue.dataset.items:
        detail = f"item_id: {body.item_id!r} is not in the dataset; send the id that the recommendation gave."
        raise Problem(422, "unknown-item", detail, field="item_id")
    gateway.feedback.take(body)
    gateway.online.take(body)
    return FeedbackAccepted(durable=gateway.feedback.durable)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(gateway: Gate) -> JSONResponse:
    """Tell whether requests can be answered: data loaded, a backend that has generated, not draining."""
    reason = gateway.unready()
    backends = [
        {
            "revision": handle.backend.revision,
            "checkpoint": handle.backend.checkpoint,
            "weight": handle.backend.weight,
            "up": handle.health.up,
            "detail": handle.health.detail,
        }
        for handle in gateway.pool.handles
    ]
    body = {"ready": reason is None, "reason": reason or "", "backends": backends, "notes": gateway.notes}
    return JSONResponse(body, status_code=200 if reason is None else 503)


@router.get("/metrics")
async def metrics(gateway: Gate) -> Response:
    """Prometheus metrics."""
    return Response(gateway.metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})


def _caller(request: Request) -> Caller:
    return Caller(request_id=request_id(request.scope), pinned=request.headers.get(REVISION_HEADER))


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
