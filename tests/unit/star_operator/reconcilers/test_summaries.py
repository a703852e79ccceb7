"""Teacher and student are told of one look-up store: its summaries are for those without tools, too."""

import asyncio
from typing import Any

import pytest

from star_contracts.job import TrainSFT
from star_operator.api.kinds import BY_KIND
from star_operator.builders import sftjob as sft_builder
from star_operator.builders.step import Inputs
from star_operator.core.errors import Waiting
from star_operator.reconcilers import evaluation, grpojob, sftjob, teacherrun
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import ARTIFACTS, settings
from tests.support.star import BASE_LLM, DATASET, checkpoint, star

NAMED = {"dataset": {"name": "d"}, "verbalization": {"name": "v"}}
SPECS: dict[str, tuple[Any, dict[str, Any]]] = {
    "TeacherRun": (teacherrun, {**NAMED, "llm": BASE_LLM, "agents": {"tools": False}}),
    "SFTJob": (sftjob, {"model": {"checkpoint": "base"}, "trajectories": {"name": "t"}}),
    "GRPOJob": (grpojob, {**NAMED, "model": {"checkpoint": "base"}, "variant": "WithoutTools"}),
    "Evaluation": (evaluation, {**NAMED, "llm": BASE_LLM, "settings": {"tools": False, "variant": "WithoutTools"}}),
}


def cluster(*missing: str) -> FakeCluster:
    """A namespace where everything has ended that is not missing."""
    made = FakeCluster()
    made.add(checkpoint("team"))
    for kind, name, spec, role in (
        ("RecDataset", "d", DATASET, "dataset"),
        ("Verbalization", "v", {"dataset": {"name": "d"}, "llm": BASE_LLM}, "signals"),
        ("TeacherRun", "t", SPECS["TeacherRun"][1], "trajectories"),
    ):
        artifact = {**ARTIFACTS[role].to_json_dict(), "bytes": 1}
        if name not in missing:
            made.add(star(kind, "team", name, spec) | {"status": {"phase": "Succeeded", "artifact": artifact}})
    return made


def resolved(kind: str, *missing: str) -> Inputs:
    reconciler, spec = SPECS[kind]
    resource = BY_KIND[kind].parse(star(kind, "team", "x", spec))
    found: Inputs = asyncio.run(reconciler.inputs(cluster(*missing), resource))
    return found


@pytest.mark.parametrize("kind", SPECS)
def test_who_has_no_tools_has_the_store_all_the_same(kind: str) -> None:
    assert resolved(kind).artifacts["signals"] == ARTIFACTS["signals"]


def test_an_sftjob_takes_the_store_of_its_teacher() -> None:
    resource = BY_KIND["SFTJob"].parse(star("SFTJob", "team", "x", SPECS["SFTJob"][1]))
    step = sft_builder.plan("train", resource, resolved("SFTJob"), {}, settings())  # type: ignore[arg-type]
    assert isinstance(step.stage, TrainSFT)
    assert step.stage.signals == ARTIFACTS["signals"]
    assert step.inputs["signals"] == ARTIFACTS["signals"].digest


@pytest.mark.bad_input
def test_an_sftjob_whose_teachers_store_is_gone_says_whose_it_was() -> None:
    with pytest.raises(Waiting, match=r"spec\.trajectories \(t\)\.verbalization names Verbalization v, which does not"):
        resolved("SFTJob", "v")
