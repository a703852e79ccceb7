"""A backend of the gateway that says exactly the bytes a test wants: what no well-meant framework would send.

Model lists and the readiness probe are answered as vLLM does; chats with `said`, byte for byte.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from star_contracts.serving import Backend
from tests.support.fakebackend import CHECKPOINT

_MODELS = {"object": "list", "data": [{"id": "student", "object": "model", "owned_by": "vllm"}]}
_PROBED = {"object": "text_completion", "model": "student", "choices": [{"text": "ok"}]}
CHAT = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}]}


def http(content: bytes, status: str = "200 OK", kind: str = "application/json", *headers: str) -> bytes:
    """An answer whose length is told."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def cut_off(content: bytes, kind: str = "text/event-stream") -> bytes:
    """An answer that ends where the connection does."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode() + content


@dataclass
class RawBackend:
    """A running one; its attributes may be changed at any time."""

    said: bytes = http(json.dumps(CHAT).encode())
    listed: bytes = json.dumps(_MODELS).encode()
    """What it answers when it is asked for its models."""
    closes_used: bool = False
    """Whether a POST on a connection that has served before is dropped without an answer: what a client meets when the
    server closes an idle connection at the moment it is used again."""
    dropped: int = 0
    bodies: list[bytes] = field(default_factory=list)
    """Of the chats, in order of arrival."""
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def backend(self, revision: str, weight: int = 100) -> Backend:
        return Backend(revision=revision, checkpoint=CHECKPOINT, base_url=self.base_url, model="student", weight=weight)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if self.closes_used and served and head.startswith("post"):
                    self.dropped += 1
                    break
                answer = self._answer(head, body)
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer:
                    break
                served += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, head: str, body: bytes) -> bytes:
        if head.startswith("get"):
            return http(self.listed)
        if b"ready?" in body:
            return http(json.dumps(_PROBED).encode())
        self.bodies.append(body)
        return self.said


@contextmanager
def raw_backend() -> Iterator[RawBackend]:
    """Run one in a thread of its own for the length of a `with` block."""
    raw, loop, ready, stop = RawBackend(), asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
        raw.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(20), "the raw backend did not start"
    try:
        yield raw
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
