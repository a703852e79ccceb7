"""A simulated LLM engine: an OpenAI-compatible server whose answers take as long as a service-time model says.

    python -m tests.support.simengine --slots 64 --token-ms 20 --prefill-rate 20000

It keeps `slots` sequences running at a time (continuous batching); the others wait in order of arrival. A sequence runs
for its prompt's tokens at `prefill-rate` tokens a second and `token-ms` a generated token, whatever runs beside it.
What it says is drawn from the request's JSON schema, seeded by the request: equal requests get equal answers that
cost equal time. It is there to measure what asks it, so it does little itself: one process, no framework.

The first line of its output is its port.
"""

import argparse
import asyncio
import hashlib
import json
import random
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.fakellm import MODEL, draw, schema_of

_CHARS_A_TOKEN = 4
_HEAD_END = b"\r\n\r\n"
_BACKLOG = 8192


@dataclass(frozen=True)
class ServiceTimes:
    """How long answers take."""

    slots: int = 64
    """Sequences that run at a time."""
    token_seconds: float = 0.02
    """For one generated token."""
    prefill_rate: float = 20000.0
    """Tokens of a prompt a second."""

    def seconds(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Time that a sequence holds a slot."""
        return prompt_tokens / self.prefill_rate + completion_tokens * self.token_seconds


@dataclass
class Engine:
    """The slots and who waits for one. Lives in one event loop."""

    times: ServiceTimes
    running: int = 0
    waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)

    def submit(self, seconds: float, finished: Callable[[], None]) -> None:
        """Run a sequence when its turn comes, and tell when it ends."""
        self.waiting.append((seconds, finished))
        self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting and self.running < self.times.slots:
            seconds, finished = self.waiting.popleft()
            self.running += 1
            loop.call_later(seconds, self._end, finished)

    def _end(self, finished: Callable[[], None]) -> None:
        self.running -= 1
        self._start()
        finished()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as OpenAI clients use: one request at a time, no chunked bodies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(_HEAD_END)
        if not separator:
            return
        length = _content_length(head)
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._answer(head, rest[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vllm"}
            self._send({"object": "list", "data": [model]})
            return
        request = json.loads(body)
        text = answer_text(request, body)
        prompt = sum(len(message["content"]) for message in request["messages"]) // _CHARS_A_TOKEN
        tokens = -(-len(text) // _CHARS_A_TOKEN)
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        reply = {"id": "sim", "object": "chat.completion", "created": 0, "model": MODEL}
        reply |= {"choices": [choice], "usage": usage}
        self._engine.submit(self._engine.times.seconds(prompt, tokens), lambda: self._send(reply))

    def _send(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data
        )


def answer_text(request: dict[str, Any], body: bytes) -> str:
    """What the engine says to a request: a value of its schema, or a few words."""
    rng = random.Random(hashlib.blake2b(body, digest_size=8).digest())
    schema = schema_of(request)
    return json.dumps(draw(schema, rng)) if schema is not None else "facts and nothing but facts " * 4


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@contextmanager
def simulated_engine(times: ServiceTimes) -> Iterator[str]:
    """Run an engine as a process of its own for the length of a `with` block; gives its base URL."""
    command = [sys.executable, "-m", "tests.support.simengine", "--slots", str(times.slots)]
    command += ["--token-ms", str(times.token_seconds * 1000), "--prefill-rate", str(times.prefill_rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the simulated engine ended with {process.wait()}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


async def serve(times: ServiceTimes) -> None:
    """Serve on a free port of the loopback interface, for ever."""
    engine = Engine(times)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(engine), "127.0.0.1", 0, backlog=_BACKLOG
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the service times and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=ServiceTimes.slots)
    parser.add_argument("--token-ms", type=float, default=ServiceTimes.token_seconds * 1000)
    parser.add_argument("--prefill-rate", type=float, default=ServiceTimes.prefill_rate)
    options = parser.parse_args()
    asyncio.run(serve(ServiceTimes(options.slots, options.token_ms / 1000, options.prefill_rate)))


if __name__ == "__main__":
    main()
