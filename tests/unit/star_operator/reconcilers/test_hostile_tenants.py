"""What a tenant can do to a schedule from its own namespace: to itself a good deal, to the others nothing.

A tenant may make, change, suspend and delete StarPipelines of any name, labels and annotations in its namespace, and
knows how runs are called. It cannot choose a UID, and cannot write the schedule's status.
"""

import asyncio
import copy
from typing import Any

import pytest

from star_operator.builders.retrainschedule import spec_digest
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.reconcilers.starpipeline import StarPipelineReconciler
from tests.support.scheduleworld import SMALL, World
from tests.support.star import star

RUN = "nightly-20260601-0000"
MARKS = {
    "labels": {"star.recsys.dev/schedule": "nightly"},
    "annotations": {"star.recsys.dev/tick": "2026-06-01T00:00:00Z"},
}
HUGE: dict[str, Any] = copy.deepcopy(SMALL)
HUGE["sft"]["template"]["compute"] = {"pool": "h20", "gpusPerNode": 8, "nodes": 4}

pytestmark = pytest.mark.bad_input


def forged(world: World, namespace: str, name: str = RUN, spec: dict[str, Any] = HUGE, **status: Any) -> KubeObject:
    """A pipeline that a tenant makes in the likeness of a run."""
    fake = star("StarPipeline", namespace, name, spec)
    fake["metadata"] |= copy.deepcopy(MARKS)
    fake["metadata"]["uid"] = f"forged-{name}"
    return world.cluster.add({**fake, "status": {"phase": "Running", **status}})


def of(world: World, namespace: str, name: str = RUN) -> KubeObject:
    return world.cluster.objects["StarPipeline", namespace, name]


def uids(world: World) -> dict[str, str]:
    return {one["namespace"]: one["uid"] for one in world.status.get("runs", [])}


def started(world: World) -> list[str]:
    return [one["namespace"] for one in world.status.get("runs", [])]


def test_a_run_is_recorded_with_its_uid() -> None:
    world = World()
    world.look()
    assert uids(world) == {f"team-{n}": of(world, f"team-{n}")["metadata"]["uid"] for n in range(3)}


def test_a_pipeline_made_in_a_runs_likeness_holds_nothing_and_stands_for_nothing() -> None:
    world = World(gpuBudget=6, maxConcurrentRuns=3)
    forged(world, "team-0", "nightly-20260531-0000")
    forged(world, "elsewhere")
    world.look()
    assert sorted(started(world)) == ["team-0", "team-1", "team-2"]
    assert (world.status["running"], world.status["gpusHeld"]) == (3, 6)


def test_a_name_that_is_taken_is_told_to_its_tenant_and_holds_up_nobody() -> None:
    world = World(maxConcurrentRuns=3)
    forged(world, "team-0")
    world.look()
    world.look(60)
    assert sorted(started(world)) == ["team-1", "team-2"]
    row = world.row("team-0")
    assert (row["phase"], row["reason"]) == ("Waiting", "NameTaken")
    assert row["message"] == (
        f"StarPipeline {RUN} is in this namespace and is none of the schedule's runs: delete it, and the run starts; "
        "the next time's has another name"
    )
    assert any("NameTaken" in event for event in world.events("team-0"))
    assert of(world, "team-0")["metadata"]["uid"] == f"forged-{RUN}", "it is left alone"
    world.end(f"team-1/{RUN}")
    del world.cluster.objects["StarPipeline", "team-0", RUN]
    world.look(60)
    assert "team-0" in started(world)


def test_a_name_that_is_taken_does_not_block_the_next_time() -> None:
    world = World(tenants=1)
    forged(world, "team-0")
    world.look()
    world.look(86400)
    assert [one["tick"] for one in world.status["runs"]] == ["2026-06-02T00:00:00Z"]


def test_a_run_that_is_replaced_by_another_of_its_name_is_gone() -> None:
    world = World(gpuBudget=2)
    world.look()
    [first] = started(world)
    del world.cluster.objects["StarPipeline", first, RUN]
    forged(world, first)
    world.look(60)
    assert len(started(world)) == 1
    assert started(world) != [first]
    assert world.status["gpusHeld"] == 2


class Dies(Exception):
    """The operator's process ends."""


