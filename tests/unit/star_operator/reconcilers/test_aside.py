"""Which schedule is asked for a suspended pipeline: the one that its name tells, and for most pipelines none."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.retrainschedule import may_be_run, parts_of, run_name
from star_operator.core.objects import KubeObject
from star_operator.kube.resources import ResourceType
from star_operator.reconcilers.aside import is_set_aside
from tests.support.fakecluster import FakeCluster
from tests.support.pipelines import SPEC
from tests.support.star import star

LONG = "a-schedule-with-a-name-too-long-for-its-runs"


class Counting(FakeCluster):
    """Says which requests were made."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def get(self, rtype: ResourceType, namespace: str, name: str) -> KubeObject | None:
        self.asked.append(f"get {name}")
        return await super().get(rtype, namespace, name)

    async def list_objects(self, rtype: ResourceType, *args: Any, **kwargs: Any) -> list[KubeObject]:
        self.asked.append(f"list {rtype.kind}")
        return await super().list_objects(rtype, *args, **kwargs)


def asked(name: str, *schedules: str) -> tuple[bool, list[str]]:
    """Whether a pipeline of this name is set aside by one of these schedules, and what was asked for that."""
    cluster = Counting()
    pipeline = cluster.add(star("StarPipeline", "team", name, SPEC))
    uid = pipeline["metadata"]["uid"]
    for schedule in schedules:
        body = star("RetrainSchedule", "", schedule, {"schedule": "0 0 * * *", "pipeline": SPEC})
        cluster.add({**body, "status": {"runs": [{"uid": uid, "setAside": True}]}})
    return asyncio.run(is_set_aside(cluster, StarPipeline.parse(pipeline))), cluster.asked


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("weekly", []),
        ("weekly-deadbeef", []),
        ("weekly-20260601", []),
        ("weekly-20261301-0000", []),
        ("weekly-20260601-000000", []),
        ("weekly-20260601-0000", ["get weekly"]),
        ("weekly-20260601-000030", ["get weekly"]),
        (run_name(LONG, 0), ["list RetrainSchedule"]),
        (run_name("1.of-ours", 0), ["list RetrainSchedule"]),
    ],
)
def test_only_what_may_be_a_run_costs_a_request(name: str, requests: list[str]) -> None:
    assert asked(name) == (False, requests)


@pytest.mark.parametrize("schedule", ["nightly", LONG, "1.of-ours"])
def test_a_run_is_found_with_no_label_at_all(schedule: str) -> None:
    assert asked(run_name(schedule, 1_780_272_000), schedule)[0]


NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,3}", fullmatch=True)


@given(NAME, st.integers(0, 4_000_000_000))
def test_every_runs_name_is_known_as_one(schedule: str, tick: int) -> None:
    name = run_name(schedule, tick)
    assert may_be_run(name)
    assert parts_of(name) in (None, (schedule, tick))
