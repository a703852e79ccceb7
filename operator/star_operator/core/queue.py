"""A work queue of resource keys: deduplicated, one worker a key at a time, with delays and back-off.

Events only say "look again"; what is done follows from a fresh look. The queue is the shape of client-go's workqueue:
a key added while it is being worked on is worked on once more afterwards, never twice at once.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Key:
    """A resource to look at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class WorkQueue:
    """Keys waiting to be reconciled. All methods but `get` return at once; use within one event loop."""

    def __init__(self, clock: Callable[[], float], *, base_delay: float = 1.0, max_delay: float = 300.0) -> None:
        self._clock = clock
        self._base = base_delay
        self._max = max_delay
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = itertools.count()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: Key) -> None:
        """Have the key looked at as soon as a worker is free."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have the key looked at in so many seconds, or earlier if it was to be looked at earlier anyway."""
        due = self._clock() + max(0.0, seconds)
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._count), key))
        self._wake.set()

    def retry(self, key: Key, *, at_most: float = float("inf")) -> float:
        """Have a failed key looked at after an exponential back-off, and return the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(self._max, at_most, self._base * 2 ** min(failures - 1, 20))
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for the next key; call `done` with it afterwards."""
        key = await self._ready.get()
        self._queued.discard(key)
        self._running.add(key)
        return key

    def done(self, key: Key) -> None:
        """Say that the key is no longer being worked on."""
        self._running.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    async def run_timers(self) -> None:
        """Move delayed keys over when they are due; run this as a task for the queue's life."""
        while True:
            self._wake.clear()
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                due, _, key = heapq.heappop(self._heap)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            pause = self._heap[0][0] - now if self._heap else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for loses a cancellation that comes with the wake-up
                    await self._wake.wait()
