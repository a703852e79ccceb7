"""Pods that end in other ways than by themselves: what the resource says, and what is left of them."""

from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.result import JobResult
from star_operator.core.errors import Retryable
from star_operator.reconcilers import recdataset, verbalization
from star_operator.reconcilers import run as run_module
from tests.support.star import DATASET, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World

DONE = JobResult(artifact=ArtifactRef(uri="s3://star/team/d", digest="sha256:" + "a" * 64), bytes=1)


def run_of_a_dataset(**spec: Any) -> World:
    world = World(recdataset.KIND, star("RecDataset", NAMESPACE, "d", DATASET | spec))
    world.passes(1)
    return world


def main_has_ended(world: World, code: int, message: str) -> None:
    """The pod's container `main` has ended, another one goes on."""
    ended = {"exitCode": code, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}
    statuses = [
        {"name": "main", "state": {"terminated": ended}},
        {"name": "side-car", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
    ]
    world.pod({"phase": "Running", "containerStatuses": statuses, "conditions": []})


@pytest.mark.case("side-car")
def test_a_side_car_that_never_ends_does_not_keep_the_run_from_its_end() -> None:
    world = run_of_a_dataset()
    main_has_ended(world, 0, DONE.termination_message())
    world.passes(1)
    assert world.status["phase"] == "Succeeded"
    assert world.status["artifact"]["digest"] == DONE.artifact.digest if DONE.artifact else False
    world.passes(1)  # what is decided is written down first, so that it is decided once
    assert world.cluster.of("Job") == world.cluster.of("Pod") == [], "nothing goes on"


@pytest.mark.parametrize(
    "taken",
    [
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]},
        {"alone": True},
    ],
    ids=["deleted", "drained", "a phase that is late"],
)
def test_a_pod_whose_main_was_ended_with_it_is_no_side_cars_doing(taken: dict[str, Any]) -> None:
    world = run_of_a_dataset()
    main_has_ended(world, 75, "")
    [pod] = world.cluster.of("Pod")
    pod["metadata"] |= taken.get("metadata", {})
    pod["status"]["conditions"] = taken.get("conditions", [])
    if "alone" in taken:
        del pod["status"]["containerStatuses"][1]
    world.passes(1)
    assert (world.status["phase"], world.status["attempt"]) == ("Running", 1)


def test_a_verdict_that_cannot_be_written_down_is_reached_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = run_of_a_dataset()
    main_has_ended(world, 0, DONE.termination_message())
    with monkeypatch.context() as broken:

        async def fails(*_: Any, **__: Any) -> None:
            raise Retryable("InternalError", "etcdserver: request timed out")

        broken.setattr(run_module, "write_status", fails)
        with pytest.raises(Retryable):
            world.passes(1)
    assert world.cluster.of("Job"), "nothing is cleared before it is written down"
    world.passes(1)
    assert world.status["phase"] == "Succeeded"


@pytest.mark.case("evicted-scratch")
def test_scratch_that_is_too_small_fails_at_once_and_names_its_field() -> None:
    world = run_of_a_dataset(compute={"resources": {"scratch": "20Mi"}}, retries=5)
    [job] = world.cluster.of("Job")
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "has reached the limit"}
    job["status"] = {"conditions": [failed]}
    message = 'Usage of EmptyDir volume "work" exceeds the limit "20Mi". '
    world.pod({"phase": "Failed", "reason": "Evicted", "message": message})
    world.passes(1)
    assert (world.status["phase"], world.status["attempt"]) == ("Failed", 1)
    text = ready_message(world.status)
    assert 'evicted: Usage of EmptyDir volume "work" exceeds the limit "20Mi"' in text
    assert "raise spec.compute.resources.scratch" in text


def test_what_waits_for_another_says_what_that_one_waits_for() -> None:
    sentence = "step prepare: Job d cannot make its pods: exceeded quota: team"
    condition = {"type": "Ready", "status": "False", "reason": "PodsRefused", "message": sentence}
    waiting = {**star("RecDataset", NAMESPACE, "d", DATASET), "status": {"phase": "Waiting", "conditions": [condition]}}
    spec = {"dataset": {"name": "d"}, "llm": {"endpoint": {"url": "http://llm.test/v1", "model": "m"}}}
    world = World(verbalization.KIND, star("Verbalization", NAMESPACE, "v", spec), waiting)
    world.passes(1)
    assert ready_message(world.status) == f"spec.dataset: RecDataset d is Waiting: {sentence}"


def test_a_resource_of_another_versions_crd_says_which_field_does_not_fit() -> None:
    resource = star("RecDataset", NAMESPACE, "d", DATASET | {"ofALaterVersion": 1})
    world = World(recdataset.KIND, {**resource, "status": {"phase": "Running", "attempt": 3}})
    world.passes(1)
    assert (world.status["phase"], world.status["attempt"]) == ("Waiting", 3)
    assert "it does not fit this operator's version: spec.ofALaterVersion: " in ready_message(world.status)
    assert world.cluster.of("Job") == []
