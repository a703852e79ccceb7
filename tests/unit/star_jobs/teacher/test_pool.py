"""Many runs at a time: how many, which, and what happens at the end."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from star_jobs.teacher import pool
from star_jobs.teacher.pool import work_off


class Gate:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.open: dict[int, asyncio.Event] = {}
        self.finished: list[int] = []

    async def make(self, item: int) -> None:
        self.started.append(item)
        self.open[item] = asyncio.Event()
        await self.open[item].wait()
        self.finished.append(item)

    async def finish(self, items: Sequence[int]) -> None:
        for item in items:
            self.open[item].set()
        await settle()


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


def start(gate: Gate, count: int, width: int, ending: int = 0, stopping: threading.Event | None = None) -> asyncio.Task:  # type: ignore[type-arg]
    return asyncio.create_task(work_off(range(count), width, gate.make, stopping or threading.Event(), ending))


async def test_no_more_than_width_at_a_time_and_in_order() -> None:
    gate = Gate()
    work = start(gate, 6, 2)
    await settle()
    assert gate.started == [0, 1]
    await gate.finish([1])
    assert gate.started == [0, 1, 2]
    for item in (0, 2, 3, 4, 5):
        await gate.finish([item])
    await work
    assert sorted(gate.finished) == list(range(6))


async def test_the_last_ones_start_together() -> None:
    gate = Gate()
    work = start(gate, 10, 2, ending=4)
    await settle()
    for item in range(3):
        await gate.finish([item])
    assert gate.started == [0, 1, 2, 3, 4], "five are still to start: not the end yet"
    await gate.finish([3])
    assert gate.started == list(range(10))
    await gate.finish(range(4, 10))
    await work
    assert len(gate.finished) == 10


async def test_a_short_list_starts_at_once() -> None:
    gate = Gate()
    work = start(gate, 3, 2, ending=4)
    await settle()
    assert gate.started == [0, 1, 2]
    await gate.finish(range(3))
    await work


async def test_an_empty_list_is_done() -> None:
    await start(Gate(), 0, 4, ending=8)


async def test_a_failure_ends_all() -> None:
    async def make(item: int) -> None:
        await asyncio.sleep(0 if item == 3 else 60)
        raise ValueError(item)

    with pytest.raises(ValueError, match="3"):
        await asyncio.wait_for(work_off(range(8), 4, make, threading.Event(), ending=2), timeout=5)


@pytest.mark.parametrize("ending", [0, 2])
async def test_once_stopping_nothing_starts_and_what_runs_may_end(monkeypatch: pytest.MonkeyPatch, ending: int) -> None:
    monkeypatch.setattr(pool, "_POLL_SECONDS", 0.0)
    gate, stopping = Gate(), threading.Event()
    work = start(gate, 10, 2, ending, stopping)
    await settle()
    stopping.set()
    await gate.finish([0])
    assert gate.started == [0, 1]
    await gate.finish([1])
    await asyncio.wait_for(work, timeout=5)
    assert gate.finished == [0, 1]


async def test_what_does_not_end_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.05)
    gate, stopping = Gate(), threading.Event()
    work = start(gate, 10, 2, 0, stopping)
    await settle()
    stopping.set()
    await asyncio.wait_for(work, timeout=5)
    assert gate.finished == []