@pytest.mark.parametrize("made", ["none", "all", "a forged one"])
def test_an_operator_that_dies_between_intent_and_record_adopts_its_own_alone(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tenants=1)
    create = world.cluster.create

    async def dies(obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        if dry_run:
            return await create(obj, dry_run=True)
        if made == "all":
            await create(obj)
        if made == "a forged one":
            forged(world, "team-0")
        raise Dies

    monkeypatch.setattr(world.cluster, "create", dies)
    with pytest.raises(Dies):
        world.look()
    [intent] = world.status["runs"]
    assert not intent.get("uid")
    assert intent["spec"].startswith("sha256:")
    monkeypatch.undo()
    world.look(1)
    if made == "a forged one":
        assert started(world) == []
        assert world.row("team-0")["reason"] == "NameTaken"
        return
    [record] = world.status["runs"]
    assert record["uid"] == of(world, "team-0")["metadata"]["uid"]
    assert not record.get("spec")
    assert (world.status["running"], world.status["gpusHeld"]) == (1, 2)


def test_the_own_run_is_adopted_as_the_api_server_keeps_it_and_after_its_tenant_suspended_it() -> None:
    world = World(tenants=1)
    world.look()
    of(world, "team-0")["spec"] |= {"suspend": True, "cancel": False, "variants": {}, "baseModel": "Base"}
    world.status["runs"] = [{**world.status["runs"][0], "uid": ""}]
    record = world.status["runs"][0]
    record["spec"] = spec_digest(of(world, "team-0"))
    world.look(1)
    assert started(world) == ["team-0"]


def suspends(world: World, namespace: str, *, suspended: bool = True) -> None:
    run = of(world, namespace)
    run["spec"]["suspend"] = suspended
    if suspended:
        run["status"] = {"phase": "Suspended"}


def test_a_suspended_run_gives_its_place_to_others_and_takes_it_again_in_its_turn() -> None:
    world = World(gpuBudget=2, tenants=2)
    world.look()
    [first] = started(world)
    suspends(world, first)
    world.look(60)
    assert len(started(world)) == 1, "it is written down first"
    world.look(1)
    assert len(started(world)) == 2
    assert world.status["gpusHeld"] == 2
    row = world.row(first)
    assert (row["phase"], row.get("gpus", 0)) == ("Suspended", 0)
    suspends(world, first, suspended=False)
    world.look(60)
    record = next(one for one in world.status["runs"] if one["namespace"] == first)
    assert record["setAside"] is True
    assert "of 2 (spec.gpuBudget) are held" in world.row(first)["message"]
    assert world.status["gpusHeld"] == 2
    [second] = [name for name in started(world) if name != first]
    world.end(f"{second}/{RUN}")
    world.look(60)
    world.look(1)
    record = next(one for one in world.status["runs"] if one["namespace"] == first)
    assert not record.get("setAside", False), "it waited longest"
    assert len(started(world)) == 2
    assert world.status["gpusHeld"] == 2


def test_who_suspends_and_resumes_without_end_does_not_pass_the_others() -> None:
    world = World(gpuBudget=2, tenants=4)
    world.look()
    [first] = started(world)
    for _ in range(20):
        suspends(world, first)
        world.look(30)
        world.look(1)
        suspends(world, first, suspended=False)
        world.look(1)
        for namespace in started(world):
            if namespace != first:
                world.end(f"{namespace}/{RUN}")
        world.look(30)
        assert world.status["gpusHeld"] <= 2
    assert len(started(world)) == 4


def test_labels_and_owners_that_a_tenant_takes_off_change_nothing() -> None:
    world = World(gpuBudget=2)
    world.look()
    [first] = started(world)
    of(world, first)["metadata"] |= {"labels": {}, "annotations": {}, "ownerReferences": []}
    world.look(60)
    assert (started(world), world.status["gpusHeld"]) == ([first], 2)
    assert of(world, first)["metadata"]["labels"]["star.recsys.dev/schedule"] == "nightly"
    world.end(f"{first}/{RUN}")
    of(world, first)["metadata"] |= {"labels": {}, "annotations": {}}
    world.look(60)
    world.look(1)
    assert len(started(world)) == 2


def test_a_run_that_its_tenant_deletes_makes_room_also_when_a_finalizer_keeps_it() -> None:
    world = World(gpuBudget=2)
    world.look()
    [first] = started(world)
    of(world, first)["metadata"] |= {"deletionTimestamp": "2026-06-01T00:01:00Z", "finalizers": ["mine/stays"]}
    of(world, first)["status"] = {"phase": "Running"}
    world.look(60)
    world.look(1)
    assert len(started(world)) == 2
    assert world.status["gpusHeld"] == 2


def test_ten_thousand_forged_runs_are_not_even_looked_at() -> None:
    world = World()
    for n in range(10_000):
        forged(world, "team-0", f"nightly-2020{n:04d}-0000")
    listed = []
    list_objects = world.cluster.list_objects

    async def counted(*args: Any, **selectors: Any) -> list[KubeObject]:
        found = await list_objects(*args, **selectors)
        listed.append(len(found))
        return found

    world.cluster.list_objects = counted  # type: ignore[method-assign]
    world.look()
    world.look(60)
    assert sorted(started(world)) == ["team-0", "team-1", "team-2"]
    assert max(listed) <= 3


def test_a_run_that_never_ends_is_cancelled_and_counts_no_longer_where_that_does_not_help() -> None:
    world = World(gpuBudget=2, activeDeadlineSeconds=3600)
    world.look()
    [first] = started(world)
    of(world, first)["status"] = {"phase": "Waiting"}
    world.look(3599)
    assert not of(world, first)["spec"].get("cancel")
    world.look(1)
    assert of(world, first)["spec"]["cancel"] is True
    assert world.status["gpusHeld"] == 2
    world.look(600)
    assert len(started(world)) == 2
    assert world.status["gpusHeld"] == 2


def test_a_run_that_has_ended_and_is_retried_waits_for_its_place() -> None:
    world = World(gpuBudget=2)
    world.look()
    [first] = started(world)
    world.end(f"{first}/{RUN}", "Failed")
    world.look(60)
    record = next(one for one in world.status["runs"] if one["namespace"] == first)
    assert record["setAside"] is True
    of(world, first)["status"] = {"phase": "Suspended"}  # as its own reconciler leaves a retry that has to wait
    world.look(60)
    assert world.status["gpusHeld"] == 2
    assert "are held" in world.row(first)["message"] or "before it" in world.row(first)["message"]


def test_a_run_that_was_set_aside_stays_suspended_until_its_schedule_lets_it_go_on() -> None:
    world = World(tenants=1)
    world.look()
    run = of(world, "team-0")
    run["spec"]["suspend"] = False
    run["status"] = {"phase": "Suspended", "resolved": True}
    world.status["runs"][0]["setAside"] = True
    goes_on(world)
    assert of(world, "team-0")["status"]["phase"] == "Suspended"
    assert all(one["spec"]["suspend"] is True for one in world.cluster.of("SFTJob"))
    world.status["runs"][0]["setAside"] = False
    goes_on(world)
    assert of(world, "team-0")["status"]["phase"] != "Suspended"
    assert not any(one["spec"].get("suspend") for one in world.cluster.of("SFTJob"))


def test_a_retry_of_a_run_that_has_ended_begins_suspended() -> None:
    world = World(tenants=1)
    world.look()
    world.end(f"team-0/{RUN}", "Failed", resolved=True)
    world.look(60)
    of(world, "team-0")["metadata"]["annotations"]["star.recsys.dev/retry"] = "sft"
    goes_on(world)
    goes_on(world)
    assert of(world, "team-0")["status"]["phase"] == "Suspended"
    world.look(60)
    world.look(1)
    assert not world.status["runs"][0].get("setAside", False)
    goes_on(world)
    assert of(world, "team-0")["status"]["phase"] != "Suspended"


def test_a_retry_that_begins_while_the_end_is_seen_leaves_no_two_runs_in_one_place() -> None:
    world = World(tenants=2, gpuBudget=2)
    world.look()
    [first] = started(world)
    world.end(f"{first}/{RUN}", "Failed")
    world.look(60)
    of(world, first)["status"] = {"phase": "Running"}
    world.look(1)
    assert (started(world), world.status["gpusHeld"]) == ([first], 2)


def goes_on(world: World) -> None:
    """The pipeline's own reconciler looks at the run of team-0."""
    asyncio.run(StarPipelineReconciler(world.context).reconcile(Key("StarPipeline", "team-0", RUN)))


def test_a_status_that_no_pipeline_has_stops_nobody() -> None:
    world = World(tenants=1)
    world.look()
    of(world, "team-0")["status"] = {"phase": "Dancing", "conditions": 3}
    world.look(60)
    assert world.row("team-0")["phase"] == "Running"
