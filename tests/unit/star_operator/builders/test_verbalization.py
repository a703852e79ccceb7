"""Verbalization -> its steps: what a refresh adds to them, and what it waits for."""

import asyncio
from typing import Any

import pytest

from star_contracts.errors import WarningReason
from star_contracts.job import CollectSignals, ComputeNeighbours, VerbalizeSignals, Whole
from star_operator.api.verbalization import Verbalization
from star_operator.builders.job import job_spec
from star_operator.builders.step import Inputs, Owner, Step
from star_operator.builders.verbalization import plan
from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.reconcilers import verbalization
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import ARTIFACTS, artifact, parse, settings
from tests.support.star import star

NEIGHBOURS, BEFORE = artifact("neighbours", "7"), artifact("verbalization", "8")
SPEC: dict[str, Any] = {
    "dataset": {"name": "d"},
    "llm": {"endpoint": {"url": "http://llm.example.com/v1", "model": "m"}},
}
TOLERANT: dict[str, Any] = {"neighbours": {"tolerance": 0.25}}


def resource(**more: Any) -> Verbalization:
    meta = {"metadata": {"name": "v", "namespace": "team"}}
    cr = parse({"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Verbalization", **meta, "spec": SPEC | more})
    assert isinstance(cr, Verbalization)
    return cr


def step(name: str, spec: dict[str, Any] | None = None, **more: Any) -> Step:
    inputs = Inputs({"dataset": ARTIFACTS["dataset"], **more})
    return plan(name, resource(**(spec or {})), inputs, {"neighbours": NEIGHBOURS}, settings())


def test_the_store_to_refresh_reaches_the_verbalizers_and_the_collector_and_is_no_part_of_their_work() -> None:
    for name, stage in (("verbalize", VerbalizeSignals), ("collect", CollectSignals)):
        alone, refresh = step(name), step(name, previous=BEFORE)
        assert isinstance(alone.stage, stage)
        assert alone.stage.previous is None
        assert isinstance(refresh.stage, stage)
        assert refresh.stage.previous == BEFORE
        assert (refresh.inputs, refresh.work_hash) == (alone.inputs, alone.work_hash)
    assert step("neighbours").work_hash == step("neighbours", previous=BEFORE).work_hash


def test_neighbours_that_are_gone_on_from_are_part_of_the_work_as_they_decide_what_is_made() -> None:
    earlier = {"previous": BEFORE, "previous_neighbours": NEIGHBOURS}
    exact, alone, refresh = (
        step("neighbours", spec, **artifacts)
        for spec, artifacts in (({}, earlier), (TOLERANT, {}), (TOLERANT, earlier))
    )
    assert exact.work_hash == step("neighbours").work_hash, "without a tolerance nothing of them is kept"
    assert len({exact.work_hash, alone.work_hash, refresh.work_hash}) == 3
    assert isinstance(exact.stage, ComputeNeighbours)
    assert exact.stage.previous is None
    assert isinstance(refresh.stage, ComputeNeighbours)
    assert refresh.stage.previous == NEIGHBOURS
    spec = job_spec(Owner("Verbalization", "team", "v", "u"), refresh, 1, settings(), resource().spec)
    assert spec.inputs == {"dataset": ARTIFACTS["dataset"].digest, "previous": NEIGHBOURS.digest}, "its lineage"
    for name in ("verbalize", "collect"):
        assert step(name, TOLERANT, **earlier).work_hash == step(name, TOLERANT).work_hash, "the lists decide"


def test_the_verbalizers_know_where_the_store_is_remembered_that_is_collected_from_their_parts() -> None:
    owner = Owner("Verbalization", "team", "v", "u")
    verbalize, collect = (
        job_spec(owner, step(name), 1, settings(), resource().spec) for name in ("verbalize", "collect")
    )
    assert verbalize.whole == Whole(
        memo=str(collect.memo), work_hash=collect.producer.work_hash, step="collect", inputs=collect.inputs
    )
    assert (verbalize.memo, collect.whole) == (None, None)
    fresh = job_spec(owner, step("verbalize"), 1, settings(), resource(cachePolicy="Never").spec)
    assert fresh.whole is None


def inputs_of(cluster: FakeCluster, previous: str) -> Inputs:
    return asyncio.run(verbalization.inputs(cluster, resource(previous={"name": previous})))


@pytest.fixture
def cluster() -> FakeCluster:
    """A namespace with a finished dataset, and Verbalizations at different stages."""
    done = {"phase": "Succeeded", "artifact": {**ARTIFACTS["dataset"].to_json_dict(), "bytes": 1}}
    cluster = FakeCluster()
    source = {"source": {"format": "MovieLens", "uri": "s3://star/raw"}}
    cluster.add(star("RecDataset", "team", "d", source) | {"status": done})
    steps = [{"name": "neighbours", "phase": "Succeeded", "artifact": {**NEIGHBOURS.to_json_dict(), "bytes": 1}}]
    finished = {"phase": "Succeeded", "artifact": {**BEFORE.to_json_dict(), "bytes": 1}, "steps": steps}
    cluster.add(star("Verbalization", "team", "last-week", SPEC) | {"status": finished})
    cluster.add(star("Verbalization", "team", "running", SPEC) | {"status": {"phase": "Running"}})
    cluster.add(star("Verbalization", "team", "broken", SPEC) | {"status": {"phase": "Failed"}})
    return cluster


def test_an_earlier_verbalization_is_refreshed_once_it_has_ended(cluster: FakeCluster) -> None:
    found = inputs_of(cluster, "last-week").artifacts
    assert (found["previous"], found["previous_neighbours"]) == (BEFORE, NEIGHBOURS)
    with pytest.raises(Waiting, match=r"spec\.previous: Verbalization running is Running"):
        inputs_of(cluster, "running")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone", "spec.previous names Verbalization gone, which does not exist"),
        ("broken", "spec.previous: Verbalization broken failed"),
    ],
)
@pytest.mark.bad_input
def test_an_earlier_verbalization_that_is_not_there_any_more_is_done_without_and_a_warning_says_so(
    cluster: FakeCluster, name: str, why: str
) -> None:
    found = inputs_of(cluster, name)
    assert set(found.artifacts) == {"dataset"}
    assert [warning.reason for warning in found.warnings] == [WarningReason.PREVIOUS_GONE]
    assert found.warnings[0].message.startswith(why)
    verbalize = plan("verbalize", resource(), found, {"neighbours": NEIGHBOURS}, settings())
    assert verbalize.warnings == found.warnings
    assert verbalize.work_hash == step("verbalize").work_hash


@pytest.mark.bad_input
def test_a_verbalization_cannot_refresh_itself(cluster: FakeCluster) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.previous names v itself.*leave previous out"):
        inputs_of(cluster, "v")


def test_the_headline_tells_what_was_reused() -> None:
    assert verbalization.headline({"entries": 52, "reused": 51, "made": 1}) == "52 entries, 51 of them reused"
    assert verbalization.headline({"entries": 52, "reused": 0, "made": 52}) == "52 entries"
