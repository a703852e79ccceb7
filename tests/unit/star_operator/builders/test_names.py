"""Names fit everywhere and never collide."""

import re

from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.kinds import BY_KIND
from star_operator.builders.names import child_name, dns_label, labels, owner_reference, user_reference
from star_operator.builders.step import Owner
from star_operator.core.labels import label_value

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
OBJECT_NAME = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True)
KIND = st.sampled_from(sorted(BY_KIND))
ROLE = st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True)
ATTEMPT = st.none() | st.integers(1, 10_000)


def owner(kind: str, name: str) -> Owner:
    return Owner(kind, "default", name, "uid")


@given(KIND, OBJECT_NAME, ATTEMPT, ROLE)
def test_any_owner_has_a_valid_short_name(kind: str, name: str, attempt: int | None, role: str) -> None:
    made = child_name(owner(kind, name), attempt, role)
    assert DNS_1035.fullmatch(made)
    assert len(made) <= 52
    assert made == child_name(owner(kind, name), attempt, role)


@given(st.lists(st.tuples(KIND, OBJECT_NAME, st.integers(1, 50), ROLE), min_size=2, max_size=20, unique=True))
def test_different_owners_have_different_children(cases: list[tuple[str, str, int, str]]) -> None:
    assert len({child_name(owner(kind, name), attempt, role) for kind, name, attempt, role in cases}) == len(cases)


@given(OBJECT_NAME)
def test_labels_are_valid_and_tell_long_names_apart(name: str) -> None:
    for value in labels(owner("SFTJob", name), "train", 1).values():
        assert len(value) <= 63
        assert LABEL.fullmatch(value)
    assert label_value(name + "a" * 64) != label_value(name + "a" * 65)


def test_names_people_can_read() -> None:
    assert child_name(owner("SFTJob", "demo"), 1, "train") == "demo-sft-1-train"
    assert child_name(owner("StarDeployment", "shop"), None, "vllm") == "shop-star-vllm"
    assert child_name(owner("SFTJob", "demo.v2"), 1, "train").startswith("demo-v2-sft-1-train-")
    assert dns_label("7b", 52).startswith("x7b-")


def test_equal_names_of_two_kinds_do_not_meet() -> None:
    assert child_name(owner("TeacherRun", "a"), 1, "collect") != child_name(owner("Verbalization", "a"), 1, "collect")


def test_one_controller_many_users() -> None:
    reference = owner_reference(owner("SFTJob", "demo"))
    assert reference["controller"] is True
    assert reference["blockOwnerDeletion"] is True
    assert "controller" not in user_reference(owner("SFTJob", "demo"))


def test_labels_select_the_resource_and_its_attempt() -> None:
    made = labels(owner("SFTJob", "demo"), "train", 2)
    assert made["star.recsys.dev/kind"] == "sftjob"
    assert made["star.recsys.dev/name"] == "demo"
    assert made["star.recsys.dev/step"] == "train"
    assert made["star.recsys.dev/attempt"] == "2"
    assert made["app.kubernetes.io/part-of"] == "star"
