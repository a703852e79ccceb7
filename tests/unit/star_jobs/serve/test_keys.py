"""The key between a gateway and its servers: with every request, of every kind, and the new one once it changes."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from star_contracts.job import LLMEndpoint
from star_contracts.settings import Sampling
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.llm.client import LLMClient
from star_jobs.llm.messages import ChatMessage
from tests.support import world
from tests.support.fakebackend import FakeBackend, fake_backend
from tests.support.s3 import free_port
from tests.unit.star_jobs.serve.conftest import Setup, eventually


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.write_text("one")
    return path


@pytest.fixture
def guarded(key_file: Path) -> Iterator[FakeBackend]:
    with fake_backend(world.scripted_student(world.by_number), key_file) as backend:
        yield backend


def replace(key_file: Path, key: str) -> None:
    """Another key, as the kubelet puts it there: another file."""
    key_file.write_text(key)
    os.utime(key_file, ns=(1, 1))


async def test_every_request_of_a_gateway_comes_with_it(setup: Setup, guarded: FakeBackend, key_file: Path) -> None:
    setup.write(guarded.backend("a", api_key_file=str(key_file)))
    async with setup.running() as running:
        await running.ready()
        assert (await running.ask()).status_code == 200
        assert (await running.chat()).status_code == 200
        assert (await running.http.post("/v1/completions", json={"prompt": "x"})).status_code == 200
    async with httpx.AsyncClient(trust_env=False) as stranger:
        assert (await stranger.get(f"{guarded.base_url}/models")).status_code == 401


async def test_a_key_that_changes_is_taken_up(setup: Setup, guarded: FakeBackend, key_file: Path) -> None:
    setup.write(guarded.backend("a", api_key_file=str(key_file)))
    async with setup.running() as running:
        await running.ready()
        first = running.gateway.pool.handles[0]
        replace(key_file, "two")
        await eventually(lambda: running.gateway.pool.handles[0] is not first)
        await eventually(lambda: running.gateway.pool.handles[0].health.up)
        assert (await running.ask()).status_code == 200


@pytest.mark.bad_input
async def test_without_a_usable_key_the_configuration_before_it_stays(
    setup: Setup, guarded: FakeBackend, key_file: Path
) -> None:
    setup.write(guarded.backend("a", api_key_file=str(key_file)))
    async with setup.running() as running:
        await running.ready()
        setup.write(guarded.backend("a", api_key_file=str(key_file.with_name("none"))))
        await eventually(lambda: "config" in running.gateway.notes)
        assert "none" in running.gateway.notes["config"]
        assert "one" not in running.gateway.notes["config"].replace("none", "")
        assert (await running.ask()).status_code == 200


async def test_a_job_asks_with_the_key_that_it_was_given(guarded: FakeBackend, key_file: Path) -> None:
    endpoint = LLMEndpoint(base_url=guarded.base_url, model=guarded.model, startup_seconds=1)
    with pytest.raises(TerminalFailure):
        async with LLMClient(endpoint) as client:
            await client.wait_ready()
    with pytest.raises(RetryableFailure, match="another key than this attempt was given"):
        async with LLMClient(endpoint.model_copy(update={"ask_port": free_port()})) as client:
            await client.wait_ready()
    async with LLMClient(endpoint.model_copy(update={"api_key_file": str(key_file)})) as client:
        await client.wait_ready()
        prompt = [
            ChatMessage(role="system", content=""),
            ChatMessage(role="user", content="User u1\nCandidates:\ni1 Film"),
        ]
        assert (await client.chat(prompt, sampling=Sampling(max_tokens=8))).text
