"""A listening port that nobody can fill: connections are few for each address, and short.

aiohttp bounds neither how many connections there are nor how long one may take over its request, so that a pod which
opens thousands and says nothing would take the operator's memory and file descriptors from everybody.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Bounds:
    """Of one port."""

    in_all: int = 2000
    each: int = 128
    """Of one address. A network that hides its pods shows a node's for all of them."""
    seconds: float = 15.0
    """A connection ends after so long, whatever it is at: each serves one request."""


class Gate:
    """Makes the protocols of a port's connections, within bounds."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol], bounds: Bounds) -> None:
        self._make = make
        self.bounds = bounds
        self._open: Counter[str] = Counter()

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of one more connection."""
        return _Guarded(self, self._make)

    def enters(self, address: str) -> bool:
        """Count a connection, unless there are too many."""
        if self._open.total() >= self.bounds.in_all or self._open[address] >= self.bounds.each:
            return False
        self._open[address] += 1
        return True

    def left(self, address: str) -> None:
        """Count a connection off."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


class _Guarded(asyncio.Protocol):
    """Hands everything on to the protocol that it stands before."""

    def __init__(self, gate: Gate, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._gate = gate
        self._make = make
        self._inner: asyncio.Protocol | None = None
        self._address = ""
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        if not self._gate.enters(self._address):
            transport.abort()
            return
        self._end = asyncio.get_running_loop().call_later(self._gate.bounds.seconds, transport.abort)
        inner = self._make()
        assert isinstance(inner, asyncio.Protocol)
        self._inner = inner
        inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        if self._inner is not None:
            self._gate.left(self._address)
            self._inner.connection_lost(exc)


class GuardedSite(web.BaseSite):
    """A port of an application, on all addresses."""

    def __init__(self, runner: web.AppRunner, port: int, bounds: Bounds | None = None, host: str | None = None) -> None:
        super().__init__(runner)
        self._host, self._port = host, port
        self._bounds = bounds or Bounds()

    @property
    def name(self) -> str:
        """What aiohttp calls it in messages."""
        return f"port {self._port}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        server = self._runner.server
        assert server is not None
        gate = Gate(server, self._bounds)
        self._server = await asyncio.get_running_loop().create_server(gate, self._host, self._port, backlog=128)
