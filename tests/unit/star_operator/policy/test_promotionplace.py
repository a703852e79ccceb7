"""Which policies govern a target: however it is spelt, and whatever a Promotion leaves out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.promotion import PromotionTarget
from star_operator.core.reasons import ConditionReason
from star_operator.policy.promotionplace import fault, governing, place, repository
from tests.support.promotions import policy_of, target

SPELLINGS = (
    "https://git.example.com/org/repo",
    "https://Git.Example.com/org/repo.git/",
    "https://git.example.com:8443/org/repo.git",
    "https://git.example.com/Org/Repo",
    "ssh://git@git.example.com/org/repo.git",
    "ssh://git.example.com:2222/org/repo",
    "git@git.example.com:org/repo.git",
    "git@GIT.example.com:/org/repo",
    "https://git.example.com//org/./repo.git",
)


@pytest.mark.bad_input
@pytest.mark.parametrize("url", SPELLINGS)
def test_a_repository_is_the_same_however_it_is_spelt(url: str) -> None:
    assert repository(url) == "git.example.com/org/repo"
    assert governing(PromotionTarget.model_validate(target(repository=url)), [policy_of()])


@pytest.mark.parametrize("url", ["https://git.example.com/org/other", "https://example.com/org/repo"])
def test_another_repository_is_another(url: str) -> None:
    assert not governing(PromotionTarget.model_validate(target(repository=url)), [policy_of()])


def test_github_answers_ssh_under_another_name() -> None:
    assert repository("ssh://git@ssh.github.com:443/o/r.git") == repository("https://github.com/o/r")


@pytest.mark.parametrize(
    ("changes", "governed"),
    [
        ({}, True),
        ({"field": None}, True),
        ({"field": "spec"}, True),
        ({"field": "spec.checkpoint.digest"}, True),
        ({"field": "spec.checkpoints"}, False),
        ({"field": None, "marker": "x"}, True),
        ({"document": {"kind": "StarDeployment"}}, True),
        ({"path": "prod/./star.yaml"}, True),
        ({"path": "dev/star.yaml"}, False),
        ({"branch": "next"}, False),
    ],
)
@pytest.mark.bad_input
def test_what_may_be_the_same_place_is_governed(changes: dict[str, Any], governed: bool) -> None:
    wanted = PromotionTarget.model_construct(**{"document": None, "marker": None, "field": None, **target(**changes)})
    if isinstance(changes.get("document"), dict):
        wanted = PromotionTarget.model_validate(target(**changes))
    assert bool(governing(wanted, [policy_of()])) is governed


def test_documents_that_differ_are_different_places() -> None:
    one = policy_of(target=target(document={"name": "one"}))
    other = PromotionTarget.model_validate(target(document={"name": "other"}))
    assert not governing(other, [one])


def test_markers_that_differ_are_different_places() -> None:
    one = policy_of(target=target(field=None, marker="one"))
    assert not governing(PromotionTarget.model_validate(target(field=None, marker="other")), [one])
    assert governing(PromotionTarget.model_validate(target(field=None, marker="one")), [one])


@given(st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS), st.sampled_from(["spec", "spec.checkpoint", None]))
def test_overlap_has_no_direction(one: str, other: str, field: str | None) -> None:
    first = place(PromotionTarget.model_validate(target(repository=one)))
    second = place(PromotionTarget.model_validate(target(repository=other, field=field)))
    assert first.overlaps(second)
    assert second.overlaps(first)


@pytest.mark.bad_input
def test_two_policies_of_one_place_are_told() -> None:
    rival = policy_of("rival", target=target(repository="git@git.example.com:org/repo.git"))
    found = fault(policy_of(), [policy_of(), rival])
    assert found is not None
    assert found.reason is ConditionReason.POLICY_CONFLICT
    assert "prod and rival govern the same place (git.example.com/org/repo main:prod/star.yaml)" in found.message


@pytest.mark.bad_input
def test_a_circle_of_environments_is_told() -> None:
    policies = [policy_of("a", after="b"), policy_of("b", after="c"), policy_of("c", after="a")]
    found = fault(policies[0], policies)
    assert found is not None
    assert found.reason is ConditionReason.ORDER_CYCLE
    assert "a after b after c after a" in found.message


@pytest.mark.bad_input
def test_an_environment_after_itself_is_a_circle() -> None:
    found = fault(policy_of(after="prod"), [policy_of(after="prod")])
    assert found is not None
    assert found.reason is ConditionReason.ORDER_CYCLE


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"after": "dev"}, "spec.after of PromotionPolicy prod names dev, which does not exist"),
        (
            {"requires": {"soak": {"seconds": 60, "environment": "dev"}}},
            "spec.requires.soak.environment of PromotionPolicy prod names dev, which does not exist",
        ),
    ],
)
def test_an_environment_that_is_not_there_is_told(spec: dict[str, Any], says: str) -> None:
    found = fault(policy_of(**spec), [policy_of(**spec)])
    assert found is not None
    assert says in found.message


@pytest.mark.bad_input
def test_a_soak_needs_something_that_serves() -> None:
    prod = policy_of(after="dev", requires={"soak": {"seconds": 60}})
    found = fault(prod, [prod, policy_of("dev")])
    assert found is not None
    assert "which has no spec.serves" in found.message
