"""The gateway's border as a property: whatever is sent to whichever path, the answer is no error of ours, carries the
request's id, says what was wrong where something was, and leaves the connection as it was."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.fakebackend import fake_backend
from tests.unit.star_jobs.serve.conftest import ASK, Setup
from tests.unit.star_jobs.serve.test_bodies import CHAT, PATHS
from tests.unit.star_jobs.serve.test_operations import FEEDBACK
from tests.unit.star_jobs.serve.test_strictjson import ANY_TEXT, ANY_VALUE

NAMES = sorted({*ASK, *CHAT, *FEEDBACK, "requests", "history", "profile", "top_k", "best_of", "deadline_seconds"})
CHANGES = st.dictionaries(st.sampled_from([*NAMES, "stream", "model", "user"]) | ANY_TEXT, ANY_VALUE, max_size=3)
NEARLY = st.builds(lambda body, change: body | change, st.sampled_from(list(PATHS.values())), CHANGES)
EVENT = st.fixed_dictionaries(
    {"item_id": st.sampled_from(["i1", "i2", "gone"]) | ANY_TEXT},
    optional={"rating": st.floats(), "timestamp": st.integers(), "text": ANY_TEXT},
)
ASKED = st.fixed_dictionaries(
    {"candidates": st.lists(st.sampled_from(["i1", "i2", "i3", "gone"]), max_size=5)},
    optional={
        "user_id": st.sampled_from(["u1", "x"]) | ANY_TEXT,
        "history": st.lists(EVENT, max_size=4),
        "profile": st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2),
        "top_k": st.integers(),
        "best_of": st.integers(-1, 3),
    },
)
OBJECTS = NEARLY | ASKED | st.lists(ASKED, max_size=3).map(lambda asked: {"requests": asked}) | ANY_VALUE
BODIES = OBJECTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "X-Star-Revision", "X-Star-User", "Accept", "Origin"]),
    st.sampled_from(["application/json", "text/plain", "rev-a", "", "\u00ff", "application/json; charset=x", "*/*"]),
    max_size=2,
)


class Client:
    """One kept connection to a running gateway."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._sock = self._connection.sock

    def check(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a request, check what must hold of every answer, and return its status."""
        self._connection.request(method, path, body, headers | {"X-Request-Id": "of-this-test"})
        response = self._connection.getresponse()
        content = response.read()
        assert response.status < 500, content
        assert response.getheader("x-request-id") == "of-this-test"
        if response.status >= 400:
            assert response.getheader("content-type") == "application/problem+json"
            problem: dict[str, Any] = json.loads(content) if method != "HEAD" else {"detail": "-", "field": "-"}
            assert problem["detail"]
            assert problem.get("field") or response.status not in (413, 415, 422)
        assert not response.will_close
        assert self._connection.sock is self._sock
        return response.status


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A gateway behind a socket, in a thread with an event loop of its own; its student never finds the format."""
    setup = Setup(tmp_path_factory.mktemp("border"))
    ports: list[int] = []
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with setup.listening() as running:
            ports.append(running.http.base_url.port or 0)
            ready.set()
            await stop.wait()

    with fake_backend(lambda _: "ok") as backend:
        setup.write(backend.backend("rev-a"))
        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        assert ready.wait(60), "the gateway did not start"
        yield Client(ports[0])
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.mark.fuzz
@pytest.mark.case("non-finite-numbers")
@pytest.mark.case("half-an-emoji")
@given(st.sampled_from(list(PATHS)), BODIES, HEADERS)
@example("/v1/recommend", json.dumps(ASK).encode(), {})
@example("/v1/chat/completions", b'{"messages": [], "temperature": 1e999}', {})
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=300)
def test_no_body_is_an_error_of_ours(client: Client, path: str, body: bytes, headers: dict[str, str]) -> None:
    client.check("POST", path, body, {"Content-Type": "application/json"} | headers)


@pytest.mark.fuzz
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]),
    st.sampled_from([*PATHS, "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json"])
    | st.text("/v1recomnd:%20f?.~", max_size=20).map(lambda text: f"/{text}"),
    st.sampled_from([b"", b"{}"]),
)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_no_method_or_path_is_an_error_of_ours(client: Client, method: str, path: str, body: bytes) -> None:
    client.check(method, path, body, {"Content-Type": "application/json"})


def test_what_is_sent_in_order_is_answered(client: Client) -> None:
    """The properties above would hold of a gateway that refuses everything."""
    headers = {"Content-Type": "application/json"}
    statuses = [client.check("POST", path, json.dumps(body).encode(), headers) for path, body in PATHS.items()]
    assert statuses == [200, 200, 200, 200, 202]
