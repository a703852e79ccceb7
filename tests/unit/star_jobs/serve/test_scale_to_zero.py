"""Servers scaled to nothing: a request waits for one, until its deadline, and is counted for whoever scales."""

import asyncio

import httpx
import pytest

from tests.support.fakebackend import FakeBackend
from tests.unit.star_jobs.serve.conftest import Running, Setup, eventually
from tests.unit.star_jobs.serve.test_operations import down
from tests.unit.star_jobs.serve.test_recommend import problem

pytestmark = pytest.mark.case("scale-to-zero")


async def waiting(running: Running, count: int) -> None:
    """Wait until so many requests are in flight, as an autoscaler sees it."""
    line = f"star_gateway_in_flight {float(count)}"

    async def shown() -> bool:
        return line in (await running.http.get("/metrics")).text

    async with asyncio.timeout(15):
        while not await shown():  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0.01)


async def test_a_request_waits_for_the_server_that_starts_for_it(setup: Setup, fake: FakeBackend) -> None:
    fake.generates = False
    setup.write(fake.backend("a"), hold=True)
    async with setup.running() as running:
        await running.ready()
        assert (await running.http.get("/readyz")).status_code == 200, "there is nothing to wait with else"
        asked = [asyncio.create_task(running.ask()), asyncio.create_task(running.chat())]
        await waiting(running, 2)
        fake.generates = True
        answers: list[httpx.Response] = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["source"] == "student"
        await waiting(running, 0)


async def test_what_waits_longer_than_its_deadline_is_told_why(setup: Setup) -> None:
    setup.write(down("a"), hold=True, deadline_seconds=0.3)
    async with setup.running() as running:
        await running.ready()
        for answer in (await running.ask(), await running.chat()):
            problem(answer, 503, "scaled-to-zero")
            assert "gateway.deadlineSeconds" in answer.json()["detail"]
            assert "Retry-After" in answer.headers


async def test_a_server_that_goes_while_it_is_asked_is_waited_for(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), hold=True)
    async with setup.running() as running:
        await running.ready()
        handle = running.gateway.pool.handles[0]
        await eventually(lambda: handle.health.up)
        fake.status, fake.generates = 503, False
        asked = [asyncio.create_task(running.ask()), asyncio.create_task(running.chat())]
        await eventually(lambda: running.gateway.pool.asleep)
        fake.status, fake.generates = 200, True
        assert [(await one).status_code for one in asked] == [200, 200]


async def test_servers_that_fail_are_not_waited_for(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"))
    async with setup.running() as running:
        await running.ready()
        fake.status, fake.generates = 503, False
        problem(await running.chat(), 503, "backend-unreachable")


async def test_one_revision_asked_for_by_name_is_not_waited_for_twice(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), down("b", weight=0), hold=True)
    async with setup.running() as running:
        await running.ready()
        answer = await running.http.post(
            "/v1/recommend",
            json={"user_id": "u1", "candidates": ["i5", "i6"]},
            headers={"x-star-revision": "b"},
        )
        assert answer.status_code == 503
