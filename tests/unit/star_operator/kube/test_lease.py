"""The lease: whatever the clocks say, one replica acts at a time, and another one soon after it is gone."""

import asyncio
import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.kube import lease as module
from star_operator.kube.lease import DURATION_SECONDS, FORMAT, RENEW_DEADLINE_SECONDS, RETRY_SECONDS, LeaderLease
from star_operator.kube.resources import ResourceType
from tests.support.fakecluster import FakeCluster

PLACE = ("Lease", "home", "ours")


class Api(FakeCluster):
    """An API server with optimistic locks, which can be away, and can be slow."""

    away = False
    slow: asyncio.Event | None = None

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        await self._answer()
        return await super().get(rtype, namespace, name)

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        await self._answer()
        if PLACE in self.objects:
            raise Retryable("AlreadyExists", "there is one")
        return self.add(obj)

    async def replace(self, obj: KubeObject) -> KubeObject:
        await self._answer()
        old = self.objects[PLACE]["metadata"]["resourceVersion"]
        if obj["metadata"]["resourceVersion"] != old:
            raise Retryable("Conflict", "the object has been modified")
        meta = {**obj["metadata"], "resourceVersion": str(int(old) + 1)}
        self.objects[PLACE] = {**copy.deepcopy(obj), "metadata": meta}
        return obj

    async def _answer(self) -> None:
        if self.slow is not None:
            await self.slow.wait()
        if self.away:
            raise Retryable("ApiServerUnreachable", "away")


class Time:
    """One time for all: what replicas wait for passes at once, the first one first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        monkeypatch.setattr("star_operator.kube.lease.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.now + seconds, woken))
        await woken

    async def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        await self._settle()
        while due := [entry for entry in self._waiting if not entry[1].done() and entry[0] <= until]:
            first = min(due, key=lambda entry: entry[0])
            self._waiting.remove(first)
            self.now = max(self.now, first[0])
            first[1].set_result(None)
            await self._settle()
        self.now = until

    async def _settle(self) -> None:
        for _ in range(20):
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(ready.set_result, None)
            await ready


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def replica(api: Api, time: Time, name: str) -> LeaderLease:
    return LeaderLease(api, "home", "ours", name, clock=lambda: time.now)


async def test_the_next_replica_leads_soon_after_the_first_one_died(time: Time) -> None:
    api = Api()
    first, second = replica(api, time, "a"), replica(api, time, "b")
    await first.acquire()
    leading = asyncio.ensure_future(first.keep())
    waiting = asyncio.ensure_future(second.acquire())
    await time.pass_by(61.3)
    assert first.is_held()
    assert not waiting.done()
    leading.cancel()
    died = time.now
    while not waiting.done():
        await time.pass_by(0.1)
    assert time.now - died <= DURATION_SECONDS + RETRY_SECONDS + 0.2 < 15
    assert not first.is_held()
    assert api.objects[PLACE]["spec"]["leaseTransitions"] == 1


async def test_a_replica_that_ends_well_lets_the_next_one_lead_at_its_next_look(time: Time) -> None:
    api = Api()
    first, second = replica(api, time, "a"), replica(api, time, "b")
    await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())
    await time.pass_by(1)
    await first.give_up()
    await time.pass_by(RETRY_SECONDS)
    assert waiting.done()
    assert not first.is_held()


@pytest.mark.parametrize("off", [timedelta(hours=-9), timedelta(0), timedelta(hours=9)])
async def test_clocks_that_differ_decide_nothing(time: Time, off: timedelta) -> None:
    """The holder's clock is hours off: its lease is neither taken while it renews, nor kept for hours when it died."""
    api = Api()
    spec: dict[str, Any] = {"holderIdentity": "far", "leaseDurationSeconds": DURATION_SECONDS}
    meta = {"namespace": "home", "name": "ours"}
    api.add({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})
    waiting = asyncio.ensure_future(replica(api, time, "b").acquire())
    for second in range(60):
        api.objects[PLACE]["spec"]["renewTime"] = (datetime.now(UTC) + off + timedelta(seconds=second)).strftime(FORMAT)
        await time.pass_by(5)
        assert not waiting.done()
    await time.pass_by(DURATION_SECONDS + RETRY_SECONDS)
    assert waiting.done()


async def test_one_who_cannot_renew_stops_before_another_may_lead(time: Time) -> None:
    api = Api()
    first = replica(api, time, "a")
    await first.acquire()
    leading = asyncio.ensure_future(first.keep())
    await time.pass_by(20)
    api.away = True
    await time.pass_by(RENEW_DEADLINE_SECONDS + 0.1)
    assert leading.done()
    assert first.seconds_left() <= 0
    assert RENEW_DEADLINE_SECONDS + RETRY_SECONDS < DURATION_SECONDS
    again = asyncio.ensure_future(first.acquire())
    await time.pass_by(30)
    assert not again.done()
    api.away = False
    await time.pass_by(RETRY_SECONDS)
    assert first.is_held(), "nobody has taken it meanwhile"


async def test_an_api_server_that_does_not_answer_holds_up_nobody(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that hangs ends with the deadline, and not with the timeout of the request."""
    monkeypatch.setattr(module, "RENEW_DEADLINE_SECONDS", 0.05)
    api = Api()
    first = replica(api, time, "a")
    await first.acquire()
    api.slow = asyncio.Event()
    assert not await first._try(first.seconds_left())
    leading = asyncio.ensure_future(first.keep())
    await time.pass_by(0.05)
    assert leading.done()
    assert not first.is_held()


async def test_a_lease_that_somebody_else_has_is_lost_at_once(time: Time) -> None:
    api = Api()
    first = replica(api, time, "a")
    await first.acquire()
    leading = asyncio.ensure_future(first.keep())
    await time.pass_by(1)
    api.objects[PLACE]["spec"]["holderIdentity"] = "b"
    await time.pass_by(RETRY_SECONDS)
    assert leading.done()
    assert not first.is_held()


async def test_two_that_want_it_at_once_do_not_both_get_it(time: Time) -> None:
    api = Api()
    both = [replica(api, time, name) for name in "ab"]
    waiting = [asyncio.ensure_future(one.acquire()) for one in both]
    await time.pass_by(1)
    assert [one.is_held() for one in both].count(True) == 1
    for task in waiting:
        task.cancel()


async def test_a_lease_that_is_not_given_up_is_no_error(time: Time) -> None:
    api = Api()
    first = replica(api, time, "a")
    await first.acquire()
    api.away = True
    await first.give_up()
    assert not first.is_held()
