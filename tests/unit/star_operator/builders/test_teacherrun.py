"""TeacherRun -> its steps: the run that it goes on from is no part of the work."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from star_contracts.errors import WarningReason
from star_contracts.job import GenerateTrajectories
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders.step import Inputs, Step
from star_operator.builders.teacherrun import plan
from star_operator.core.errors import InvalidSpec
from star_operator.reconcilers import teacherrun
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import ARTIFACTS, artifact, parse, settings
from tests.support.star import DATASET, star

BEFORE = artifact("trajectories", "8")
SPEC: dict[str, Any] = {
    "dataset": {"name": "d"},
    "agents": {"tools": False},
    "llm": {"endpoint": {"url": "http://llm.example.com/v1", "model": "m"}},
}


def resource(**more: Any) -> TeacherRun:
    cr = parse(star("TeacherRun", "team", "t", SPEC | more))
    assert isinstance(cr, TeacherRun)
    return cr


def inputs_of(previous: str) -> Inputs:
    cluster = FakeCluster()
    done = {"phase": "Succeeded", "artifact": {**ARTIFACTS["dataset"].to_json_dict(), "bytes": 1}}
    cluster.add(star("RecDataset", "team", "d", DATASET) | {"status": done})
    finished = {"phase": "Succeeded", "artifact": {**BEFORE.to_json_dict(), "bytes": 1}}
    cluster.add(star("TeacherRun", "team", "last-week", SPEC) | {"status": finished})
    return asyncio.run(teacherrun.inputs(cluster, resource(previous={"name": previous})))


def step(name: str, inputs: Inputs) -> Step:
    return plan(name, resource(), inputs, {}, settings())


def test_the_trajectories_to_go_on_from_reach_the_workers_and_are_no_part_of_their_work() -> None:
    found = inputs_of("last-week")
    alone = replace(found, artifacts={"dataset": found.artifacts["dataset"]})
    generate = step("generate", found)
    assert isinstance(generate.stage, GenerateTrajectories)
    assert generate.stage.previous == BEFORE
    for name in ("generate", "collect"):
        assert step(name, found).work_hash == step(name, alone).work_hash
        assert step(name, found).inputs == step(name, alone).inputs
    assert generate.collected_by is not None
    assert generate.collected_by.work_hash == step("collect", alone).work_hash


@pytest.mark.bad_input
def test_a_run_that_is_gone_is_done_without_and_none_goes_on_from_itself() -> None:
    found = inputs_of("gone")
    assert "previous" not in found.artifacts
    assert [warning.reason for warning in step("generate", found).warnings] == [WarningReason.PREVIOUS_GONE]
    with pytest.raises(InvalidSpec, match=r"spec\.previous names t itself.*name an earlier TeacherRun"):
        inputs_of("t")


def test_the_headline_tells_what_was_reused() -> None:
    assert teacherrun.headline({"kept": 5, "trajectories": 8, "reused": 7}) == "5 of 8 kept, 7 reused"
    assert teacherrun.headline({"kept": 5, "trajectories": 8, "reused": 0}) == "5 of 8 kept"
