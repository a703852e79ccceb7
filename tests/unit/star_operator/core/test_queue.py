import asyncio

import pytest

from star_operator.core.queue import Key, WorkQueue

A, B = Key("SFTJob", "ns", "a"), Key("SFTJob", "ns", "b")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_key_added_twice_is_worked_on_once(clock: Clock) -> None:
    queue = WorkQueue(clock)
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert await queue.get() == A
    assert await queue.get() == B
    assert len(queue) == 0


async def test_a_key_added_while_worked_on_is_worked_on_again_but_not_at_once(clock: Clock) -> None:
    queue = WorkQueue(clock)
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert await queue.get() == A


async def test_delays_keep_the_earliest_time(clock: Clock) -> None:
    queue = WorkQueue(clock)
    queue.add_after(A, 60)
    queue.add_after(A, 0)
    queue.add_after(A, 90)
    timers = asyncio.create_task(queue.run_timers())
    assert await asyncio.wait_for(queue.get(), 5) == A
    queue.done(A)
    clock.now = 1000.0
    queue.add_after(B, 0)
    assert await asyncio.wait_for(queue.get(), 5) == B
    assert len(queue) == 0, "the later times of A were dropped, not kept"
    timers.cancel()


async def test_failures_back_off_exponentially_and_are_forgotten_on_success(clock: Clock) -> None:
    queue = WorkQueue(clock, base_delay=1, max_delay=10)
    assert [queue.retry(A) for _ in range(5)] == [1, 2, 4, 8, 10]
    queue.succeeded(A)
    assert queue.retry(A, at_most=0.5) == 0.5


async def test_timers_end_when_told_to_though_a_key_comes_in_at_the_same_moment(clock: Clock) -> None:
    queue = WorkQueue(clock)
    queue.add_after(B, 3600)
    timers = asyncio.create_task(queue.run_timers())
    for _ in range(5):
        await asyncio.sleep(0)
    queue.add_after(A, 60)
    await asyncio.sleep(0)
    timers.cancel()
    done, _ = await asyncio.wait([timers], timeout=5)
    assert done, "an operator that lost its lease would never lead again"
