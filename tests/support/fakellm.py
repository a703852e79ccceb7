"""A fake OpenAI-compatible server, in this process: it follows a script instead of running a model.

Without a script it answers every schema with a value drawn from it, seeded by the request: deterministic, valid, and
without any understanding. Tests of the code around a model use it; tests of a model use vLLM.
"""

import hashlib
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from star_contracts.job import LLMEndpoint

MODEL = "fake"
Request = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the server says to one request."""

    text: str = ""
    status: int = 200
    finish_reason: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Request], Answer | str]


@dataclass
class FakeLLM:
    """A running fake. `requests` holds every chat request it got, in order of arrival."""

    port: int
    script: Script
    owned_by: str = "vllm"
    models: tuple[str, ...] = (MODEL,)
    latency_seconds: float = 0.0
    api_key: str | None = None
    requests: list[Request] = field(default_factory=list)
    most_in_flight: int = 0
    _in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def endpoint(self, **changes: Any) -> LLMEndpoint:
        """The job spec's description of this server."""
        values = {
            "base_url": f"http://127.0.0.1:{self.port}/v1",
            "model": MODEL,
            "startup_seconds": 5,
            "timeout_seconds": 10,
        }
        return LLMEndpoint(**(values | changes))

    def answer(self, request: Request) -> Answer:
        """Log a request and ask the script."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            if self.latency_seconds:
                time.sleep(self.latency_seconds)
            answer = self.script(request)
            return answer if isinstance(answer, Answer) else Answer(answer)
        finally:
            with self._lock:
                self._in_flight -= 1


@contextmanager
def fake_llm(script: Script | None = None, *, port: int = 0, **settings: Any) -> Iterator[FakeLLM]:
    """Run a fake for the length of a `with` block."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.fake = FakeLLM(server.server_address[1], script or any_valid_answer, **settings)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.fake  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def any_valid_answer(request: Request) -> Answer:
    """A value of the request's schema, the same for the same request; without a schema, a few words."""
    seed = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
    schema = schema_of(request)
    if schema is None:
        return Answer("no schema, no structure")
    return Answer(json.dumps(draw(schema, random.Random(seed))))


def schema_of(request: Request) -> Any:
    """The JSON schema of a request, or None."""
    return ((request.get("response_format") or {}).get("json_schema") or {}).get("schema")


def draw(schema: dict[str, Any], rng: random.Random) -> Any:
    """A value of the schema."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "object":
        return {name: draw(part, rng) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        count = rng.randint(schema.get("minItems", 0), schema.get("maxItems", 3))
        return [draw(schema["items"], rng) for _ in range(count)]
    return " ".join(rng.choice(("quiet", "drama", "space", "family", "war")) for _ in range(2))


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is part of some tests, not worth a trace."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fake: FakeLLM = self.server.fake  # type: ignore[attr-defined]
        if not self._allowed(fake):
            return
        models = [{"id": name, "object": "model", "created": 0, "owned_by": fake.owned_by} for name in fake.models]
        self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        fake: FakeLLM = self.server.fake  # type: ignore[attr-defined]
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError("the request was cut short")
        request = json.loads(body)
        if not self._allowed(fake):
            return
        answer = fake.answer(request)
        if answer.status != 200:
            self._send(answer.status, {"error": {"message": answer.text, "type": "fake"}}, answer.headers)
            return
        words = sum(len(message["content"].split()) for message in request["messages"])
        choice = {"index": 0, "finish_reason": answer.finish_reason}
        message = {"role": "assistant", "content": answer.text}
        self._send(
            200,
            {
                "id": "fake",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice | {"index": i, "message": message} for i in range(request.get("n", 1))],
                "usage": {
                    "prompt_tokens": words,
                    "completion_tokens": len(answer.text.split()),
                    "total_tokens": words + len(answer.text.split()),
                },
            },
        )

    def _allowed(self, fake: FakeLLM) -> bool:
        if fake.api_key is None or self.headers.get("authorization") == f"Bearer {fake.api_key}":
            return True
        self._send(401, {"error": {"message": "invalid api key", "type": "fake"}})
        return False

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""
