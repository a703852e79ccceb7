"""/healthz speaks of watches that are dead, and not of what was deleted meanwhile or of an API server in trouble."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from star_operator import app as module
from star_operator import watches
from star_operator.app import App
from star_operator.core.errors import Refused, Retryable
from star_operator.core.queue import Key, WorkQueue
from star_operator.core.reasons import ConditionReason
from star_operator.handlers.intake import Intake
from star_operator.kube.cache import Cache
from star_operator.kube.indexes import indexed
from star_operator.watches import Relay, keep_watching
from tests.support.clock import Clock
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.star import DATASET, star

COUNT = 8


def resource(index: int) -> dict[str, Any]:
    made = star("RecDataset", "team", f"d{index}", DATASET)
    return {**made, "metadata": {**made["metadata"], "uid": f"uid-{index}", "resourceVersion": "7"}}


class Later(WorkQueue):
    """Keeps what is to be looked at later, and in how many seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.keys: list[tuple[Key, float]] = []

    def add_after(self, key: Key, seconds: float) -> None:
        self.keys.append((key, seconds))


class Rounds:
    """The resync loop of an operator, whose pauses are what a test does meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = FakeCluster()
        self.cache, self.later = Cache(indexed), Later(time.monotonic)
        self.intake = Intake(WorkQueue(time.monotonic), self.cache)
        self.app = App(Clock(self.cluster, settings(), self.later), self.intake, self.cache)
        self._monkeypatch = monkeypatch

    def watch(self, kind: str | None, index: int) -> None:
        self.intake.event(
            {"type": kind, "object": self.cluster.objects.get(("RecDataset", "team", f"d{index}"), resource(index))}
        )

    async def run(self, *meanwhile: Any) -> None:
        """Go through rounds; during the n-th pause the n-th of these happens, and after the last one it ends."""
        left = iter(meanwhile)

        async def pause(seconds: float) -> None:
            if seconds != module.WATCH_GRACE_SECONDS:
                return
            act = next(left, None)
            if act is None:
                raise asyncio.CancelledError
            act()

        with self._monkeypatch.context() as patch:
            patch.setattr(module.asyncio, "sleep", pause)
            with pytest.raises(asyncio.CancelledError):
                await self.app._resync()


def nothing() -> None:
    """Nothing happens."""


@pytest.mark.case("resources-deleted (no file)")
async def test_what_is_deleted_between_a_list_and_the_look_at_the_watches_is_no_dead_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = Rounds(monkeypatch)
    for index in range(COUNT):
        rounds.cluster.add(resource(index))
        rounds.watch(None, index)

    def delete_all() -> None:
        rounds.cluster.objects.clear()
        for index in range(COUNT):
            rounds.watch("DELETED", index)

    await rounds.run(delete_all, nothing, nothing)
    assert rounds.app.trouble() is None


async def test_a_watch_that_is_behind_is_dead_only_when_it_is_so_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = Rounds(monkeypatch)
    rounds.cluster.add(resource(0))
    await rounds.run(nothing)
    assert rounds.app.trouble() is None, "it may only be slow"
    await rounds.run(nothing)
    assert rounds.app.trouble() == "the watch of RecDataset has twice not delivered what a LIST shows for 30 s"
    rounds.watch(None, 0)
    await rounds.run(nothing)
    assert rounds.app.trouble() is None


async def test_an_api_server_that_does_not_answer_is_nothing_that_a_restart_would_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = Rounds(monkeypatch)
    rounds.cluster.add(resource(0))
    await rounds.run(nothing, nothing)
    assert rounds.app.trouble() is not None

    async def fails(*_: Any, **__: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise asyncio.CancelledError
        raise Retryable("ServiceUnavailable", "the API server is shutting down")

    calls: list[int] = []
    monkeypatch.setattr(rounds.cluster, "snapshot", fails)
    await rounds.run()
    assert len(calls) > 3
    assert rounds.app.trouble() is None


async def test_what_has_ended_is_looked_at_seldom_and_all_else_in_every_round_but_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = Rounds(monkeypatch)
    for index in range(2 * COUNT):
        body = rounds.cluster.add(resource(index))
        rounds.cluster.objects["RecDataset", "team", f"d{index}"]["status"] = {
            "phase": "Succeeded" if index % 2 else "Running"
        }
        assert body["metadata"]["uid"] == f"uid-{index}"
    deployment = star("StarDeployment", "team", "live", {}) | {"status": {"phase": "Ready"}}
    rounds.cluster.add(deployment)
    monkeypatch.setattr(rounds.intake, "has_seen", lambda uid, version: True)
    await rounds.run(*[nothing] * (module.SELDOM - 1))
    looks = Counter(key.name for key, _ in rounds.later.keys)
    every = [looks[f"d{index}"] for index in range(0, 2 * COUNT, 2)]
    assert set(every) == {module.SELDOM}
    assert [looks[f"d{index}"] for index in range(1, 2 * COUNT, 2)] == [1] * COUNT, "once in so many rounds"
    assert looks["live"] == module.SELDOM, "what serves is never done"
    assert len({seconds for _, seconds in rounds.later.keys}) > COUNT, "not all in one moment"


async def test_a_round_finds_what_went_unheard_and_reads_what_a_dead_watch_has_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = Rounds(monkeypatch)
    for index in range(2):
        rounds.cluster.add(resource(index))
        rounds.watch(None, index)

    def lose_and_make() -> None:
        del rounds.cluster.objects["RecDataset", "team", "d0"]  # while the watch was being started anew
        rounds.cluster.add(resource(2))  # and now it is dead

    await rounds.run(lose_and_make, nothing, nothing)
    assert [entry.place.name for entry in rounds.cache.entries("RecDataset")] == ["d1", "d2"]
    assert rounds.app.trouble() is not None


async def test_watches_that_end_are_started_anew_and_what_runs_beside_them_goes_on() -> None:
    queue = WorkQueue(time.monotonic)
    ends: list[str] = []
    held = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch(relay: Relay, stop: threading.Event) -> None:
        ends.append("started")
        if len(ends) < 3:
            raise RuntimeError("Error in the watch-stream: {'code': 500}")
        relay.event({"type": None, "object": resource(0)})
        loop.call_soon_threadsafe(held.set)
        stop.wait()
        ends.append("stopped")

    timers = asyncio.create_task(queue.run_timers())
    watching = asyncio.create_task(keep_watching(Intake(queue, Cache(indexed)), watch, pause=0.01))
    await asyncio.wait_for(held.wait(), 20)
    assert await asyncio.wait_for(queue.get(), 20) == Key("RecDataset", "team", "d0")
    assert not timers.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await asyncio.wait_for(asyncio.to_thread(_until, lambda: ends[-1] == "stopped"), 20)
    timers.cancel()


def _until(check: Any) -> None:
    while not check():
        threading.Event().wait(0.01)


def test_a_kopf_that_fails_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the thread in which it waits to be told to stop."""

    async def fails(*, stop_flag: threading.Event, **_: Any) -> None:
        asyncio.get_running_loop().run_in_executor(None, stop_flag.wait)
        raise RuntimeError("Error in the watch-stream")

    monkeypatch.setattr(watches.kopf, "operator", fails)
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="watch-stream"):
        watches.watch_with_kopf(Relay(Intake(WorkQueue(time.monotonic), Cache(indexed)), loop), threading.Event())
    loop.close()


@pytest.mark.parametrize(
    ("error", "last"),
    [(Refused(ConditionReason.QUOTA_EXCEEDED, "quota"), 60.0), (Retryable("ServerError", "an outage"), 300.0)],
)
async def test_a_raised_quota_is_seen_within_a_minute(
    monkeypatch: pytest.MonkeyPatch, error: Retryable, last: float
) -> None:
    rounds = Rounds(monkeypatch)
    key = Key("RecDataset", "team", "d0")

    async def fail(key: Key) -> None:
        raise error

    monkeypatch.setitem(rounds.app._reconcilers, key.kind, fail)
    for _ in range(12):
        await rounds.app._reconcile(key)
    assert rounds.later.keys[-1] == (key, last)
