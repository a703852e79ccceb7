"""The student's revisions behind the gateway: their clients, their health, and who is asked in which order.

A backend counts as up only after it has *generated* a token: vLLM answers `/v1/models` before it can serve. After
that a light probe keeps it up; a request that cannot reach it takes it down at once, and the next probe has to
generate again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx2
import structlog

from star_contracts.job import LLMEndpoint
from star_contracts.serving import Backend
from star_jobs.llm.client import LLMClient, read_key
from star_jobs.llm.connections import KEPT_SECONDS, ReconnectingClient
from star_jobs.serve.metrics import Metrics
from star_jobs.serve.problems import Problem
from star_jobs.serve.routing import preference

PROBE_SECONDS = 2.0
_LIGHT_TIMEOUT = 5.0
_GENERATE_TIMEOUT = 60.0
_FAILURES_TO_GO_DOWN = 2
_CONNECT_TIMEOUT = 3.0
_CALL_TIMEOUT = 3600.0
"""Upper bound only: the gateway's deadline ends a call long before."""

_log = structlog.get_logger("star.gateway")

_CALLS_IN_FLIGHT = 512
"""Calls to one backend at once, several times what an engine batches; more wait here, within their deadlines. The
client holds a pool of connections for every 64 of them."""


@dataclass(frozen=True)
class Health:
    """What is known about a backend."""

    up: bool
    detail: str
    """Why it is down, for people."""
    failures: int = 0
    """Failed probes in a row."""


class BackendHandle:
    """One backend with its client. It outlives its place in the configuration until its last request is done."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.client = LLMClient(
            LLMEndpoint(
                base_url=backend.base_url,
                model=backend.model,
                timeout_seconds=_CALL_TIMEOUT,
                concurrency=_CALLS_IN_FLIGHT,
                startup_seconds=_CONNECT_TIMEOUT,
                api_key_file=backend.api_key_file,
            ),
            interactive=True,
        )
        key = read_key(backend.api_key_file)
        self.headers = {} if backend.api_key_file is None else {"authorization": f"Bearer {key}"}
        """What every request to it comes with."""
        self.health = Health(up=False, detail="not probed yet")
        self.leases = 0
        self.retired = False

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Keep the client open for the body of the `async with`."""
        self.leases += 1
        try:
            yield
        finally:
            self.leases -= 1
            if self.retired and self.leases == 0:
                await self.client.__aexit__(None, None, None)

    async def retire(self) -> None:
        """Take it out of service: closed now, or when its last request is done."""
        self.retired = True
        if self.leases == 0:
            await self.client.__aexit__(None, None, None)


