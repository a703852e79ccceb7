"""A gateway over a tiny dataset and fake backends, asked through ASGI or over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.job import Store
from star_contracts.serving import Backend, GatewayConfig
from star_contracts.settings import Sampling
from star_jobs.datasets.snapshot import Dataset
from star_jobs.datasets.users import KnownUsers
from star_jobs.llm import failures
from star_jobs.lookup import SignalStore
from star_jobs.serve import backends as backends_module
from star_jobs.serve import gateway as gateway_module
from star_jobs.serve.app import create_app
from star_jobs.serve.catalogue import Catalogue
from star_jobs.serve.gateway import Gateway
from star_jobs.serve.main import DrainingServer, server_config
from star_jobs.trajectory.tools import ToolBox
from tests.support import world
from tests.support.fakebackend import FakeBackend, fake_backend
from tests.support.s3 import free_port

DIGEST = "sha256:" + "d" * 64
ASK = {"user_id": "u1", "candidates": ["i5", "i6", "i7", "i8", "i9"]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(backends_module, "_CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(backends_module, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(gateway_module, "POLL_SECONDS", 0.05)


@pytest.fixture
def fake() -> Iterator[FakeBackend]:
    with fake_backend(world.scripted_student(world.by_number)) as backend:
        yield backend


@pytest.fixture
def other() -> Iterator[FakeBackend]:
    with fake_backend(world.scripted_student(world.by_number), model="student-2") as backend:
        yield backend


def open_world(folder: Path) -> Catalogue:
    """The data, without a store."""
    dataset = Dataset(world.write_dataset(folder / "dataset", world.tasks(1)))
    signals = SignalStore.open(world.write_signals(folder / "signals"))
    return Catalogue(dataset, KnownUsers.of(dataset), ToolBox(signals, dataset.items), signals)


@dataclass
class Setup:
    """A gateway's surroundings."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "gateway.json"

    def write(self, *backends: Backend, **changes: Any) -> GatewayConfig:
        """Write the configuration, atomically, as a ConfigMap volume does."""
        config = GatewayConfig(
            store=changes.pop("store", Store()),
            dataset=changes.pop("dataset", ArtifactRef(uri="s3://star/d", digest=DIGEST)),
            backends=backends,
            sampling=Sampling(max_tokens=256, seed=1),
            **changes,
        )
        temporary = self.folder / "gateway.json.new"
        temporary.write_text(json.dumps(config.to_json_dict()))
        temporary.rename(self.path)
        return config

    @asynccontextmanager
    async def running(
        self, loader: Callable[[GatewayConfig, Path], Catalogue] | None = None
    ) -> AsyncIterator["Running"]:
        """Run the gateway's background work and ask it through ASGI."""
        gateway = Gateway(self.path, self.folder, loader or (lambda _config, folder: open_world(folder)))
        transport = httpx.ASGITransport(app=create_app(gateway), raise_app_exceptions=False)
        async with gateway, httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            yield Running(gateway, http)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Running"]:
        """Run the gateway behind a real socket: for streams, disconnects and the end of the process."""
        gateway = Gateway(self.path, self.folder, lambda _config, folder: open_world(folder))
        config = server_config(gateway)
        config.host, config.port = "127.0.0.1", free_port()
        server = DrainingServer(config, gateway)
        task = asyncio.create_task(server.serve())
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.port}", trust_env=False) as http:
                await eventually(lambda: server.started)
                running = Running(gateway, http, server, task)
                await running.ready()
                yield running
        finally:
            server.should_exit = True
            await task


@dataclass
class Running:
    """A gateway that runs."""

    gateway: Gateway
    http: httpx.AsyncClient
    server: DrainingServer | None = None
    task: "asyncio.Task[None] | None" = None

    async def ready(self) -> "Running":
        await eventually(lambda: self.gateway.unready() is None)
        return self

    async def ask(self, **changes: Any) -> httpx.Response:
        return await self.http.post("/v1/recommend", json=ASK | changes)

    async def chat(self, **changes: Any) -> httpx.Response:
        prompt = "User u1\nCandidates:\ni1 Film\ni2 Film"
        messages = [{"role": "system", "content": ""}, {"role": "user", "content": prompt}]
        return await self.http.post("/v1/chat/completions", json={"messages": messages} | changes)


async def eventually(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Poll until the condition holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the conditions have no event
            await asyncio.sleep(0.01)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


@pytest.fixture
async def running(setup: Setup, fake: FakeBackend) -> AsyncIterator[Running]:
    """One backend, ready."""
    setup.write(fake.backend("rev-a"))
    async with setup.running() as gateway:
        yield await gateway.ready()
