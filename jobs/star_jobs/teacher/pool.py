"""Working off a long list with bounded concurrency, until it is done, something fails, or the pod has to go."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

GRACE_SECONDS = 10.0
"""After SIGTERM, work in flight may take this long to end; then it is given up."""
_POLL_SECONDS = 0.2

T = TypeVar("T")


async def work_off(
    items: Iterable[T], width: int, make: Callable[[T], Awaitable[None]], stopping: threading.Event
) -> None:
    """Await `make(item)` for each item, `width` at a time and in order of starting.

    The first exception ends all and is raised. Once `stopping` is set nothing more is started, and what is in flight
    has `GRACE_SECONDS` to end. Memory does not grow with the number of items.
    """
    source = iter(items)

    async def worker() -> None:
        for item in source:
            if stopping.is_set():
                return
            await make(item)

    workers = {asyncio.create_task(worker()) for _ in range(width)}
    watcher = asyncio.create_task(_set(stopping))
    pending = set(workers)
    try:
        while pending:
            done, _ = await asyncio.wait({*pending, watcher}, return_when=asyncio.FIRST_COMPLETED)
            pending -= done
            if watcher in done and pending:
                ended, _ = await asyncio.wait(pending, timeout=GRACE_SECONDS)
                done, pending = done | ended, set()
            for task in done & workers:
                task.result()
    finally:
        for task in (*workers, watcher):
            task.cancel()
        await asyncio.gather(*workers, watcher, return_exceptions=True)


async def _set(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 - a thread's event, set by a signal handler, cannot be awaited
        await asyncio.sleep(_POLL_SECONDS)
