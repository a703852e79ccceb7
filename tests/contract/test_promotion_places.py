"""Job and policy agree on places: whatever the Job would edit as one place, a policy governs as one."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_contracts.promotion import PromotionTarget
from star_jobs.errors import TerminalFailure
from star_jobs.promote.edit import Standing, edit, read
from star_operator.policy.promotionplace import place

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
BLOCK = f"{{uri: s3://a/old, digest: {OLD}}}"
PATCHES = f"""\
patches:
- target: {{kind: StarDeployment, name: student}}
  name: x
  patch: |-
    - op: replace
      path: /spec/checkpoint
      value: # {{"$star": "prod"}}
        uri: s3://a/old # {{"$star": "dev:uri"}}
        digest: {OLD}
    - {{op: add, path: /spec/0/checkpoint, value: {BLOCK}}}
    - {{op: add, path: /spec/None, value: {BLOCK}}}
- target: {{name: other}}
  name: y
  patch: |-
    spec:
      checkpoint: # {{"$star": "other"}}
        uri: s3://a/old # {{"$star": "one:uri"}}
        digest: {OLD} # {{"$star": "one:digest"}}
      checkpoints: [{BLOCK}, {{name: x, checkpoint: {BLOCK}}}]
"""
FIRST = ("0", "00", "1", "name=x", "name = x", "name='x'", "target.name=student", "target.name=other", "name=y")
SECOND = (
    "patch.spec.checkpoint",
    "patch[0].value",
    "patch[path=/spec/checkpoint].value",
    "patch[1].value",
    "patch.spec[0].checkpoint",
    "patch.spec[name=x].checkpoint",
    "patch.spec.None",
    "patch.spec[name=x]",
    "patch.spec.checkpoints[0]",
    "patch.spec.checkpoints[1].checkpoint",
    'patch.spec.checkpoints[name="x"].checkpoint',
)
FIELDS = [f"patches[{one}].{other}" for one, other in product(FIRST, SECOND)]
MARKERS = ["prod", "dev", "other", "one"]


def target(name: str) -> PromotionTarget:
    where = {"marker": name} if name in MARKERS else {"field": name}
    return PromotionTarget.model_validate({"repository": "https://h/o/r", "branch": "main", "path": "k.yaml", **where})


def said(data: bytes, name: str) -> Standing | str:
    try:
        return read(data, target(name))
    except TerminalFailure as error:
        return error.reason


def agree(one: str, other: str) -> None:
    before = PATCHES.encode()
    try:
        after = edit(before, target(one), "s3://a/new", NEW)
    except TerminalFailure:
        return
    if said(before, other) != said(after, other):
        assert place(target(one)).overlaps(place(target(other))), f"{one} edits {other}"
        assert place(target(other)).overlaps(place(target(one)))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(FIELDS + MARKERS), st.sampled_from(FIELDS + MARKERS))
def test_what_edits_a_place_is_governed_as_the_place(one: str, other: str) -> None:
    agree(one, other)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "spelt",
    [
        "patches[target.name=student].patch.spec.checkpoint",
        "patches[target.name = student].patch.spec.checkpoint",
        "patches[00].patch.spec.checkpoint",
        "patches[0].patch[0].value",
        "patches[name='x'].patch.spec.checkpoint",
        "patches[name=x].patch[path=/spec/checkpoint].value",
    ],
)
def test_a_place_is_edited_and_governed_by_each_of_its_names(spelt: str) -> None:
    field = "patches[0].patch.spec.checkpoint"
    edited = edit(PATCHES.encode(), target(spelt), "s3://a/new", NEW)
    assert said(edited, field) == Standing("s3://a/new", NEW)
    assert place(target(spelt)).overlaps(place(target(field)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("items[0].spec", "items[1].spec"),
        ("items[name=a].spec", "items[name='b'].spec"),
        ("a[0].b", "a[name=x].c"),
        ("spec.checkpoint", "spec.checkpoints"),
    ],
)
def test_what_certainly_differs_is_another_place(one: str, other: str) -> None:
    assert not place(target(one)).overlaps(place(target(other)))


@pytest.mark.bad_input
@pytest.mark.parametrize("marker", ["other", "one"])
def test_a_place_with_two_markers_is_refused(marker: str) -> None:
    assert said(PATCHES.encode(), marker) == "PlaceRefused"


@pytest.mark.bad_input
@pytest.mark.parametrize("index", ["٠", "０", "x", "-1", ""])
def test_an_index_is_plain_digits(index: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        target(f"items[{index}].spec")
