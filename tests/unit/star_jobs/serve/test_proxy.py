"""The OpenAI-compatible pass-through, streams, and clients that go away: over a real socket where it matters."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.support.fakebackend import CHECKPOINT, FakeBackend
from tests.unit.star_jobs.serve.conftest import ASK, Running, Setup, eventually
from tests.unit.star_jobs.serve.test_recommend import problem

CHAT: dict[str, Any] = {
    "model": "star",
    "messages": [{"role": "system", "content": ""}, {"role": "user", "content": "User u1\nCandidates:\ni1 Film"}],
}


async def test_a_chat_passes_through_with_the_backends_model(running: Running, fake: FakeBackend) -> None:
    response = await running.chat(temperature=0.5, custom={"kept": True})
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"].startswith("<plan>")
    assert (response.headers["x-star-revision"], response.headers["x-star-checkpoint"]) == ("rev-a", CHECKPOINT)
    sent = fake.requests[0]
    assert (sent["model"], sent["temperature"], sent["custom"]) == ("student", 0.5, {"kept": True})


async def test_completions_pass_through(running: Running) -> None:
    response = await running.http.post("/v1/completions", json={"prompt": "hello", "model": "student"})
    assert response.json()["choices"] == [{"text": "ok"}]


async def test_models_lists_every_name_that_may_be_asked_for(
    setup: Setup, fake: FakeBackend, other: FakeBackend
) -> None:
    setup.write(fake.backend("a", 90), other.backend("b", 10))
    async with setup.running() as running:
        await running.ready()
        await eventually(lambda: all(handle.health.up for handle in running.gateway.pool.handles))
        listed = (await running.http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["star", "student", "student-2", "a", "b"]
        for name, revision in (("a", "a"), ("b", "b"), ("student-2", "b")):
            assert (await running.chat(model=name)).headers["x-star-revision"] == revision
        sticky = {(await running.chat(user="u7")).headers["x-star-revision"] for _ in range(5)}
        assert len(sticky) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "status", "kind", "words"),
    [
        (b"{", 422, "invalid-request", "not JSON"),
        (b"[]", 422, "invalid-request", "JSON object"),
        (b'{"model": 3}', 422, "invalid-request", "model: must be a string"),
        (b'{"user": 3}', 422, "invalid-request", "user: must be a string"),
        (b'{"model": "gpt-9"}', 404, "unknown-model", "use one of star, student, rev-a"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "too-large", "at most"),
    ],
)
async def test_bad_bodies_are_problems(running: Running, content: bytes, status: int, kind: str, words: str) -> None:
    response = await running.http.post("/v1/chat/completions", content=content)
    assert words in problem(response, status, kind)["detail"]


async def test_the_backends_own_refusal_passes_through(running: Running, fake: FakeBackend) -> None:
    fake.status = 400
    response = await running.chat()
    assert (response.status_code, response.json()["error"]["message"]) == (400, "broken on purpose")


async def test_a_backend_that_answers_503_is_passed_over(setup: Setup, fake: FakeBackend, other: FakeBackend) -> None:
    setup.write(fake.backend("bad", 99), other.backend("good", 1))
    async with setup.running() as running:
        await running.ready()
        await eventually(lambda: all(handle.health.up for handle in running.gateway.pool.handles))
        fake.status = 503
        answers = [await running.chat(user=f"u{n}") for n in range(5)]
        assert {answer.headers["x-star-revision"] for answer in answers} == {"good"}
        other.status = 503
        detail = problem(await running.chat(), 503, "backend-unreachable")["detail"]
        assert "answered 503" in detail


async def test_the_openai_client_streams_through(setup: Setup, fake: FakeBackend) -> None:
    fake.delay = 0.05
    setup.write(fake.backend("a"))
    async with setup.listening() as running:
        client = openai.AsyncOpenAI(base_url=f"{running.http.base_url}/v1", api_key="none", max_retries=0)
        arrived: list[float] = []
        words = []
        async with client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content)
                arrived.append(asyncio.get_running_loop().time())
        assert words == ["one", "two", "three"]
        assert arrived[-1] - arrived[0] > 0.05  # it came in pieces, not at once
        await eventually(lambda: running.gateway.admission.in_flight == 0)


async def test_a_stream_past_its_deadline_ends_with_an_error(setup: Setup, fake: FakeBackend) -> None:
    fake.delay = 30
    setup.write(fake.backend("a"), deadline_seconds=2)
    async with setup.listening() as running:
        response = await running.http.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert response.status_code == 200
        last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
        assert "deadline" in last["error"]["message"]
        await eventually(lambda: fake.aborted == 1)


async def test_a_call_past_its_deadline_is_a_504(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), deadline_seconds=2)
    async with setup.running() as running:
        await running.ready()
        fake.delay = 20
        problem(await running.chat(), 504, "deadline")
        await eventually(lambda: fake.aborted == 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", ASK),
        ("/v1/recommend:batch", {"requests": [ASK]}),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
    ],
)
async def test_a_client_that_leaves_stops_the_generation(
    setup: Setup, fake: FakeBackend, path: str, body: dict[str, Any]
) -> None:
    setup.write(fake.backend("a"))
    async with setup.listening() as running:
        fake.delay = 30
        call = asyncio.create_task(running.http.post(path, json=body, timeout=60))
        await eventually(lambda: fake.in_flight == 1)
        call.cancel()
        await eventually(lambda: fake.aborted == 1)
        await eventually(lambda: running.gateway.admission.in_flight == 0)
        await eventually(lambda: all(handle.leases == 0 for handle in running.gateway.pool.handles))
        text = (await running.http.get("/metrics")).text
        assert f'requests_total{{code="499",revision="{"a" if "stream" in body else ""}",route="{path}"}} 1.0' in text


async def test_a_kept_stream_outlives_its_backends_place_in_the_configuration(
    setup: Setup, fake: FakeBackend, other: FakeBackend
) -> None:
    fake.delay = 0.3
    setup.write(fake.backend("old"))
    async with setup.listening() as running:
        handle = running.gateway.pool.handles[0]
        stream = asyncio.create_task(running.http.post("/v1/chat/completions", json=CHAT | {"stream": True}))
        await eventually(lambda: handle.leases == 1)
        setup.write(other.backend("new"))
        await eventually(lambda: handle.retired)
        response = await stream
        assert response.text.count("data: ") == 4
        assert "error" not in response.text
        await eventually(lambda: handle.leases == 0)
