"""The manners of HTTP: methods, paths, ids, kept connections, origins. Every error is a problem document with an id."""

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.fakebackend import FakeBackend
from tests.unit.star_jobs.serve.conftest import ASK, Running, Setup, eventually
from tests.unit.star_jobs.serve.test_recommend import problem

JSON = {"content-type": "application/json"}
SHOP = "https://shop.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}


@pytest.fixture
async def listening(setup: Setup, fake: FakeBackend) -> AsyncIterator[Running]:
    setup.write(fake.backend("rev-a"))
    async with setup.listening() as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/recommend", 405, "OPTIONS, POST"),
        ("PUT", "/v1/feedback", 405, "OPTIONS, POST"),
        ("DELETE", "/v1/models", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("BREW", "/v1/chat/completions", 405, "OPTIONS, POST"),
        ("POST", "/v1/recommend/", 404, None),
        ("POST", "/v1//recommend", 404, None),
        ("POST", "/v1/nothing", 404, None),
        ("GET", "/%ff%00", 404, None),
        ("GET", "/", 404, None),
    ],
)
async def test_other_methods_and_paths_are_problems_with_an_id(
    running: Running, method: str, path: str, status: int, allow: str | None
) -> None:
    response = await running.http.request(method, path, headers={"x-request-id": "mine-1"})
    problem(response, status, "no-such-endpoint")
    assert response.headers.get("allow") == allow
    assert response.headers["x-request-id"] == "mine-1"


async def test_head_is_get_without_its_content(listening: Running) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json"):
        head = await listening.http.head(path)
        assert (head.status_code, head.content, "x-request-id" in head.headers) == (200, b"", True)
    head = await listening.http.head("/v1/models")
    assert head.headers["content-length"] == (await listening.http.get("/v1/models")).headers["content-length"]
    refused = await listening.http.head("/v1/recommend")
    assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_tells_the_methods_without_a_key(setup: Setup, fake: FakeBackend) -> None:
    (setup.folder / "keys").write_text("secret")
    setup.write(fake.backend("a"), api_keys_file=str(setup.folder / "keys"))
    async with setup.running() as running:
        for path, allow in (("/v1/recommend", "OPTIONS, POST"), ("/v1/models", "GET, HEAD, OPTIONS")):
            response = await running.http.options(path)
            assert (response.status_code, response.headers["allow"]) == (204, allow)
        problem(await running.http.options("/v1/nothing"), 404, "no-such-endpoint")
        refused = await running.http.post("/v1/recommend", json=ASK)
        problem(refused, 401, "unauthorized")
        assert "x-request-id" in refused.headers


