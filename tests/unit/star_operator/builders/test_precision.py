"""`precision: auto` and the work hash: one work on all processors, and on GPUs that of bfloat16."""

import importlib
from typing import Any

import pytest

from star_contracts.settings import Precision
from star_operator.api.grpojob import GRPOJobSpec
from star_operator.api.sftjob import SFTJobSpec
from star_operator.builders.step import Step
from tests.support.goldens import artifact, inputs, resource, settings


def training(case: str, **hyperparameters: Any) -> Step:
    """The training step of a golden case, with other hyper-parameters."""
    cr = resource(case)
    changed = cr.spec.hyperparameters.model_copy(update=hyperparameters)
    cr = cr.model_copy(update={"spec": cr.spec.model_copy(update={"hyperparameters": changed})})
    builder = importlib.import_module(f"star_operator.builders.{cr.kind.lower()}")
    step: Step = builder.plan("train", cr, inputs(cr), {"sample": artifact("step", "6")}, settings())
    return step


@pytest.mark.parametrize("spec", [SFTJobSpec, GRPOJobSpec])
def test_auto_is_the_default(spec: Any) -> None:
    assert spec.model_fields["hyperparameters"].default.precision is Precision.AUTO


@pytest.mark.parametrize("case", ["sftjob-h20-group", "grpojob-h20"])
def test_on_gpus_auto_is_the_work_that_bfloat16_was(case: str) -> None:
    found, named = training(case), training(case, precision=Precision.BF16)
    assert found.stage == named.stage
    assert found.work_hash == named.work_hash != training(case, precision=Precision.FP32).work_hash


def test_on_cpus_auto_is_left_to_the_node_and_is_one_work_on_all_of_them() -> None:
    found = training("sftjob-cpu", precision=Precision.AUTO)
    assert found.stage.to_json_dict()["hyperparameters"]["precision"] == "auto"
    others = {training("sftjob-cpu", precision=one).work_hash for one in (Precision.BF16, Precision.FP32)}
    assert found.work_hash not in others
