"""Working off a long list with bounded concurrency, until it is done, something fails, or the pod has to go."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

GRACE_SECONDS = 10.0
"""After SIGTERM, work in flight may take this long to end; then it is given up."""
_POLL_SECONDS = 0.2

T = TypeVar("T")


async def work_off(
    items: Sequence[T], width: int, make: Callable[[T], Awaitable[None]], stopping: threading.Event, ending: int = 0
) -> None:
    """Await `make(item)` for each item, `width` at a time and in order of starting.

    The last `ending` items are started at once as soon as no others are left to start. Where each item is a chain of
    calls that share a smaller number of slots, this keeps the slots full to the end: otherwise the last chains would
    run alone, one call at a time.

    The first exception ends all and is raised. Once `stopping` is set nothing more is started, and what is in flight
    has `GRACE_SECONDS` to end.
    """
    source = iter(items)
    to_start = len(items)
    the_end = asyncio.Event()
    if to_start <= ending:
        the_end.set()

    async def worker() -> None:
        nonlocal to_start
        for item in source:
            if stopping.is_set():
                return
            to_start -= 1
            if to_start <= ending:
                the_end.set()
            await make(item)

    async def late_worker() -> None:
        await the_end.wait()
        await worker()

    workers = {asyncio.create_task(worker()) for _ in range(min(width, to_start))}
    workers |= {asyncio.create_task(late_worker()) for _ in range(min(ending, to_start))}
    watcher = asyncio.create_task(_set(stopping))
    pending = set(workers)
    try:
        while pending:
            done, _ = await asyncio.wait({*pending, watcher}, return_when=asyncio.FIRST_COMPLETED)
            pending -= done
            if watcher in done and pending:
                the_end.set()  # whoever waits for it finds nothing to start
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