@pytest.mark.bad_input
async def test_errors_keep_the_connection_and_the_id(listening: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("something private")

    connection = HTTPConnection(listening.http.base_url.host, listening.http.base_url.port or 0)
    bad: list[tuple[str, str, bytes, dict[str, str], int]] = [
        ("POST", "/v1/recommend", b"{", JSON, 422),
        ("POST", "/v1/recommend", b'{"a": NaN}', JSON, 422),
        ("POST", "/v1/recommend", b"{}", {"content-type": "text/plain"}, 415),
        ("GET", "/v1/recommend", b"", {}, 405),
        ("POST", "/v1/nothing", b"x" * 100_000, JSON, 404),
        ("POST", "/v1/chat/completions", b'{"model": "gpt-9"}', JSON, 404),
        ("POST", "/v1/feedback", b"[]", JSON, 422),
        ("POST", "/v1/recommend:batch", b'{"requests": []}', JSON, 422),
        ("POST", "/v1/recommend", json.dumps(ASK).encode(), JSON | {"x-star-revision": "nope"}, 404),
    ]

    def ask(*requests: Any) -> None:
        for number, (method, path, content, headers, status) in enumerate(requests):
            connection.request(method, path, content, headers | {"x-request-id": f"id-{number}"})
            response = connection.getresponse()
            answer = response.read()
            assert (response.status, response.getheader("x-request-id")) == (status, f"id-{number}"), answer
            assert response.getheader("content-type") == "application/problem+json"
            assert not response.will_close

    await asyncio.to_thread(connection.connect)
    connected = connection.sock
    await asyncio.to_thread(ask, *bad)
    monkeypatch.setattr(listening.gateway, "recommender", broken)
    with capture_logs() as logged:
        await asyncio.to_thread(ask, ("POST", "/v1/recommend", json.dumps(ASK).encode(), JSON, 500))
    assert [line["request_id"] for line in logged if line.get("exc_info")] == ["id-0"]
    assert connection.sock is connected
    connection.close()


@pytest.mark.bad_input
async def test_a_client_that_waits_to_be_asked_for_its_body(listening: Running) -> None:
    async def ask(length: int, body: bytes, extra: str = "") -> list[str]:
        reader, writer = await asyncio.open_connection(listening.http.base_url.host, listening.http.base_url.port)
        head = f"POST /v1/recommend HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n{extra}"
        writer.write(f"{head}\r\n".encode())
        first = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 100 " in first:
            writer.write(body)
            first += (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        return [line for line in first.lower().splitlines() if line.startswith(("http/", "connection:"))]

    body = json.dumps(ASK).encode()
    assert await ask(len(body), body) == ["http/1.1 100 continue", "http/1.1 200 ok"]
    assert await ask(2**40, b"") == ["http/1.1 413 request entity too large", "connection: close"]
    refused = await ask(len(body), body, "content-type: text/plain\r\n")
    assert refused == ["http/1.1 415 unsupported media type", "connection: close"]


async def test_an_id_of_the_callers_comes_back_and_a_strange_one_does_not(running: Running) -> None:
    for given, kept in (("abc-1:2.3_x", True), ("a b", False), ("x" * 200, False), ("ä", False)):
        response = await running.http.get("/v1/models", headers={"x-request-id": given.encode()})
        assert (response.headers["x-request-id"] == given) is kept
        assert response.headers["x-request-id"]


async def test_pages_of_allowed_origins_may_call_and_the_list_is_read_again(setup: Setup, fake: FakeBackend) -> None:
    (setup.folder / "keys").write_text("secret")
    settings = {"api_keys_file": str(setup.folder / "keys")}
    setup.write(fake.backend("a"), **settings)
    async with setup.running() as running:
        await running.ready()
        asked = await running.http.options("/v1/recommend", headers={"origin": SHOP} | PREFLIGHT)
        assert "access-control-allow-origin" not in asked.headers, "without a list nothing is said of origins"

        setup.write(fake.backend("a"), allowed_origins=(SHOP,), **settings)
        await eventually(lambda: running.gateway.config.allowed_origins == (SHOP,))
        asked = await running.http.options("/v1/recommend", headers={"origin": SHOP} | PREFLIGHT)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SHOP)
        assert "x-request-id" in asked.headers
        refused = await running.http.options("/v1/recommend", headers={"origin": "https://evil.example"} | PREFLIGHT)
        assert "gateway.allowedOrigins" in problem(refused, 400, "origin-not-allowed")["detail"]
        assert "access-control-allow-origin" not in refused.headers

        for headers, status in (({"authorization": "Bearer secret"}, 200), ({}, 401)):
            answer = await running.http.post("/v1/recommend", json=ASK, headers={"origin": SHOP} | headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, SHOP)
            assert "X-Request-Id" in answer.headers["access-control-expose-headers"]

        setup.write(fake.backend("a"), allowed_origins=("*",), **settings)
        await eventually(lambda: running.gateway.config.allowed_origins == ("*",))
        answer = await running.http.get("/v1/models", headers={"origin": "https://any.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")


async def test_headers_have_a_limit(listening: Running) -> None:
    response = await listening.http.get("/v1/models", headers={"x-long": "x" * 30_000})
    assert response.status_code == 200
    reader, writer = await asyncio.open_connection(listening.http.base_url.host, listening.http.base_url.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-long: " + b"x" * 200_000)
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await listening.http.get("/healthz")).status_code == 200
