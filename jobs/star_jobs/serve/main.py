"""`star-job serve`: the gateway as a process.

    STAR_GATEWAY_CONFIG=/etc/star/gateway.json star-job serve

Listens on STAR_GATEWAY_HOST:STAR_GATEWAY_PORT (0.0.0.0:8080). On SIGTERM it first reads as not ready while it goes on
answering (`drainSeconds`), then stops listening, lets requests in flight finish, and exits 0. A second signal ends it
at once. When it can never become ready (bad configuration, missing artifact) it exits 65 with the reason as its
termination message.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from star_contracts.errors import Reason
from star_contracts.result import JobResult
from star_contracts.serving import GatewayConfig
from star_jobs import runtime
from star_jobs.errors import TerminalFailure
from star_jobs.serve.app import create_app
from star_jobs.serve.config import InvalidConfig, config_path
from star_jobs.serve.gateway import Gateway

DEFAULT_PORT = 8080
MAX_HEADER_BYTES = 64 * 1024
_FINISH_MARGIN_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
"""Longer than the load balancers in front keep an idle connection (60 s are common): theirs is the end that closes."""


class DrainingServer(uvicorn.Server):
    """A server that says it is going before it goes."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._clock = clock
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain on the first signal; leave at once on the second."""
        if self._leave_at is not None or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._gateway.drain()
        self._leave_at = self._clock() + self._gateway.config.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Leave when the drain time is over, or when the gateway is beyond help."""
        drained = self._leave_at is not None and self._clock() >= self._leave_at
        if drained or self._gateway.fatal is not None:
            # As it is by now: the configuration may have been read again since the start.
            self.config.timeout_graceful_shutdown = finish_seconds(self._gateway.config)
            self.should_exit = True
        return await super().on_tick(counter)


def main() -> int:
    """Run the gateway until it is told to stop; return the exit code."""
    runtime.configure_logging()
    return runtime.answer(_serve)


def _serve(_stopping: threading.Event) -> JobResult:
    try:
        gateway = Gateway(config_path(os.environ), runtime.work_dir() / "artifacts")
    except InvalidConfig as error:
        raise TerminalFailure(Reason.INVALID_JOB_SPEC, f"gateway configuration: {error}") from error
    server = DrainingServer(server_config(gateway), gateway)
    server.run()
    if gateway.fatal is not None:
        raise gateway.fatal
    return JobResult()


def finish_seconds(config: GatewayConfig) -> int:
    """Return how long requests in flight may take to finish once the socket is closed."""
    return math.ceil(config.deadline_seconds) + _FINISH_MARGIN_SECONDS


def server_config(gateway: Gateway) -> uvicorn.Config:
    """Return uvicorn's settings: our own access log, and time for requests in flight to finish."""
    return uvicorn.Config(
        create_app(gateway),
        host=os.environ.get("STAR_GATEWAY_HOST", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
        port=int(os.environ.get("STAR_GATEWAY_PORT", DEFAULT_PORT)),
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=finish_seconds(gateway.config),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        http="h11",
        ws="none",
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        server_header=False,
    )
