"""A status is written to the very resource that was looked at, and what it tells is told whatever dies in between."""

import asyncio
from typing import Any

import pytest

from star_operator.api.meta import Phase
from star_operator.api.recdataset import RecDatasetStatus
from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.resources import EVENT, STAR_TYPES
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.write import write_status
from tests.support.fakecluster import FakeCluster
from tests.support.star import DATASET, star

NOW = "2026-01-02T03:04:05Z"
PLACE = ("RecDataset", "team", "a")


def status(message: str = "step prepare is running") -> RecDatasetStatus:
    return told(RecDatasetStatus(), Moment(NOW, 1), Phase.RUNNING, ConditionReason.RUNNING, message)


def looked_at(cluster: FakeCluster) -> KubeObject:
    cluster.add(star("RecDataset", "team", "a", DATASET))
    body = asyncio.run(cluster.get(STAR_TYPES["RecDataset"], "team", "a"))
    assert body is not None
    return body


def write(cluster: FakeCluster, body: KubeObject, new: RecDatasetStatus) -> None:
    asyncio.run(write_status(cluster, body, new, NOW))


def test_a_status_that_comes_late_leaves_the_next_resource_of_the_name_alone() -> None:
    cluster = FakeCluster()
    body = looked_at(cluster)
    del cluster.objects[PLACE]
    cluster.add(star("RecDataset", "team", "a", DATASET))
    write(cluster, body, status())
    assert "status" not in cluster.objects[PLACE]
    [event] = cluster.of("Event")
    assert event["involvedObject"]["uid"] == body["metadata"]["uid"] != cluster.objects[PLACE]["metadata"]["uid"]


def test_a_status_of_what_is_gone_is_no_error() -> None:
    cluster = FakeCluster()
    body = looked_at(cluster)
    del cluster.objects[PLACE]
    write(cluster, body, status())
    assert PLACE not in cluster.objects


def test_a_spec_that_changed_meanwhile_does_not_keep_the_status_from_being_written() -> None:
    cluster = FakeCluster()
    body = looked_at(cluster)
    cluster.add({**star("RecDataset", "team", "a", {"suspend": True})})
    write(cluster, body, status())
    assert cluster.objects[PLACE]["status"]["phase"] == "Running"
    assert cluster.objects[PLACE]["spec"]["suspend"] is True


def test_a_status_that_others_have_written_meanwhile_is_not_overwritten() -> None:
    cluster = FakeCluster()
    body = looked_at(cluster)
    write(cluster, dict(body), status("the operator that leads by now has written this"))
    with pytest.raises(Retryable):
        write(cluster, body, status("decided before that"))
    [ready] = [one for one in cluster.objects[PLACE]["status"]["conditions"] if one["type"] == "Ready"]
    assert ready["message"] == "the operator that leads by now has written this"


def test_a_pass_may_write_twice() -> None:
    cluster = FakeCluster()
    body = looked_at(cluster)
    write(cluster, body, status("first"))
    write(cluster, body, status("second"))
    [ready] = [one for one in cluster.objects[PLACE]["status"]["conditions"] if one["type"] == "Ready"]
    assert ready["message"] == "second"


class Dying(FakeCluster):
    """The operator dies in the write of a status."""

    async def apply_status(self, obj: KubeObject) -> KubeObject:
        raise SystemExit


def test_an_operator_that_dies_around_the_status_has_told_its_event_or_tells_it_later() -> None:
    dying = Dying()
    body = looked_at(dying)
    with pytest.raises(SystemExit):
        write(dying, body, status())
    assert "status" not in dying.objects[PLACE]
    following = FakeCluster()
    following.objects = dying.objects
    write(following, body, status())
    [event] = following.of("Event")
    assert (event["reason"], event["count"]) == ("Running", 2)


def test_an_event_that_cannot_be_posted_costs_no_status() -> None:
    class NoEvents(FakeCluster):
        async def apply(self, obj: KubeObject, *, manager: str = "") -> Any:
            if obj["kind"] == EVENT.kind:
                raise Retryable("Http500", "no events today")
            return await super().apply(obj, manager=manager)

    cluster = NoEvents()
    write(cluster, looked_at(cluster), status())
    assert cluster.objects[PLACE]["status"]["phase"] == "Running"
