"""What backends do and say that they should not: callers get an answer they can use, or a sentence."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_jobs.serve.events import BrokenStream, EventStream
from tests.support.fakebackend import FakeBackend
from tests.support.rawbackend import CHAT, RawBackend, cut_off, http, raw_backend
from tests.unit.star_jobs.serve.conftest import Running, Setup, eventually
from tests.unit.star_jobs.serve.test_recommend import problem

DELTA = b'data: {"choices": [{"delta": {"content": "one"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
HTML = b"<html><body>Bad gateway</body></html>"


@pytest.fixture
def raw() -> Iterator[RawBackend]:
    with raw_backend() as backend:
        yield backend


@pytest.mark.parametrize("path", ["chat", "recommend"])
async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(
    setup: Setup, raw: RawBackend, path: str
) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.closes_used = True
        for _ in range(6):
            response = await (running.chat() if path == "chat" else running.ask())
            assert response.status_code == 200, response.text
        assert raw.dropped > 0
        assert running.gateway.pool.handles[0].health.up
        assert 'backend_failures_total{revision="a"}' not in (await running.http.get("/metrics")).text


async def test_a_new_connection_that_breaks_off_says_something_about_the_backend(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.said = b"connection: close"  # no answer at all, and the connection is gone
        response = await running.chat()
        assert "cannot be reached" in problem(response, 503, "backend-unreachable")["detail"]
        assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize("proxied", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_backends_are_never_asked_through_a_proxy(
    setup: Setup, fake: FakeBackend, monkeypatch: pytest.MonkeyPatch, proxied: str
) -> None:
    monkeypatch.setenv(proxied, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    setup.write(fake.backend("a"))
    async with setup.running() as running:
        await running.ready()
        assert (await running.chat()).status_code == 200
        assert (await running.ask()).status_code == 200


async def test_a_busy_backend_says_when_to_come_back_and_is_not_down(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        busy = b'{"error": {"message": "too many requests"}}'
        raw.said = http(busy, "429 Too Many Requests", "application/json", "retry-after: 7")
        for response in (await running.chat(), await running.ask()):
            assert (response.status_code, response.headers["retry-after"]) == (429, "7")
        problem(response, 429, "backend-busy")
        assert running.gateway.pool.handles[0].health.up


async def test_a_proxy_that_refuses_in_plain_text_is_understood(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.said = http(b"local_rate_limited", "429 Too Many Requests", "text/plain", "retry-after: 7")
        assert problem(await running.chat(), 429, "backend-busy")
        assert (await running.chat()).headers["retry-after"] == "7"
        raw.said = http(HTML, "413 Content Too Large", "text/html")
        problem(await running.chat(), 422, "refused-by-backend")


async def test_log_probabilities_of_a_long_answer_pass(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.1}] * 20}
    answer = json.dumps({"choices": [{"message": {"content": "a"}, "logprobs": {"content": [token] * 9000}}]})
    async with setup.running() as running:
        await running.ready()
        raw.said = http(answer.encode(), "200 OK", "application/json")
        assert (await running.chat()).status_code == 200


async def test_a_model_without_a_chat_template_is_not_the_callers_fault(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        said = b'{"error": {"message": "you must provide a chat template if the tokenizer does not define one."}}'
        raw.said = http(said, "400 Bad Request")
        assert "chat template" in problem(await running.ask(), 502, "backend-model")["detail"]


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (http(HTML, kind="text/html"), "backend-answer-unusable", "no JSON object"),
        (http(b""), "backend-answer-unusable", "must not be empty"),
        (http(b'"ok"'), "backend-answer-unusable", "no JSON object"),
        (http(b"[" * 100_000), "backend-answer-unusable", "nested"),
        (http(b'{"choices": [{"logprobs": {"token_logprobs": [NaN]}}]}'), "backend-answer-unusable", "token_logprobs"),
        (http(b'{"choices": [{"text": "\\ud83d"}]}'), "backend-answer-unusable", "surrogate"),
        (http(b"{}", "500 Internal Server Error"), "backend-refused", "answered 500"),
        (http(b'{"error": "no such model"}', "404 Not Found"), "backend-refused", "answered 404"),
        (http(b"{}", "401 Unauthorized"), "backend-refused", "answered 401"),
        (http(b"{}", "302 Found", "application/json", "location: /"), "backend-refused", "answered 302"),
        (http(HTML, "400 Bad Request", "text/html"), "backend-answer-unusable", "no JSON object"),
        (http(b'{"choices": []}')[:-4] + b"\r\nconnection: close", "backend-answer-unusable", ""),
        (cut_off(b'{"choices": [', "application/json"), "backend-answer-unusable", "no JSON object"),
    ],
)
async def test_an_unusable_answer_is_a_502_that_tells_the_revision(
    setup: Setup, raw: RawBackend, said: bytes, kind: str, words: str
) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.said = said
        detail = problem(await running.chat(), 502, kind)["detail"]
        assert "revision a" in detail
        assert words in detail
        assert (await running.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        http(HTML, kind="text/html"),
        http(b"{}"),
        http(b'{"choices": {}}'),
        http(b'{"choices": [{"message": {"content": ["a", "list"]}}]}'),
        http(b'{"choices": [{"message": "text"}]}'),
        http(json.dumps(CHAT | {"usage": {"prompt_tokens": "many"}}).encode()),
        http(json.dumps(CHAT | {"usage": {"prompt_tokens": float("nan")}}).encode()),
        http(b'{"choices":' + b"[" * 100_000),
        http(json.dumps(CHAT | {"usage": {"prompt_tokens": 10**400}}).encode()),
    ],
)
async def test_a_recommendation_from_junk_is_a_502(setup: Setup, raw: RawBackend, said: bytes) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.said = said
        assert "OpenAI-compatible API" in problem(await running.ask(), 502, "backend-answer-unusable")["detail"]


async def test_half_a_character_from_the_model_is_shown_as_one_that_is_missing(setup: Setup, raw: RawBackend) -> None:
    setup.write(raw.backend("a"))
    async with setup.running() as running:
        await running.ready()
        raw.said = http(b'{"choices": [{"message": {"content": "good \\ud83d"}}]}')
        response = await running.ask()
        assert (response.status_code, response.json()["text"]) == (200, "good \ufffd")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (cut_off(DELTA), "before its [DONE]"),
        (cut_off(DELTA + b'data: {"choi'), "no JSON object"),
        (cut_off(DELTA + b'data: {"choices": [{"logprobs": NaN}]}\n\n' + DONE), "logprobs"),
        (cut_off(DELTA + b"data: <html>\n\n" + DONE), "no JSON object"),
        (cut_off(DELTA + b"data: " + b"x" * 2_000_000), "an event of more than"),
    ],
)
async def test_a_stream_that_breaks_says_so_at_its_end(setup: Setup, raw: RawBackend, said: bytes, words: str) -> None:
    setup.write(raw.backend("a"))
    async with setup.listening() as running:
        raw.said = said
        response = await running.chat(stream=True)
        first, last = response.text.strip().split("\n\n")[0], response.text.strip().split("\n\n")[-1]
        assert first.encode() == DELTA.strip()
        message = json.loads(last.removeprefix("data: "))["error"]["message"]
        assert "revision a broke off" in message
        assert words in message
        await eventually(lambda: running.gateway.admission.in_flight == 0)


async def test_a_whole_stream_passes_byte_for_byte(setup: Setup, raw: RawBackend) -> None:
    said = b": a comment\n\nevent: chunk\r\n" + DELTA.replace(b"\n", b"\r\n") + DELTA + b"data: [DONE]\n"
    setup.write(raw.backend("a"))
    async with setup.listening() as running:
        raw.said = cut_off(said)
        assert (await running.chat(stream=True)).content == said


async def test_an_answer_to_a_stream_that_is_none_passes_as_it_is(running: Running, fake: FakeBackend) -> None:
    fake.status = 400
    response = await running.chat(stream=True)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    assert response.json()["error"]["message"] == "broken on purpose"


@pytest.mark.fuzz
@given(st.lists(st.integers(1, 40), max_size=20))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    said = DELTA + b": ping\r\n\r\n" + DELTA + DONE
    stream, passed, rest = EventStream(), b"", said
    for cut in cuts:
        passed += b"".join(stream.feed(rest[:cut]))
        rest = rest[cut:]
    passed += b"".join(stream.feed(rest))
    assert passed + stream.end() == said


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=30) | st.sampled_from([DELTA, DONE, b"\n\n", b"data:", b"\r\n\r\n"]), max_size=12))
def test_a_stream_of_any_bytes_passes_or_is_broken(chunks: list[bytes]) -> None:
    stream, passed, said = EventStream(), b"", b"".join(chunks)
    try:
        for chunk in chunks:
            for event in stream.feed(chunk):
                passed += event
        passed += stream.end()
    except BrokenStream:
        assert said.startswith(passed)
    else:
        assert passed == said
