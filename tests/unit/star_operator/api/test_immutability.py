"""Transition rules: which fields each kind's rules speak of, and what they look at."""

from typing import Any

import pytest

from star_operator.api.immutability import transition_rules
from star_operator.api.kinds import BY_KIND, KINDS
from star_operator.api.meta import Resource
from star_operator.api.schema import structural


def rules_of(kind: type[Resource[Any, Any]]) -> dict[str, dict[str, str]]:
    rules = transition_rules(kind.INFO, structural(kind.spec_type()))
    return {rule["fieldPath"]: rule for rule in rules}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.INFO.run_to_completion], ids=lambda kind: kind.INFO.kind
)
def test_every_field_is_either_mutable_or_has_a_rule(kind: type[Resource[Any, Any]]) -> None:
    spec = structural(kind.spec_type())["properties"]
    covered = {path.split(".")[1] for path in rules_of(kind)}
    assert covered | set(kind.INFO.mutable) == set(spec)
    assert not covered & set(kind.INFO.mutable)


def test_a_deployment_may_change() -> None:
    assert rules_of(BY_KIND["StarDeployment"]) == {}


def test_inside_compute_only_queue_and_priority_may_change() -> None:
    paths = {path for path in rules_of(BY_KIND["TeacherRun"]) if path.startswith(".compute")}
    assert paths == {
        ".compute.pool",
        ".compute.nodes",
        ".compute.gpusPerNode",
        ".compute.resources",
        ".compute.podTemplate",
    }


def test_an_optional_field_may_neither_come_nor_go() -> None:
    rule = rules_of(BY_KIND["TeacherRun"])[".verbalization"]["rule"]
    assert rule.startswith("has(self.verbalization) == has(oldSelf.verbalization)")


def test_a_field_that_is_always_there_is_compared_as_it_is() -> None:
    rules = rules_of(BY_KIND["TeacherRun"])
    assert rules[".dataset"]["rule"] == "self.dataset == oldSelf.dataset"  # required
    assert rules[".passes"]["rule"] == "self.passes == oldSelf.passes"  # has a default


def test_the_message_says_what_to_do() -> None:
    message = rules_of(BY_KIND["TeacherRun"])[".dataset"]["message"]
    assert message == "spec.dataset is immutable: a run keeps its spec; create a new TeacherRun instead"
    message = rules_of(BY_KIND["Checkpoint"])[".digest"]["message"]
    assert message == "spec.digest is immutable: a record keeps its spec; create a new Checkpoint instead"
