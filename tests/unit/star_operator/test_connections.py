"""A port whose connections are few for each address, and short."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from star_cli.local import ports
from star_operator.connections import Bounds, GuardedSite


class Port:
    """A listening application."""

    def __init__(self) -> None:
        self.number = ports.pick(("port",))["port"]

    async def get(self) -> int:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{self.number}/") as response:
            return response.status

    async def silent(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        self._kept = [*getattr(self, "_kept", []), writer]
        return reader


@contextlib.asynccontextmanager
async def listening(bounds: Bounds) -> AsyncIterator[Port]:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app, port = web.Application(), Port()
    app.add_routes([web.get("/", hello)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await GuardedSite(runner, port.number, bounds, "127.0.0.1").start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def ended(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            return await reader.read() == b""
    return True


@pytest.mark.parametrize("bounds", [Bounds(each=3), Bounds(in_all=3)])
async def test_one_who_opens_many_gets_only_some(bounds: Bounds) -> None:
    async with listening(bounds) as port:
        readers = [await port.silent() for _ in range(4)]
        assert await ended(readers[3])
        assert not readers[0].at_eof()


async def test_one_who_says_nothing_is_cut_off_and_gives_room_to_others() -> None:
    async with listening(Bounds(each=1, seconds=0.2)) as port:
        assert await ended(await port.silent())
        assert await port.get() == 200


async def test_many_after_another_are_served() -> None:
    async with listening(Bounds(each=2)) as port:
        assert [await port.get() for _ in range(20)] == [200] * 20
