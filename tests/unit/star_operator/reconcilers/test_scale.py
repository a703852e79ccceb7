"""A StarDeployment that is scaled: to nothing and back, and by copies of several nodes."""

import json
from typing import Any

import pytest

from star_operator.core.labels import LABEL_SERVER
from star_operator.core.objects import KubeObject
from tests.support.star import ready_message
from tests.unit.star_operator.reconcilers.test_stardeployment import DIGESTS, World


def holds(world: World) -> bool:
    """Whether the gateway has requests wait for a server."""
    [config] = [obj for obj in world.cluster.of("ConfigMap") if "gateway.json" in obj.get("data", {})]
    held: bool = json.loads(config["data"]["gateway.json"])["hold"]
    return held


def condition(world: World, type_: str) -> dict[str, Any]:
    return next((one for one in world.status["conditions"] if one["type"] == type_), {})


@pytest.mark.case("scale-to-zero")
def test_requests_wait_from_the_last_server_to_the_next() -> None:
    world = World()
    world.passes()
    assert not holds(world)
    assert condition(world, "ScaledToZero") == {}, "it never was"

    world.change(server={"replicas": 0})
    world.passes()
    assert holds(world)
    assert (world.status["phase"], condition(world, "Ready")["reason"]) == ("Ready", "ScaledToZero")
    assert "wait for a server, for up to 60 s" in ready_message(world.status)
    assert (world.status["replicas"], world.status["servingDigest"]) == (0, DIGESTS["old"])

    world.change(server={"replicas": 1})
    world.broken.add("old")
    world.passes()
    assert holds(world), "the server is starting"
    assert condition(world, "ScaledToZero")["status"] == "True"

    world.broken.clear()
    world.passes()
    assert not holds(world)
    assert (world.status["phase"], condition(world, "ScaledToZero")["status"]) == ("Ready", "False")

    world.broken.add("old")
    world.passes()
    assert not holds(world), "a server that fails is no server that was scaled to nothing"


@pytest.mark.case("scale-to-zero")
def test_one_that_starts_at_nothing_is_ready_without_a_server() -> None:
    world = World(server={"replicas": 0})
    world.passes()
    assert (world.status["phase"], holds(world)) == ("Ready", True)
    assert world.cluster.of("Pod") == []


@pytest.mark.case("scale-to-zero")
def test_a_rollout_at_nothing_needs_no_server() -> None:
    world = World(server={"replicas": 0})
    world.passes()
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(1, seconds=60)
    assert world.weights == {"old": 80, "new": 20}
    world.passes(2, seconds=60)
    world.passes(1)
    assert world.weights == {"new": 100}
    assert world.status["servingDigest"] == DIGESTS["new"]


def test_suspension_holds_nothing() -> None:
    world = World(server={"replicas": 0}, suspend=True)
    world.passes()
    assert not holds(world)


def test_copies_of_several_nodes_go_when_they_are_scaled_away() -> None:
    def copies(world: World) -> set[str]:
        found: list[KubeObject] = world.cluster.of("StatefulSet")
        return {one["metadata"]["name"].removeprefix(f"{one['metadata']['labels'][LABEL_SERVER]}-") for one in found}

    compute = {"pool": "h20", "nodes": 2, "gpusPerNode": 8}
    server = {"tensorParallelSize": 16, "compute": compute}
    world = World(server={**server, "replicas": 2})
    world.passes()
    assert copies(world) == {"0", "0-w", "1", "1-w"}
    world.change(server={**server, "replicas": 1})
    world.passes()
    assert copies(world) == {"0", "0-w"}
