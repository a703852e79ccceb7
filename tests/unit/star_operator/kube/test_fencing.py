"""Writes of a replica that no longer leads: none is sent, and one that is on its way is given up."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes.aio import client

from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import NOT_LEADING, Cluster
from star_operator.kube.resources import JOB

JOB_OBJECT: KubeObject = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "n", "name": "j"}}


class Api:
    """Takes requests, and answers when told to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.given_up: list[str] = []
        self.answers = asyncio.Event()

    async def param_serialize(self, method: str, path: str, **_: Any) -> tuple[str, str]:
        return method, path

    async def call_api(self, method: str, path: str, **_: Any) -> Any:
        self.sent.append(method)
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.given_up.append(method)
            raise

        async def read() -> bytes:
            return b"{}"

        return SimpleNamespace(status=200, read=read)


class Lease:
    left = 1.0

    def seconds_left(self) -> float:
        return self.left


def fenced(api: Api, lease: Lease) -> Cluster:
    return Cluster(cast(client.ApiClient, api)).fenced(lease.seconds_left)


async def writes(cluster: Cluster) -> None:
    for write in (
        cluster.apply(JOB_OBJECT),
        cluster.claim(JOB_OBJECT),
        cluster.apply_status(JOB_OBJECT),
        cluster.create(JOB_OBJECT),
        cluster.merge(JOB, "n", "j", {}),
        cluster.replace(JOB_OBJECT),
        cluster.delete(JOB, "n", "j"),
        cluster.delete_pod("n", "p", uid="u", grace_seconds=1),
    ):
        with pytest.raises(Retryable, match=NOT_LEADING):
            await write


async def test_nothing_is_written_once_the_lease_is_lost() -> None:
    api, lease = Api(), Lease()
    lease.left = 0.0
    await writes(fenced(api, lease))
    assert api.sent == []
    api.answers.set()
    assert await fenced(api, lease).get(JOB, "n", "j") == {}


async def test_a_write_that_is_on_its_way_is_given_up_when_the_lease_is_lost() -> None:
    api, lease = Api(), Lease()
    lease.left = 0.01
    task = asyncio.ensure_future(fenced(api, lease).apply(JOB_OBJECT))
    while not api.sent:
        await asyncio.wait({task}, timeout=0.001)
    lease.left = 0.0
    with pytest.raises(Retryable, match=NOT_LEADING):
        await task
    assert api.given_up == ["PATCH"]


async def test_a_slow_write_goes_on_while_the_lease_is_renewed() -> None:
    api, lease = Api(), Lease()
    lease.left = 0.001
    task = asyncio.ensure_future(fenced(api, lease).apply(JOB_OBJECT))
    for _ in range(10):
        await asyncio.wait({task}, timeout=0.002)
    assert not task.done()
    api.answers.set()
    assert await task == {}
    assert api.given_up == []


async def test_a_pass_that_is_cancelled_gives_up_its_write() -> None:
    api, lease = Api(), Lease()
    task = asyncio.ensure_future(fenced(api, lease).apply(JOB_OBJECT))
    while not api.sent:
        await asyncio.wait({task}, timeout=0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert api.given_up == ["PATCH"]
