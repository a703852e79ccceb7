"""A stub in place of an S3 server: it gives fixed answers that a real one cannot be made to give."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: str = ""
    content_type: str = "application/xml"
    method: str | None = None
    """Whom it is for: requests of this method; None answers all."""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    """Bytes of the body that are promised and never sent."""


@dataclass
class Stub:
    """A running stub."""

    url: str
    replies: list[Reply]
    """The first that fits answers; may change while it runs."""
    asked: list[str] = field(default_factory=list)
    """Request lines, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, names in lower case."""


def refusal(code: str, message: str = "so it is", status: int = 403, **more: str) -> Reply:
    """An S3 error answer."""
    rest = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    return Reply(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{rest}</Error>")


@contextmanager
def stub_s3(*replies: Reply) -> Iterator[Stub]:
    """Run a stub for the length of a `with` block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            stub.asked.append(self.requestline)
            stub.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("content-length", 0)))
            reply = next(one for one in stub.replies if one.method in (None, self.command))
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(body) + reply.cut))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = bool(reply.cut)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}", list(replies))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
