"""Which facts make another proof, and which do not."""

from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.proofs import Measured
from star_operator.api.checkpoint import Checkpoint
from star_operator.core.labels import ATTEST_ANNOTATION
from star_operator.policy.proofs import MAX_MEASURED, facts_of, measured

A, B = ("sha256:" + digit * 64 for digit in "ab")


def checkpoint(*, digest: str = A, **meta: Any) -> Checkpoint:
    spec = {"uri": "s3://star/c", "digest": digest}
    return Checkpoint.model_validate(
        {"kind": "Checkpoint", "metadata": {"name": "c", "namespace": "team"} | meta, "spec": spec}
    )


def report(name: str, digest: str = B) -> Measured:
    return Measured(evaluation=name, report=ArtifactRef(uri=f"s3://star/{name}", digest=digest))


BEFORE = facts_of(checkpoint(), [report("a"), report("b")], "")


@pytest.mark.parametrize(
    ("one", "reports", "secret"),
    [
        (checkpoint(digest=B), [report("a"), report("b")], ""),
        (checkpoint(), [report("a")], ""),
        (checkpoint(), [report("a"), report("b", A)], ""),
        (checkpoint(), [report("a"), report("c")], ""),
        (checkpoint(), [report("a"), report("b")], "star-signing"),
        (checkpoint(name="other"), [report("a"), report("b")], ""),
        (checkpoint(annotations={ATTEST_ANNOTATION: "again"}), [report("a"), report("b")], ""),
    ],
)
def test_other_facts_are_another_proof(one: Checkpoint, reports: list[Measured], secret: str) -> None:
    assert facts_of(one, reports, secret) != BEFORE


@pytest.mark.parametrize(
    ("one", "reports"),
    [
        (checkpoint(), [report("b"), report("a")]),
        (checkpoint(uid="created-anew", annotations={"owner": "me"}), [report("a"), report("b")]),
    ],
)
def test_what_is_no_fact_makes_none(one: Checkpoint, reports: list[Measured]) -> None:
    assert facts_of(one, reports, "") == BEFORE


def test_a_card_tells_of_so_many_reports_and_later_ones_make_no_other_proof() -> None:
    many = [report(f"e{number:04}") for number in range(MAX_MEASURED + 5)]
    assert len(measured(checkpoint(), many)) == MAX_MEASURED
    assert facts_of(checkpoint(), many, "") == facts_of(checkpoint(), many[:-1], "")
