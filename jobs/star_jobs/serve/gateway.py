"""The gateway's state and its life: configuration and keys that reload, data that loads, backends that are probed."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import structlog

from star_contracts.base import value_hash
from star_contracts.serving import GatewayConfig
from star_jobs.errors import JobFailure, TerminalFailure, as_failure
from star_jobs.llm.client import read_key
from star_jobs.serve.admission import Admission
from star_jobs.serve.auth import ApiKeys
from star_jobs.serve.backends import BackendPool
from star_jobs.serve.body import Bodies
from star_jobs.serve.catalogue import Catalogue, load_catalogue, same_data
from star_jobs.serve.config import FileSignature, InvalidConfig, load_config
from star_jobs.serve.feedback import FeedbackSink
from star_jobs.serve.metrics import Metrics
from star_jobs.serve.online import Online, report_for_ever
from star_jobs.serve.problems import Problem
from star_jobs.serve.recommend import Recommender

POLL_SECONDS = 0.5
"""How often the configuration and the keys file are looked at."""
_LOAD_RETRY_SECONDS = 5.0

_log = structlog.get_logger("star.gateway")

CatalogueLoader = Callable[[GatewayConfig, Path], Catalogue]


class Gateway:
    """Everything behind the HTTP endpoints. Use as an async context manager; for one event loop."""

    def __init__(self, path: Path, data_folder: Path, loader: CatalogueLoader = load_catalogue) -> None:
        """Read the configuration at `path`. Raises InvalidConfig, also when the keys file cannot be used."""
        self._path = path
        self._folder = data_folder
        self._loader = loader
        self._seen = _signatures(path, None)
        self.config = load_config(path)
        self.keys = _read_keys(self.config)
        self._seen = _signatures(path, self.config)
        self.metrics = Metrics()
        self.pool = BackendPool(self.metrics)
        self.admission = Admission(self.config.max_in_flight)
        self.bodies = Bodies()
        self._instance = _instance()
        self.feedback = FeedbackSink(self.metrics, self._instance)
        self.online = Online(lambda: {one.revision for one in self.config.backends})
        self.feedback.configure(self.config.store, self.config.feedback)
        self.catalogue: Catalogue | None = None
        self.draining = False
        self.fatal: JobFailure | None = None
        """Set when the gateway can never become ready: the process should end with it."""
        self.notes: dict[str, str] = {}
        """What does not work at present, by topic; shown by `/readyz`."""
        self._loading: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Gateway":
        """Start the background work: probes, watching, loading the data."""
        await self.pool.update(self.config.backends, hold=self.config.hold)
        self._load_in_background()
        self._background = [
            asyncio.create_task(self.pool.probe_for_ever(), name="probe"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(self.feedback.flush_for_ever(), name="feedback"),
            asyncio.create_task(
                report_for_ever(self.online, self._instance, lambda: self.config.online), name="online"
            ),
        ]
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop the background work, write the last feedback, close the clients."""
        tasks = [*self._background, *([self._loading] if self._loading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.feedback.flush()
        await self.pool.close()

    def recommender(self) -> Recommender:
        """Return a consistent view to answer one request with. Raises Problem 503 while the data is not there."""
        if self.catalogue is None:
            detail = self.notes.get("data", "the dataset is being loaded")
            raise Problem(503, "loading", f"not ready: {detail}; retry.", retry_after=5)
        return Recommender(config=self.config, catalogue=self.catalogue, pool=self.pool, metrics=self.metrics)

    @contextlib.contextmanager
    def admitted(self, count: int = 1) -> Iterator[None]:
        """Hold admission slots, one for each recommendation or call. Raises Problem 429."""
        started = time.monotonic()
        try:
            with self.admission.slots(count):
                self.metrics.in_flight.set(self.admission.in_flight)
                yield
                self.admission.observe(time.monotonic() - started)
        except Problem as problem:
            if problem.status == 429:
                self.metrics.rejected.labels("saturated").inc()
            raise
        finally:
            self.metrics.in_flight.set(self.admission.in_flight)

    def unready(self) -> str | None:
        """Return why the gateway should get no traffic, None when it should.

        Backends that go down later are no reason: they are the same for every gateway, and without any that is ready a
        Service refuses connections, where a gateway asks the backends all the same or says when to try again.
        """
        if self.draining:
            return "draining: the process was told to stop"
        if self.catalogue is None:
            return self.notes.get("data", "the dataset is being loaded")
        if not self.pool.has_generated and not self.pool.hold:
            states = (f"{h.backend.revision}: {h.health.detail}" for h in self.pool.handles if h.backend.weight > 0)
            return f"no backend generates yet ({'; '.join(states)})"
        return None

    def drain(self) -> None:
        """Read as not ready from now on; requests are still answered."""
        if not self.draining:
            self.draining = True
            _log.info("draining", seconds=self.config.drain_seconds, in_flight=self.admission.in_flight)

    async def reload(self) -> None:
        """Apply the configuration file as it is now; keep the present one, and say why, when it is of no use."""
        self._seen = _signatures(self._path, self.config)
        try:
            config = load_config(self._path)
            keys = _read_keys(config)
        except InvalidConfig as error:
            self.notes["config"] = f"{error}; the configuration before it stays in force"
            self.metrics.reloads.labels("refused").inc()
            _log.error("configuration refused", message=str(error))
            return
        before, self.config, self.keys = self.config, config, keys
        self._seen = _signatures(self._path, config)
        self.notes.pop("config", None)
        self.admission.limit = config.max_in_flight
        self.feedback.configure(config.store, config.feedback)
        await self.pool.update(config.backends, hold=config.hold)
        if not same_data(before, config):
            self._load_in_background()
        self.metrics.reloads.labels("applied").inc()
        _log.info("configuration applied", weights={b.revision: b.weight for b in config.backends})

    async def _watch(self) -> None:
        """Reload when a watched file changes. Ends by cancellation."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if _signatures(self._path, self.config) != self._seen:
                await self.reload()

    def _load_in_background(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        self._loading = asyncio.create_task(self._load(self.config), name="load")

    async def _load(self, config: GatewayConfig) -> None:
        """Load the data, trying again while the store cannot be reached; requests go on with the data before it."""
        while True:
            try:
                self.catalogue = await asyncio.to_thread(self._loader, config, self._folder)
            except Exception as error:  # a loading thread may fail in any way, and none may go unseen
                failure = as_failure(error)
                self.notes["data"] = failure.message
                _log.error("data not loaded", reason=failure.reason, message=failure.message)
                if isinstance(failure, TerminalFailure):
                    # With older data in memory the gateway serves on; without any it never can.
                    self.fatal = failure if self.catalogue is None else None
                    return
                await asyncio.sleep(_LOAD_RETRY_SECONDS)
            else:
                self.notes.pop("data", None)
                _log.info("data loaded", dataset=config.dataset.digest)
                return


def _read_keys(config: GatewayConfig) -> ApiKeys:
    try:
        for backend in config.backends:
            read_key(backend.api_key_file)
        return ApiKeys.read(config.api_keys_file)
    except TerminalFailure as failure:
        raise InvalidConfig(failure.message) from None
    except ValueError as error:
        raise InvalidConfig(str(error)) from None


def _signatures(path: Path, config: GatewayConfig | None) -> tuple[FileSignature | None, ...]:
    keys = [config.api_keys_file, *(backend.api_key_file for backend in config.backends)] if config else []
    return tuple(FileSignature.of(file) for file in (path, *dict.fromkeys(keys)))


def _instance() -> str:
    """Return a name for this process's feedback objects that no other process has."""
    start = value_hash([os.getpid(), time.time_ns()]).removeprefix("sha256:")[:12]
    return f"{os.environ.get('HOSTNAME', 'gateway')}-{start}"
