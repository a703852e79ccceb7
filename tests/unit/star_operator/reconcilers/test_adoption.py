"""A schedule's runs under a new operator: one whose status knew no records, and one restored from a backup."""

from typing import Any

import pytest

from tests.support.pipelines import SPEC
from tests.support.scheduleworld import World
from tests.support.star import star

RUN = "nightly-20260601-0000"


def of_an_older_version(world: World) -> None:
    """Nobody has written records yet."""
    del world.status["runs"], world.status["ofUid"]


def uids(world: World) -> dict[str, str]:
    return {record["namespace"]: record["uid"] for record in world.status["runs"]}


def test_runs_of_an_older_version_go_on_within_the_budget() -> None:
    world = World(gpuBudget=4, concurrencyPolicy="Forbid")
    world.look()
    assert len(world.runs) == 2
    before = uids(world)
    of_an_older_version(world)
    world.look(60)
    world.look(86400)
    assert len(world.runs) == 2, "nobody's run is made twice, and there is no room for the third"
    assert uids(world) == before
    assert world.status["gpusHeld"] == 4
    assert {record["gpus"] for record in world.status["runs"]} == {2}


def test_what_was_taken_over_is_written_down_before_anything_is_decided() -> None:
    world = World(tenants=2, maxConcurrentRuns=1)
    world.look()
    [first] = world.runs
    of_an_older_version(world)
    world.schedule["spec"]["maxConcurrentRuns"] = 2
    world.cluster.dies_after = 0
    with pytest.raises(KeyboardInterrupt):
        world.look(1)
    assert first.split("/")[0] in uids(world)
    assert world.status["ofUid"] == world.schedule["metadata"]["uid"]


@pytest.mark.parametrize("schedule", ["nightly", "a-schedule-with-a-name-too-long-for-its-runs"])
def test_ended_runs_of_an_older_version_are_known_too(schedule: str) -> None:
    world = World(tenants=1, name=schedule)
    world.look()
    [run] = world.runs
    world.end(run)
    world.look(1)
    of_an_older_version(world)
    world.look(1)
    [record] = world.status["runs"]
    assert (record["gpus"], record["tick"]) == (0, "2026-06-01T00:00:00Z")


@pytest.mark.parametrize("row", ["nightly-20260601-0001", "another-20260601-0000", "mine", "nightly-20261301-0000"])
def test_what_is_none_of_its_runs_is_not_taken_over(row: str) -> None:
    world = World(tenants=1)
    mine = star("StarPipeline", "team-0", "mine", SPEC)
    for name in ("another-20260601-0000", "mine", "nightly-20261301-0000"):
        mine["metadata"] = {**mine["metadata"], "name": name}
        mine["metadata"]["annotations"] = {"star.recsys.dev/tick": "2026-06-01T00:00:00Z"}
        world.cluster.add(mine)
    world.status["tenants"][0]["run"] = row
    of_an_older_version(world)
    world.look(-60)
    assert world.status["runs"] == []


@pytest.mark.bad_input
def test_a_pipeline_in_the_place_of_a_run_that_is_gone_is_never_taken_over() -> None:
    world = World(tenants=1)
    world.look()
    del world.cluster.objects["StarPipeline", "team-0", RUN]
    forged = star("StarPipeline", "team-0", RUN, SPEC)
    forged["metadata"]["annotations"] = {"star.recsys.dev/tick": "2026-06-01T00:00:00Z"}
    world.cluster.add(forged)
    world.look(1)
    world.look(1)
    assert world.status["runs"] == []
    assert world.row("team-0")["run"] == RUN


@pytest.mark.bad_input
def test_a_schedule_that_does_not_fit_this_version_loses_no_runs() -> None:
    world = World(tenants=1)
    world.look()
    of_an_older_version(world)
    world.schedule["spec"]["unheard"] = 1
    world.look(1)
    assert "does not fit this operator's version" in world.message
    del world.schedule["spec"]["unheard"]
    world.look(1)
    assert list(uids(world)) == ["team-0"]


def restored(world: World) -> None:
    """Everything is back, under other UIDs."""
    for (kind, _, _), found in world.cluster.objects.items():
        if kind in ("RetrainSchedule", "StarPipeline"):
            found["metadata"]["uid"] = f"restored-{found['metadata']['uid']}"


def test_a_restore_from_a_backup_keeps_the_runs() -> None:
    world = World(gpuBudget=4)
    world.look()
    before = uids(world)
    restored(world)
    world.look(60)
    assert uids(world) == {namespace: f"restored-{uid}" for namespace, uid in before.items()}
    assert (len(world.runs), world.status["gpusHeld"]) == (2, 4)
    assert world.status["ofUid"] == world.schedule["metadata"]["uid"]


@pytest.mark.bad_input
def test_uids_are_taken_anew_once() -> None:
    world = World(tenants=1)
    world.look()
    restored(world)
    world.look(1)
    found: dict[str, Any] = world.cluster.objects["StarPipeline", "team-0", RUN]["metadata"]
    found["uid"] = "forged"
    world.look(1)
    assert world.status["runs"] == []
