"""Evaluation -> its step: which image it runs in, and what it is compared with."""

from typing import Any

import pytest

from star_contracts.job import Evaluate, LLMEndpoint, ModelSource
from star_operator.api.evaluation import Evaluation
from star_operator.builders.evaluation import plan
from star_operator.builders.step import Inputs, Step
from tests.support.goldens import AGAINST, ARTIFACTS, parse, settings


def step(spec: dict[str, Any], pool: str = "cpu", models: dict[str, ModelSource] | None = None, **more: Any) -> Step:
    meta = {"metadata": {"name": "e"}}
    spec = {"dataset": {"name": "d"}, "compute": {"pool": pool}, **spec}
    cr = parse({"apiVersion": "star.recsys.dev/v1alpha1", "kind": "Evaluation", **meta, "spec": spec})
    assert isinstance(cr, Evaluation)
    return plan("evaluate", cr, Inputs({"dataset": ARTIFACTS["dataset"], **more}, models or {}), {}, settings())


def test_baselines_that_need_no_torch_stay_in_the_small_image() -> None:
    assert step({"settings": {"tools": False}}).role == "jobs"
    learned = ["itemknn_cosine", "itemknn_bm25", "als"]
    assert step({"settings": {"tools": False, "baselines": learned}}).role == "jobs"


def test_lightgcn_runs_where_torch_is() -> None:
    assert step({"settings": {"tools": False, "baselines": ["random", "lightgcn"]}}).role == "trainer"


@pytest.mark.parametrize(
    ("against", "name"),
    [
        ({"evaluation": "before"}, "before"),
        ({"teacherRun": "mars"}, "mars"),
        ({"uri": AGAINST.uri, "digest": AGAINST.digest}, None),
    ],
)
def test_what_it_is_compared_with_is_part_of_the_work(against: dict[str, str], name: str | None) -> None:
    endpoint = {"endpoint": {"url": "http://llm.example.com/v1", "model": "m"}}
    spec = {"settings": {"tools": False}, "llm": endpoint}
    alone, compared = step(spec), step({**spec, "against": against}, against=AGAINST)
    told = {"artifact": AGAINST.to_json_dict()} | ({"name": name} if name else {})
    assert compared.stage.to_json_dict()["compared"] == {"against": told}
    assert compared.inputs["against"] == AGAINST.digest
    assert compared.work_hash != alone.work_hash


def test_the_evaluator_is_told_what_an_answer_occupies() -> None:
    assert endpoint({"nodes": 2, "gpusPerNode": 8}, tensorParallelSize=16, replicas=3).gpus == 16, "of one engine"
    assert endpoint({}).gpus == 0


def test_gpus_are_no_part_of_the_work() -> None:
    source = {"llm": ModelSource(hub="org/model")}
    one, two = (
        step({"settings": {"tools": False}, "llm": server({"gpusPerNode": n}, tensorParallelSize=n)}, models=source)
        for n in (1, 2)
    )
    assert one.work_hash == two.work_hash


def server(compute: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"server": {"model": {"uri": "hf://org/model"}, "compute": {"pool": "h20", **compute}, **more}}


def endpoint(compute: dict[str, Any], **more: Any) -> LLMEndpoint:
    spec = {"settings": {"tools": False}, "llm": server(compute, **more)}
    stage = step(spec, models={"llm": ModelSource(hub="org/model")}).stage
    assert isinstance(stage, Evaluate)
    assert stage.llm is not None
    return stage.llm
