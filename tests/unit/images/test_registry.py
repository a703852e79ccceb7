import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from star_cli.images.errors import ImagesError
from star_cli.images.registry import Registry, reachable
from star_cli.local.binaries import Binaries

KNOWN = "/v2/star/jobs/manifests/cpu-1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200 if self.path == "/v2/" else 404)

    def do_HEAD(self) -> None:
        accepted = "application/vnd.oci.image.manifest.v1+json" in self.headers["Accept"]
        self._answer(200 if accepted and self.path == KNOWN else 404)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_says_what_it_holds(address: str) -> None:
    registry = Registry(address)
    assert registry.answers()
    assert registry.has("star/jobs", "cpu-1")
    assert not registry.has("star/jobs", "cpu-2")


def test_a_registry_that_answers_is_taken(address: str) -> None:
    with reachable(address, Binaries()) as registry:
        assert registry.address == address


def test_one_that_does_not_answer_holds_nothing() -> None:
    assert not Registry("127.0.0.1:1").answers()
    assert not Registry("127.0.0.1:1").has("star/jobs", "cpu-1")


def test_one_elsewhere_that_does_not_answer_is_an_error() -> None:
    with (
        pytest.raises(ImagesError, match=r"registry registry\.invalid:5000 does not answer; check the address"),
        reachable("registry.invalid:5000", Binaries()),
    ):
        pass
