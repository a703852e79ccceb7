"""A fake vLLM behind the gateway: slow, broken or streaming on demand, and it notices when its client goes away.

It follows a script instead of running a model (`tests.support.world.scripted_student`). A thread of its own runs it, so
that the gateway under test talks to a real socket.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from star_contracts.serving import Backend
from star_jobs.llm.guard import KeyGuard
from tests.support.s3 import free_port

Body = dict[str, Any]
Script = Callable[[Body], str]
CHECKPOINT = "sha256:" + "c" * 64


@dataclass
class FakeBackend:
    """A running fake; its attributes may be changed at any time."""

    port: int
    script: Script
    model: str = "student"
    delay: float = 0.0
    """Seconds before a chat answer, or between the chunks of a stream."""
    status: int = 200
    generates: bool = True
    """False lists its models but cannot generate, as vLLM does while it starts."""
    requests: list[Body] = field(default_factory=list)
    """Chat requests, in order of arrival."""
    in_flight: int = 0
    aborted: int = 0
    """Requests whose client went away before the answer."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def backend(self, revision: str, weight: int = 100, api_key_file: str | None = None) -> Backend:
        return Backend(
            revision=revision,
            checkpoint=CHECKPOINT,
            base_url=self.base_url,
            model=self.model,
            weight=weight,
            api_key_file=api_key_file,
        )

    async def models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "vllm"}]})

    async def completions(self, request: Request) -> Response:
        if not self.generates or self.status != 200:
            return JSONResponse({"error": {"message": "engine is starting"}}, status_code=503)
        body = await request.json()
        return JSONResponse({"object": "text_completion", "model": body["model"], "choices": [{"text": "ok"}]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if self.status != 200:
            return JSONResponse({"error": {"message": "broken on purpose"}}, status_code=self.status)
        if body.get("stream"):
            return StreamingResponse(self._chunks(), media_type="text/event-stream")
        self.in_flight += 1
        try:
            if await self._client_left(request):
                self.aborted += 1
                return Response(status_code=499)
            return JSONResponse(_completion(body, self.script(body)))
        finally:
            self.in_flight -= 1

    async def _client_left(self, request: Request) -> bool:
        """Wait for `delay` seconds; true when the client was gone before they were over."""
        try:
            async with asyncio.timeout(self.delay):
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                return True
        except TimeoutError:
            return False

    async def _chunks(self) -> AsyncIterator[str]:
        finished = False
        self.in_flight += 1
        try:
            for word in ("one", "two", "three"):
                yield f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n"
                await asyncio.sleep(self.delay)
            yield "data: [DONE]\n\n"
            finished = True
        finally:
            self.in_flight -= 1
            self.aborted += not finished


@contextmanager
def fake_backend(script: Script, key_file: Path | None = None, **settings: Any) -> Iterator[FakeBackend]:
    """Run a fake for the length of a `with` block; with a key file behind the guard that stands before vLLM."""
    fake = FakeBackend(free_port(), script, **settings)
    routes = [
        Route("/v1/models", fake.models),
        Route("/v1/completions", fake.completions, methods=["POST"]),
        Route("/v1/chat/completions", fake.chat, methods=["POST"]),
    ]
    guard = [Middleware(KeyGuard, key_file=str(key_file))] if key_file is not None else []
    app = Starlette(routes=routes, middleware=guard)
    config = uvicorn.Config(app, host="127.0.0.1", port=fake.port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError("the fake backend did not start")
        time.sleep(0.01)  # between polls, under the deadline above
    try:
        yield fake
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _completion(body: Body, text: str) -> Body:
    return {
        "id": "fake",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
