"""Bodies as they really come: refused in words on every path, over a connection that lives on."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from star_jobs.serve import body as body_module
from star_jobs.serve.body import MAX_BODY_BYTES
from tests.support.fakebackend import FakeBackend
from tests.unit.star_jobs.serve.conftest import ASK, Running, Setup, eventually
from tests.unit.star_jobs.serve.test_operations import FEEDBACK
from tests.unit.star_jobs.serve.test_recommend import problem

CHAT = {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "User u1\nCandidates:\ni1 Film"}]}
PATHS = {
    "/v1/recommend": ASK,
    "/v1/recommend:batch": {"requests": [ASK]},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "hello"},
    "/v1/feedback": FEEDBACK,
}
JSON = {"content-type": "application/json"}
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000]


def with_raw(body: dict[str, Any], name: str, value: str) -> bytes:
    """The body with one more member, whose value is written as it is."""
    return f"{json.dumps(body)[:-1]}, {json.dumps(name)}: {value}}}".encode()


@pytest.fixture
async def listening(setup: Setup, fake: FakeBackend) -> AsyncIterator[Running]:
    """One backend, ready, behind a real socket."""
    setup.write(fake.backend("rev-a"))
    async with setup.listening() as running:
        yield running


@pytest.mark.case("non-finite-numbers")
@pytest.mark.bad_input
@pytest.mark.parametrize("value", NUMBERS)
async def test_numbers_that_are_none_are_refused_on_every_path(running: Running, value: str) -> None:
    for path, body in PATHS.items():
        content = with_raw(body, "temperature", value)
        document = problem(await running.http.post(path, content=content, headers=JSON), 422, "invalid-request")
        assert document["field"] == "temperature"
    deep = CHAT | {"extra": [{"of": "it"}]}
    content = json.dumps(deep).replace('"it"', value).encode()
    response = await running.http.post("/v1/chat/completions", content=content, headers=JSON)
    assert response.json()["field"] == "extra[0].of"


@pytest.mark.case("non-finite-numbers")
@pytest.mark.bad_input
@pytest.mark.parametrize("value", ["NaN", "inf", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused_as_text_too(running: Running, value: str) -> None:
    asked = [
        ("/v1/feedback", FEEDBACK | {"value": value}, "value"),
        ("/v1/recommend", ASK | {"deadline_seconds": value}, "deadline_seconds"),
        ("/v1/recommend", ASK | {"history": [{"item_id": "i1", "rating": value}]}, "history[0].rating"),
        ("/v1/recommend:batch", {"requests": [ASK, ASK | {"deadline_seconds": value}]}, "requests[1].deadline_seconds"),
    ]
    for path, body, field in asked:
        document = problem(await running.http.post(path, json=body), 422, "invalid-request")
        assert document["field"] == field


@pytest.mark.case("half-an-emoji")
@pytest.mark.bad_input
async def test_half_an_emoji_is_refused_wherever_it_stands(running: Running) -> None:
    half, whole = "\ud83d", "🙂"
    for path, body in PATHS.items():
        for change, field in (({"note": half}, "note"), ({half: 1}, r"\ud83d"), ({"a": [{half: 1}]}, r"a[0].\ud83d")):
            response = await running.http.post(path, content=json.dumps(body | change), headers=JSON)
            assert problem(response, 422, "invalid-request")["field"] == field
    history = [{"item_id": "i1", "text": f"good {half}"}]
    for body, field in ((ASK | {"user_id": half}, "user_id"), (ASK | {"history": history}, "history[0].text")):
        response = await running.http.post("/v1/recommend", content=json.dumps(body), headers=JSON)
        assert problem(response, 422, "invalid-request")["field"] == field
    raw = json.dumps(CHAT | {"user": "half"}).encode().replace(b"half", b"\xed\xa0\xbd")
    response = await running.http.post("/v1/chat/completions", content=raw, headers=JSON)
    assert problem(response, 422, "invalid-request")["field"] == "body"
    history = [{"item_id": "i1", "text": f"good {whole}"}]
    response = await running.http.post("/v1/recommend", content=json.dumps(ASK | {"history": history}), headers=JSON)
    assert response.status_code == 200


@pytest.mark.case("stream-values")
@pytest.mark.bad_input
@pytest.mark.parametrize("value", [1, 0, "true", "false", "yes", [], {}, 1.0])
async def test_stream_is_true_or_false(running: Running, value: object) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        response = await running.http.post(path, json=PATHS[path] | {"stream": value})
        assert problem(response, 422, "invalid-request")["field"] == "stream"


@pytest.mark.case("stream-values")
async def test_stream_true_streams_and_null_does_not(running: Running) -> None:
    assert (await running.chat(stream=True)).headers["content-type"].startswith("text/event-stream")
    for value in (None, False):
        assert (await running.chat(stream=value)).headers["content-type"] == "application/json"


async def _spaces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536):
        yield b" " * 65536


@pytest.mark.case("large-body")
@pytest.mark.bad_input
@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_body_is_refused_while_it_is_read(listening: Running, path: str, chunked: bool) -> None:
    size = 5 * MAX_BODY_BYTES
    headers = JSON if chunked else JSON | {"content-length": str(size)}
    most = 0

    async def probe() -> None:
        nonlocal most
        while True:
            assert (await listening.http.get("/healthz")).status_code == 200
            most = max(most, listening.gateway.bodies.held)

    probing = asyncio.create_task(probe())
    async with httpx.AsyncClient(base_url=listening.http.base_url, trust_env=False) as http:
        response = await http.post(path, content=_spaces(size), headers=headers)
    probing.cancel()
    document = problem(response, 413, "too-large")
    assert str(MAX_BODY_BYTES) in document["detail"]
    assert (response.headers["connection"], "x-request-id" in response.headers) == ("close", True)
    assert most <= MAX_BODY_BYTES + 2**20
    await eventually(lambda: listening.gateway.bodies.held == 0)


@pytest.mark.case("large-body")
@pytest.mark.bad_input
async def test_a_little_too_much_keeps_the_connection(listening: Running) -> None:
    connection = HTTPConnection(listening.http.base_url.host, listening.http.base_url.port or 0)

    def ask() -> list[int]:
        statuses = []
        for path, body in PATHS.items():
            connection.request("POST", path, b" " * (MAX_BODY_BYTES + 1), JSON)
            response = connection.getresponse()
            statuses.append(response.status)
            response.read()
            connected = connection.sock
            connection.request("POST", path, json.dumps(body), JSON)
            response = connection.getresponse()
            statuses.append(response.status)
            response.read()
            assert connection.sock is connected
        return statuses

    assert await asyncio.to_thread(ask) == [413, 200, 413, 200, 413, 200, 413, 200, 413, 202]


@pytest.mark.case("large-body")
@pytest.mark.bad_input
async def test_bodies_in_flight_are_bounded_together(
    listening: Running, fake: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "MAX_HELD_BYTES", 200_000)
    long = CHAT | {"pad": "x" * 100_000}
    fake.delay = 30
    waiting = asyncio.create_task(listening.http.post("/v1/chat/completions", json=long, timeout=60))
    await eventually(lambda: fake.in_flight == 1)
    assert listening.gateway.bodies.held > 100_000
    response = await listening.http.post("/v1/chat/completions", json=long)
    problem(response, 503, "too-many-bytes")
    assert response.headers["retry-after"] == "1"
    waiting.cancel()
    await eventually(lambda: listening.gateway.bodies.held == 0)


@pytest.mark.bad_input
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), deadline_seconds=0.5)
    async with setup.listening() as running:
        reader, writer = await asyncio.open_connection(running.http.base_url.host, running.http.base_url.port)
        writer.write(b"POST /v1/recommend HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.bad_input
async def test_a_client_that_leaves_while_it_sends_is_no_error_of_ours(listening: Running) -> None:
    _, writer = await asyncio.open_connection(listening.http.base_url.host, listening.http.base_url.port)
    writer.write(b"POST /v1/recommend HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    metrics = listening.gateway.metrics.render
    await eventually(lambda: b'code="499"' in metrics())
    assert b'code="500"' not in metrics()


ODD = [
    (b"", "body"),
    (b"null", "body"),
    (b"[]", "body"),
    (b'"text"', "body"),
    (b"3", "body"),
    (b"{", "body"),
    (b"\xff\xfe{\x00}\x00", "body"),
    (b'{"a": "\xe9"}', "body"),
    (b'{"a": 1, "a": 2}', "a"),
    (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "body"),
    (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "a"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "a"),
    (b'{"a": 99999999999999999999}', "a"),
    (json.dumps({str(n): n for n in range(20_000)}).encode(), "body"),
    (b'{"a": [' + b"0," * 600_000 + b"0]}", "body"),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("content", "field"), ODD)
async def test_odd_bodies_name_the_field_on_every_path(running: Running, content: bytes, field: str) -> None:
    for path in PATHS:
        response = await running.http.post(path, content=content, headers=JSON)
        document = problem(response, 422, "invalid-request")
        assert document["field"].startswith(field)
        assert len(response.content) < 10_000


@pytest.mark.bad_input
async def test_very_many_faults_are_told_in_few_words(running: Running) -> None:
    bad = {"requests": [{f"x{n}": n for n in range(4_000)} | {"candidates": [1] * 1000}] * 10}
    response = await running.http.post("/v1/recommend:batch", json=bad)
    document = problem(response, 422, "invalid-request")
    assert len(document["errors"]) <= 20
    assert document["field"].startswith("requests[0].")


@pytest.mark.bad_input
async def test_no_answer_grows_with_the_request(running: Running) -> None:
    long = "x" * 1_000_000
    for path, body in PATHS.items():
        for change in ({"model": long}, {long: 1}, {"user_id": long}, {"candidates": [long, long]}, {"event": long}):
            response = await running.http.post(path, json=body | change)
            assert len(response.content) < 10_000
    assert len((await running.http.get("/" + "x" * 50_000)).content) < 2_000


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("headers", "kind", "field"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported-media-type", "content-type"),
        ({"content-type": "text/plain"}, "unsupported-media-type", "content-type"),
        ({"content-type": "multipart/form-data; boundary=x"}, "unsupported-media-type", "content-type"),
        ({"content-type": "application/json; charset=latin-1"}, "unsupported-media-type", "content-type"),
        (JSON | {"content-encoding": "gzip"}, "unsupported-encoding", "content-encoding"),
        (JSON | {"content-encoding": "br, gzip"}, "unsupported-encoding", "content-encoding"),
    ],
)
async def test_other_types_and_encodings_are_415(
    listening: Running, headers: dict[str, str], kind: str, field: str
) -> None:
    for path, body in PATHS.items():
        content = gzip.compress(json.dumps(body).encode())
        response = await listening.http.post(path, content=content, headers=headers)
        assert problem(response, 415, kind)["field"] == field
        assert (response.headers["accept"], response.headers["accept-encoding"]) == ("application/json", "identity")
        assert "connection" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        *({}, JSON, {"content-type": "application/json; charset=UTF-8"}, {"content-type": "Application/Problem+JSON"}),
        {"content-type": "application/json; charset*=x; charset*0=y"},  # RFC 2231, which no server needs to understand
        {"content-type": "application/json; charset*" + "9" * 5000 + "=b"},
        {"content-type": "application/json;" + '"; ' * 10_000},
    ],
    ids=["none", "json", "charset", "problem", "continued", "numbered", "quotes"],
)
async def test_json_is_taken_under_all_its_names(running: Running, headers: dict[str, str]) -> None:
    for path, body in PATHS.items():
        response = await running.http.post(path, content=json.dumps(body).encode(), headers=headers)
        assert response.is_success, response.text


async def test_long_bodies_are_parsed_one_at_a_time_and_all_answered(running: Running) -> None:
    history = [{"item_id": "i1", "text": "x" * 1000, "rating": 4} for _ in range(300)]
    answers = await asyncio.gather(*(running.ask(history=history, explain=False) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
