"""What an Evaluation's reference to another one stands for: nothing yet, its report, or a contradiction."""

import asyncio
from typing import Any

import pytest

from star_operator.api.evaluation import Evaluation
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.reconcilers.evaluation import inputs
from tests.support.fakecluster import FakeCluster
from tests.support.star import star

DATASET = {"uri": "s3://star/ns/recdataset/d/1/prepare", "digest": "sha256:" + "1" * 64}
REPORT = {"uri": "s3://star/ns/evaluation/before/1/evaluate", "digest": "sha256:" + "2" * 64}
SPEC = {
    "dataset": {"name": "d"},
    "llm": {"endpoint": {"url": "http://llm.test/v1", "model": "m"}},
    "settings": {"tools": False},
}


def finished(kind: str, name: str, artifact: dict[str, str]) -> dict[str, Any]:
    return {**star(kind, "ns", name, SPEC), "status": {"phase": "Succeeded", "artifact": artifact}}


def resolved(against: dict[str, str] | None, *others: dict[str, Any]) -> Inputs:
    cluster = FakeCluster()
    for body in (finished("RecDataset", "d", DATASET), *others):
        if body["kind"] == "RecDataset":
            body["spec"] = {"source": {"uri": "s3://star/raw", "format": "MovieLens"}}
        cluster.add(body)
    spec = SPEC if against is None else {**SPEC, "against": against}
    return asyncio.run(inputs(cluster, Evaluation.parse(star("Evaluation", "ns", "after", spec))))


def test_it_is_pinned_to_the_others_report() -> None:
    found = resolved({"evaluation": "before"}, finished("Evaluation", "before", REPORT))
    assert found.artifacts["against"].to_json_dict() == REPORT
    assert "against" not in resolved(None).artifacts


def test_a_report_given_by_uri_needs_no_evaluation() -> None:
    assert resolved(REPORT).artifacts["against"].to_json_dict() == REPORT


@pytest.mark.bad_input
def test_a_report_that_is_not_there_is_waited_for() -> None:
    with pytest.raises(Waiting, match=r"spec\.against\.evaluation names Evaluation before, which does not exist"):
        resolved({"evaluation": "before"})
    with pytest.raises(Waiting, match=r"spec\.against\.evaluation: Evaluation before is"):
        resolved({"evaluation": "before"}, star("Evaluation", "ns", "before", SPEC))


@pytest.mark.bad_input
def test_a_report_of_another_digest_is_refused() -> None:
    other = "sha256:" + "0" * 64
    with pytest.raises(InvalidSpec, match=f"spec.against.digest is {other}, but Evaluation before made"):
        resolved({"evaluation": "before", "digest": other}, finished("Evaluation", "before", REPORT))
