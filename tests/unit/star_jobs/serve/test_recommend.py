"""`/v1/recommend` and its batch: what is answered, what is refused, and how an unusable answer is reported."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from star_contracts.data import Interaction
from tests.support import world
from tests.support.fakebackend import CHECKPOINT, FakeBackend, fake_backend
from tests.unit.star_jobs.serve.conftest import ASK, Running, Setup


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check a problem document and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:star:problem:{kind}"
    assert document["status"] == status
    return document


async def test_ranks_for_a_known_user_and_tells_how(running: Running) -> None:
    response = await running.ask()
    assert response.status_code == 200, response.text
    body = response.json()
    assert [item["item_id"] for item in body["ranking"]] == ["i5", "i6", "i7", "i8", "i9"]
    assert body["ranking"][0] == {"rank": 1, "item_id": "i5", "title": "Film 5"}
    assert (body["valid"], body["source"], body["format_error"]) == (True, "student", None)
    assert (body["answers"], body["valid_answers"]) == (1, 1)
    sections = [section["section"] for section in body["reasoning"]]
    assert sections == ["plan", "user_profile", "reflection", "recommend"]
    assert body["reasoning"][1]["thinking"] == "Likes drama."
    (call,) = body["tool_calls"]
    assert (call["tool"], call["argument"]) == ("User-CF", "u1")
    assert "Drama" in call["response"]
    assert (body["revision"], body["checkpoint"]) == ("rev-a", CHECKPOINT)
    assert body["usage"] == {"prompt_tokens": 20, "completion_tokens": 10, "calls": 2}
    assert 0 < body["latency_seconds"] < 30
    assert response.headers["x-request-id"] == body["request_id"]


async def test_the_students_generation_is_continued_after_the_tool_answer(running: Running, fake: FakeBackend) -> None:
    await running.ask()
    first, second = fake.requests
    assert first["messages"][-1]["role"] == "user"
    assert second["messages"][-1]["role"] == "assistant"
    assert "<tool_response>" in second["messages"][-1]["content"]
    assert second["continue_final_message"] is True


async def test_the_order_of_the_candidates_does_not_reach_the_student(running: Running, fake: FakeBackend) -> None:
    await running.ask()
    await running.ask(candidates=ASK["candidates"][::-1])
    prompts = [request["messages"][1]["content"] for request in fake.requests]
    assert len(set(prompts)) == 1
    await running.ask(user_id="u2")
    assert fake.requests[-1]["messages"][1]["content"].split("Candidates:")[1] != prompts[0].split("Candidates:")[1]


async def test_a_known_users_history_comes_from_the_dataset(running: Running, fake: FakeBackend) -> None:
    await running.ask(user_id="u2")
    assert "i6 Film 6 [Drama] rated 4" in fake.requests[0]["messages"][1]["content"]


async def test_a_long_history_is_shown_as_in_training(running: Running, fake: FakeBackend) -> None:
    """What the caller sends is the longest beginning that has a summary, and more."""
    long = world.with_past(world.tasks(1)[0], 12)
    assert running.gateway.catalogue is not None
    known = replace(running.gateway.catalogue, summaries=world.KnownSummaries(*world.summaries(long)))
    running.gateway.catalogue = known
    sent = [{"item_id": entry.item_id} for entry in long.history]
    await running.ask(history=[*sent, {"item_id": "i9"}])
    await running.ask(user_id="u2", history=sent)
    same, other = (request["messages"][1]["content"] for request in fake.requests[::2])
    assert "Long-term summary: The first 6 films of u1.\nHistory, newest last:\n1 earlier: Drama 1\ni7 Film 7" in same
    assert "Long-term summary" not in other, "another user's past"
    assert "6 earlier: Drama 6" in other


async def test_without_tool_calls_a_student_without_tools_is_served(setup: Setup) -> None:
    with fake_backend(world.scripted_student(tools=False)) as backend:
        setup.write(backend.backend("rev-a"), max_tool_calls=0)
        async with setup.running() as gateway:
            answer = (await (await gateway.ready()).ask()).json()
    assert (answer["valid"], answer["format_error"], answer["tool_calls"]) == (True, None, [])
    assert "tool_call" not in backend.requests[0]["messages"][0]["content"]


async def test_a_history_in_the_request_replaces_the_stored_one(running: Running, fake: FakeBackend) -> None:
    history = [{"item_id": "i11", "rating": 2}, {"item_id": "gone"}]
    response = await running.ask(user_id="stranger", history=history)
    assert response.json()["warnings"] == ["history: left out 1 unknown items, e.g. 'gone'"]
    prompt = fake.requests[0]["messages"][1]["content"]
    assert "i11 Film 11 [Drama] rated 2" in prompt
    assert "i0 Film 0" not in prompt


async def test_nobody_in_particular_may_ask_too(running: Running, fake: FakeBackend) -> None:
    response = await running.ask(user_id=None, history=[{"item_id": "i1"}])
    assert response.status_code == 200
    assert response.json()["user_id"] is None


async def test_top_k_and_no_explanation(running: Running) -> None:
    body = (await running.ask(top_k=2, explain=False)).json()
    assert [item["rank"] for item in body["ranking"]] == [1, 2]
    assert (body["reasoning"], body["tool_calls"], body["text"]) == ([], [], None)


async def test_best_of_merges_the_valid_answers(setup: Setup) -> None:
    def moody(request: dict[str, Any]) -> str:
        if request["seed"] == 2:
            return "nothing of use"
        rank = world.by_number if request["seed"] in (1, 3) else lambda c: world.by_number(c)[::-1]
        return world.scripted_student(rank)(request)

    with fake_backend(moody) as fake:
        setup.write(fake.backend("a"), best_of=4)
        async with setup.running() as running:
            body = (await (await running.ready()).ask()).json()
    assert (body["answers"], body["valid_answers"], body["valid"]) == (4, 3, True)
    assert [item["item_id"] for item in body["ranking"]] == ["i5", "i6", "i7", "i8", "i9"]
    assert {request["seed"] for request in fake.requests} == {1, 2, 3, 4}


@pytest.mark.bad_input
@pytest.mark.parametrize("garbage", ["", "hello", "<recommend><JSON>[1,2]</JSON>", "</tool_call>" * 50, "🤖" * 500])
async def test_an_unusable_answer_is_said_to_be_one(setup: Setup, garbage: str) -> None:
    with fake_backend(lambda _: garbage) as fake:
        setup.write(fake.backend("a"))
        async with setup.running() as running:
            body = (await (await running.ready()).ask(candidates=["i9", "i5", "i7"])).json()
            metrics = (await running.http.get("/metrics")).text
    assert (body["valid"], body["source"], body["valid_answers"]) == (False, "fallback", 0)
    assert [item["item_id"] for item in body["ranking"]] == ["i9", "i5", "i7"]
    assert body["format_error"]
    assert body["text"].startswith(garbage)
    assert 'star_gateway_student_answers_total{revision="a",valid="false"} 1.0' in metrics


@pytest.mark.bad_input
@pytest.mark.parametrize("ranking", [["i5"], ["i5", "i6", "i7", "i8", "i8"], ["i5", "i6", "i7", "i8", "i11"]])
async def test_a_ranking_with_holes_is_not_repaired(setup: Setup, ranking: list[str]) -> None:
    with fake_backend(world.scripted_student(lambda _: ranking)) as fake:
        setup.write(fake.backend("a"))
        async with setup.running() as running:
            body = (await (await running.ready()).ask()).json()
    assert (body["valid"], body["source"]) == (False, "fallback")
    assert [item["item_id"] for item in body["ranking"]] == ASK["candidates"]
    assert body["reasoning"][-1]["section"] == "recommend"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "kind", "field", "words"),
    [
        ({"candidates": ["i1", "i99", "i2", "i98"]}, "unknown-candidate", "candidates[1]", "(and 1 more)"),
        ({"candidates": ["i1", "i2", "i1"]}, "repeated-candidate", "candidates[2]", "more than once"),
        ({"candidates": ["i1", "i2", "i3", "i4", "i5", "i6", "i7"]}, "too-many-candidates", "candidates", "at most 6"),
        ({"user_id": "stranger"}, "empty-history", "history", "not in the dataset"),
        ({"user_id": "stranger", "history": []}, "empty-history", "history", "at least one event"),
        ({"user_id": "u1", "history": [{"item_id": "x"}]}, "empty-history", "history", "none of its 1 items"),
        ({"user_id": None}, "empty-history", "history", "send user_id"),
        ({"candidates": ["i1"]}, "invalid-request", "candidates", "at least 2"),
        ({"candidates": "i1"}, "invalid-request", "candidates", "list"),
        ({"candidates": ["i1", 2]}, "invalid-request", "candidates[1]", "string"),
        ({"top_k": 0}, "invalid-request", "top_k", "greater than or equal to 1"),
        ({"best_of": 17}, "invalid-request", "best_of", "less than or equal to 16"),
        ({"deadline_seconds": -1}, "invalid-request", "deadline_seconds", "greater than 0"),
        ({"candidate": []}, "invalid-request", "candidate", "not permitted"),
        ({"history": [{"item_id": "i1", "timestamp": -5}]}, "invalid-request", "history[0].timestamp", "greater"),
    ],
)
async def test_bad_requests_name_the_field(
    setup: Setup, fake: FakeBackend, change: dict[str, Any], kind: str, field: str, words: str
) -> None:
    setup.write(fake.backend("a"), max_candidates=6)
    async with setup.running() as running:
        document = problem(await (await running.ready()).ask(**change), 422, kind)
    assert document["field"] == field
    assert words in document["detail"]
    assert fake.requests == []


@pytest.mark.bad_input
async def test_a_body_that_is_not_json(running: Running) -> None:
    response = await running.http.post("/v1/recommend", content=b"{", headers={"content-type": "application/json"})
    problem(response, 422, "invalid-request")


async def test_a_batch_has_an_outcome_for_each(running: Running) -> None:
    requests = [ASK, ASK | {"candidates": ["i1", "nope"]}, ASK | {"user_id": "u2", "top_k": 1}]
    response = await running.http.post("/v1/recommend:batch", json={"requests": requests})
    assert response.status_code == 200, response.text
    first, second, third = response.json()["results"]
    assert first["recommendation"]["valid"] is True
    assert second["recommendation"] is None
    assert second["problem"]["field"] == "candidates[1]"
    assert third["recommendation"]["user_id"] == "u2"
    ids = {one["recommendation"]["request_id"] for one in (first, third)}
    assert len(ids) == 2


@pytest.mark.bad_input
async def test_a_batch_is_bounded(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), max_batch=2)
    async with setup.running() as running:
        await running.ready()
        response = await running.http.post("/v1/recommend:batch", json={"requests": [ASK] * 3})
        document = problem(response, 422, "too-many-requests-in-batch")
        assert "at most 2" in document["detail"]
        problem(await running.http.post("/v1/recommend:batch", json={"requests": []}), 422, "invalid-request")


@pytest.mark.bad_input
async def test_a_prompt_the_model_refuses_is_the_callers_to_shorten(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"))
    async with setup.running() as running:
        await running.ready()
        fake.status = 400
        document = problem(await running.ask(), 422, "refused-by-backend")
    assert "fewer candidates" in document["detail"]


async def test_unordered_histories_are_put_in_order(running: Running, fake: FakeBackend) -> None:
    history = [{"item_id": "i2", "timestamp": 20}, {"item_id": "i1", "timestamp": 10}]
    await running.ask(history=history)
    prompt = fake.requests[0]["messages"][1]["content"]
    assert prompt.index("i1 Film 1") < prompt.index("i2 Film 2")


async def test_known_users_keep_their_last_interactions(running: Running) -> None:
    assert running.gateway.catalogue is not None
    users = running.gateway.catalogue.users
    assert users.history("u9") == ()
    assert users.profile("u9") == {}
    assert users.history("u2")[-1] == Interaction(item_id="i6", timestamp=500, rating=4.0)


async def test_profiles_are_shown_as_in_training(running: Running, fake: FakeBackend) -> None:
    await running.ask()
    assert fake.requests[-1]["messages"][1]["content"].startswith("User u1: occupation critic\n")
    await running.ask(profile={"age": "30"})
    assert fake.requests[-1]["messages"][1]["content"].startswith("User u1: age 30\n")
