"""The gateway as a process: `star-job serve`, from configuration file to SIGTERM."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.result import JobResult
from star_contracts.serving import GatewayConfig
from star_jobs.storage import ObjectStore
from tests.support import world
from tests.support.fakebackend import FakeBackend
from tests.support.s3 import S3Server, free_port
from tests.unit.star_jobs.serve.conftest import ASK, Setup, eventually
from tests.unit.star_jobs.serve.test_bodies import CHAT


@dataclass
class Process:
    """A gateway process of this test."""

    popen: "subprocess.Popen[bytes]"
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def result(self) -> JobResult:
        return JobResult.model_validate_json((self.folder / "end").read_bytes())

    async def status(self, path: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.get(self.url + path)).status_code
            except httpx.TransportError:
                return 0

    async def wait_for(self, path: str, status: int, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while await self.status(path) != status:
                assert self.popen.poll() is None, self.log
                await asyncio.sleep(0.05)

    async def wait_for_end(self, seconds: float = 60) -> int:
        await eventually(lambda: self.popen.poll() is not None, seconds)
        assert self.popen.returncode is not None
        return self.popen.returncode


@contextmanager
def serve(folder: Path, environment: dict[str, str]) -> Iterator[Process]:
    """Run `star-job serve` for the length of a `with` block."""
    port = free_port()
    variables = {
        "STAR_GATEWAY_CONFIG": str(folder / "gateway.json"),
        "STAR_GATEWAY_HOST": "127.0.0.1",
        "STAR_GATEWAY_PORT": str(port),
        "STAR_TERMINATION_LOG": str(folder / "end"),
        "STAR_WORK_DIR": str(folder / "work"),
    }
    with (folder / "log").open("wb") as log:
        popen = subprocess.Popen(
            [sys.executable, "-m", "star_jobs", "serve"],
            env={**os.environ, **environment, **variables},
            stdout=log,
            stderr=log,
        )
    try:
        yield Process(popen, port, folder)
    finally:
        popen.kill()
        popen.wait(timeout=10)


@pytest.fixture
def published(store: ObjectStore, uri: str, tmp_path: Path) -> tuple[ArtifactRef, ArtifactRef]:
    """Dataset and look-up store as artifacts in the real store."""
    dataset = world.write_dataset(tmp_path / "made" / "dataset", world.tasks(1))
    signals = world.write_signals(tmp_path / "made" / "signals")
    return (
        world.publish(store, f"{uri}/dataset", dataset, ArtifactKind.DATASET),
        world.publish(store, f"{uri}/signals", signals, ArtifactKind.VERBALIZATION),
    )


async def test_from_configuration_to_sigterm(
    setup: Setup, fake: FakeBackend, s3_server: S3Server, published: tuple[ArtifactRef, ArtifactRef]
) -> None:
    dataset, signals = published
    settings = {"store": s3_server.store(), "dataset": dataset, "signals": signals, "drain_seconds": 1.5}
    setup.write(fake.backend("a"), **settings)
    with serve(setup.folder, s3_server.environment()) as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30) as http:
            await process.wait_for("/readyz", 200)
            body = (await http.post("/v1/recommend", json=ASK)).json()
            assert (body["valid"], body["ranking"][0]["title"]) == (True, "Film 5")
            assert "Drama" in body["tool_calls"][0]["response"]

            fake.delay = 1.5  # twice in an answer: the request is in flight when the signal comes, and after the drain
            in_flight = asyncio.create_task(http.post("/v1/recommend", json=ASK))
            await eventually(lambda: fake.in_flight == 1)
            process.popen.send_signal(signal.SIGTERM)
            await process.wait_for("/readyz", 503, seconds=2)
            late = await http.get("/v1/models")  # still answered, and told to connect elsewhere next time
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            assert (await in_flight).status_code == 200
            assert await process.wait_for_end() == 0
    lines = [json.loads(line) for line in process.log.splitlines()]
    assert {"data loaded", "draining", "request"} <= {line["event"] for line in lines}
    assert process.result().error is None


async def test_what_is_in_flight_at_sigterm_is_answered(
    setup: Setup,
    fake: FakeBackend,
    other: FakeBackend,
    s3_server: S3Server,
    published: tuple[ArtifactRef, ArtifactRef],
) -> None:
    """Longer than the drain and within the deadline, which was raised while the process ran."""
    settings = {"store": s3_server.store(), "dataset": published[0], "drain_seconds": 0.2}
    backends = fake.backend("whole"), other.backend("streams", 0)
    setup.write(*backends, deadline_seconds=1, **settings)
    with serve(setup.folder, s3_server.environment()) as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=60) as http:
            await process.wait_for("/readyz", 200)
            setup.write(*backends, deadline_seconds=40, **settings)
            await eventually(lambda: "configuration applied" in process.log)
            fake.delay, other.delay = 8, 3  # the second before each of three chunks
            pinned = {"x-star-revision": "streams"}
            asked = [
                asyncio.create_task(http.post("/v1/recommend", json=ASK)),
                asyncio.create_task(http.post("/v1/chat/completions", json=CHAT)),
                asyncio.create_task(http.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers=pinned)),
            ]
            await eventually(lambda: (fake.in_flight, other.in_flight) == (2, 1))
            process.popen.send_signal(signal.SIGTERM)
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 200
                assert '"error"' not in answer.text
            assert await process.wait_for_end() == 0
        assert await process.status("/healthz") == 0


async def test_what_takes_longer_than_the_deadline_is_told_so_and_the_process_ends(
    setup: Setup, fake: FakeBackend, s3_server: S3Server, published: tuple[ArtifactRef, ArtifactRef]
) -> None:
    settings = {"store": s3_server.store(), "dataset": published[0], "drain_seconds": 0.2, "deadline_seconds": 3}
    setup.write(fake.backend("a"), **settings)
    with serve(setup.folder, s3_server.environment()) as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=60) as http:
            await process.wait_for("/readyz", 200)
            fake.delay = 600
            asked = [asyncio.create_task(http.post("/v1/chat/completions", json=CHAT)) for _ in range(2)]
            asked.append(asyncio.create_task(http.post("/v1/recommend", json=ASK)))
            await eventually(lambda: fake.in_flight == 3)
            process.popen.send_signal(signal.SIGTERM)
            assert [(await answer).status_code for answer in asked] == [504, 504, 504]
            assert await process.wait_for_end() == 0


@pytest.mark.bad_input
async def test_a_bad_configuration_ends_the_process_with_the_reason(setup: Setup, s3_server: S3Server) -> None:
    setup.path.write_text('{"backends": 3}')
    with serve(setup.folder, s3_server.environment()) as process:
        assert await process.wait_for_end() == 65
    error = process.result().error
    assert error is not None
    assert error.reason == "InvalidJobSpec"
    assert "gateway.json: " in error.message


@pytest.mark.bad_input
async def test_a_missing_dataset_ends_the_process_with_the_reason(
    setup: Setup, fake: FakeBackend, s3_server: S3Server, uri: str
) -> None:
    missing = ArtifactRef(uri=f"{uri}/nothing", digest="sha256:" + "0" * 64)
    config: GatewayConfig = setup.write(fake.backend("a"), store=s3_server.store(), dataset=missing)
    with serve(setup.folder, s3_server.environment()) as process:
        assert await process.wait_for_end() == 65
    error = process.result().error
    assert error is not None
    assert error.reason == "ArtifactNotFound"
    assert config.dataset.uri in error.message