class BackendPool:
    """The backends of the current configuration. For use from one event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._handles: dict[tuple[str, ...], BackendHandle] = {}
        self._metrics = metrics
        self.has_generated = False
        """Whether a backend that takes traffic has ever been up."""
        self.hold = False
        """Whether a request waits for a backend while none is up: the servers are scaled to nothing."""
        self._answers = asyncio.Event()
        self._sleeps = 0
        """How often the last backend that was up went down."""
        self.http = ReconnectingClient(
            trust_env=False,
            timeout=httpx2.Timeout(_CALL_TIMEOUT, connect=_CONNECT_TIMEOUT),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEPT_SECONDS),
        )
        """For probes and for the OpenAI-compatible pass-through."""

    async def update(self, backends: Sequence[Backend], *, hold: bool = False) -> None:
        """Take over a new list. Backends that stay keep their connections and health; requests in flight go on."""
        self.hold = hold
        before, self._handles = self._handles, {}
        for backend in backends:
            key = (backend.revision, backend.base_url, backend.model, read_key(backend.api_key_file))
            handle = before.pop(key, None) or BackendHandle(backend)
            handle.backend = backend
            self._handles[key] = handle
            self._metrics.backend_weight.labels(backend.revision).set(backend.weight)
        kept = {handle.backend.revision for handle in self._handles.values()}
        for handle in before.values():
            await handle.retire()
            if handle.backend.revision not in kept:
                self._metrics.backend_weight.remove(handle.backend.revision)
                with contextlib.suppress(KeyError):
                    self._metrics.backend_up.remove(handle.backend.revision)
        self._note_answers()

    @property
    def handles(self) -> list[BackendHandle]:
        """Return every backend, in the configuration's order."""
        return list(self._handles.values())

    def order(self, key: str, pinned: str | None = None) -> list[BackendHandle]:
        """Return whom to ask for a user, first choice first; those known to be down come last.

        `pinned` names a revision and nobody else is asked, even at weight 0: that is how a new revision is tried before
        it takes traffic. Raises Problem 404 for a revision there is not.
        """
        by_revision = {handle.backend.revision: handle for handle in self.handles}
        if pinned is not None:
            if pinned not in by_revision:
                known = ", ".join(by_revision)
                raise Problem(404, "unknown-revision", f"there is no revision {pinned!r} here; there is: {known}.")
            return [by_revision[pinned]]
        preferred = [by_revision[b.revision] for b in preference(key, [handle.backend for handle in self.handles])]
        return sorted(preferred, key=lambda handle: not handle.health.up)

    async def awake(self) -> int:
        """Return at once, or, while requests are held, as soon as a backend that takes traffic is up.

        What is returned tells `slept_since` when that was.
        """
        if self.hold:
            await self._answers.wait()
        return self._sleeps

    def slept_since(self, moment: int) -> bool:
        """Say whether requests are held and no backend was up at some time since: what failed then is asked again."""
        return self.hold and (not self._answers.is_set() or self._sleeps != moment)

    @property
    def asleep(self) -> bool:
        """Say whether requests are held and no backend is up."""
        return self.hold and not self._answers.is_set()

    def failed(self, handle: BackendHandle, detail: str) -> None:
        """Take note that a request could not be answered: the backend is down until a probe generates again."""
        self._metrics.backend_failures.labels(handle.backend.revision).inc()
        self._set(handle, Health(up=False, detail=detail, failures=_FAILURES_TO_GO_DOWN))

    async def probe_for_ever(self) -> None:
        """Probe every backend every PROBE_SECONDS; a slow one does not hold up the others. Ends by cancellation."""
        running: dict[BackendHandle, asyncio.Task[None]] = {}
        try:
            while True:
                for handle in self.handles:
                    if handle not in running or running[handle].done():
                        running[handle] = asyncio.create_task(self.probe(handle))
                running = {handle: task for handle, task in running.items() if not task.done()}
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            for task in running.values():
                task.cancel()

    async def probe(self, handle: BackendHandle) -> None:
        """Look at one backend once and set its health. Never raises."""
        try:
            if handle.health.up:
                await self._light_probe(handle)
            else:
                await self._generate_probe(handle)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, AttributeError, TypeError) as error:
            failures = handle.health.failures + 1
            detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            up = handle.health.up and failures < _FAILURES_TO_GO_DOWN
            self._set(handle, Health(up=up, detail=detail, failures=failures))
        else:
            self._set(handle, Health(up=True, detail=""))

    async def _light_probe(self, handle: BackendHandle) -> None:
        backend = handle.backend
        response = await self.http.get(f"{backend.base_url}/models", headers=handle.headers, timeout=_LIGHT_TIMEOUT)
        response.raise_for_status()
        served = [model.get("id") for model in response.json().get("data", [])]
        if backend.model not in served:
            raise ValueError(f"serves {served}, not {backend.model!r}")

    async def _generate_probe(self, handle: BackendHandle) -> None:
        backend = handle.backend
        body = {"model": backend.model, "prompt": "ready?", "max_tokens": 1, "temperature": 0}
        response = await self.http.post(
            f"{backend.base_url}/completions", json=body, headers=handle.headers, timeout=_GENERATE_TIMEOUT
        )
        response.raise_for_status()
        if not response.json().get("choices"):
            raise ValueError("answered a generation without choices")

    def _set(self, handle: BackendHandle, health: Health) -> None:
        if handle.retired:
            return
        if health.up != handle.health.up or health.detail != handle.health.detail:
            _log.info("backend", revision=handle.backend.revision, up=health.up, detail=health.detail)
        handle.health = health
        self.has_generated |= health.up and handle.backend.weight > 0
        self._metrics.backend_up.labels(handle.backend.revision).set(1 if health.up else 0)
        self._note_answers()

    def _note_answers(self) -> None:
        if any(handle.health.up and handle.backend.weight > 0 for handle in self.handles):
            self._answers.set()
        elif self._answers.is_set():
            self._answers.clear()
            self._sleeps += 1

    async def close(self) -> None:
        """Close every client."""
        for handle in self.handles:
            await handle.retire()
        await self.http.aclose()
