"""The edit of a promotion: two values change, and nothing else does."""

import contextlib
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from star_contracts.errors import Reason
from star_contracts.promotion import DocumentSelector, PromotionTarget
from star_jobs.errors import TerminalFailure
from star_jobs.promote.edit import Standing, edit, read
from star_jobs.promote.yamltext import MAX_BYTES

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OLD_URI, NEW_URI = "s3://models/team/sftjob/a/1/train", "s3://models/team/grpojob/b/2/train"
SPACES = "   "
PLAIN = f"""\
# The student.
apiVersion: star.recsys.dev/v1alpha1
kind: StarDeployment
metadata: {{name: student, labels: {{a: "b"}}}}
spec:
    dataset: {{name: movielens}}   # trailing spaces{SPACES}
    checkpoint:
        # pinned
        uri:   {OLD_URI}     # where
        digest: "{OLD}"


    rollout: {{steps: [{{weight: 10, pauseSeconds: 60}}]}}
"""
OTHER = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  text: |
    # {"$star": "prod"} is a text here
    spec: {checkpoint: {uri: x, digest: y}}
"""
STRATEGIC = f"""\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
patches:
- path: other.yaml
- target: {{kind: StarDeployment, name: student}}
  patch: |-
    apiVersion: star.recsys.dev/v1alpha1
    kind: StarDeployment
    metadata:
      name: student
    spec:
      checkpoint:   # {{"$star": "prod"}}
        uri: {OLD_URI}

        digest: '{OLD}'  # é
# the end
images: []
"""
JSON6902 = f"""\
patches:
  - target: {{kind: StarDeployment}}
    patch: |
      - op: test
        path: /metadata/name
        value: student
      - op: replace
        path: /spec/checkpoint/uri
        value: {OLD_URI} # {{"$star": "prod:uri"}}
      - {{op: replace, path: /spec/checkpoint/digest, value: "{OLD}"}} # {{"$star": "prod:digest"}}
"""
JSON_FILE = f"""\
[
  {{"op": "replace", "path": "/spec/checkpoint", "value": {{"uri": "{OLD_URI}", "digest": "{OLD}"}}}}
]
"""
MARKED_FLOW = f'spec: {{checkpoint: {{uri: {OLD_URI}, digest: {OLD}}}}} # {{"$star": "prod"}}\n'
EMPTY = "spec:\n  checkpoint:\n    uri:\n    digest: ~\n"


def target(**given: Any) -> PromotionTarget:
    return PromotionTarget(repository="https://git.example.com/team/fleet.git", branch="main", path="a/b.yaml", **given)


def changed(text: str, old: str = OLD, uri: str = OLD_URI) -> str:
    return text.replace(old, NEW).replace(uri, NEW_URI)


CASES = {
    "plain": (PLAIN, {}),
    "the StarDeployment of several documents": (OTHER + "---\n" + PLAIN + "---\n" + OTHER, {}),
    "a document by its kind": (PLAIN + "---\n" + OTHER, {"document": DocumentSelector(kind="StarDeployment")}),
    "a strategic patch": (STRATEGIC, {"field": "patches[1].patch.spec.checkpoint"}),
    "a patch picked by what it says": (STRATEGIC, {"field": "patches[target.name=student].patch.spec.checkpoint"}),
    "a marker in a patch": (STRATEGIC, {"marker": "prod"}),
    "a JSON patch": (JSON6902, {"field": "patches[0].patch.spec.checkpoint"}),
    "markers at both values": (JSON6902, {"marker": "prod"}),
    "a JSON patch in a file of its own": (JSON_FILE, {}),
    "a marker at a flow mapping": (MARKED_FLOW, {"marker": "prod"}),
    "a marker beside a text that looks like one": (OTHER + "---\n" + MARKED_FLOW, {"marker": "prod"}),
    "items of a List": (
        f"kind: List\nitems:\n- kind: X\n- kind: Y\n  spec: {{checkpoint: {{uri: {OLD_URI}, digest: {OLD}}}}}",
        {"field": "items[kind=Y].spec.checkpoint"},
    ),
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize(("text", "where"), CASES.values(), ids=CASES)
def test_only_the_values_change(text: str, where: dict[str, Any], bom: str, ends: str) -> None:
    text = bom + text.replace("\n", ends)

    edited = edit(text.encode(), target(**where), NEW_URI, NEW)

    assert edited.decode() == changed(text)
    assert read(edited, target(**where)) == Standing(NEW_URI, NEW)
    assert edit(edited, target(**where), NEW_URI, NEW) == edited


def test_empty_values_are_filled() -> None:
    edited = edit(EMPTY.encode(), target(), NEW_URI, NEW)
    assert edited.decode() == f"spec:\n  checkpoint:\n    uri: {NEW_URI}\n    digest: {NEW}\n"
    assert read(EMPTY.encode(), target()).pinned() is None


def test_a_place_that_says_it_already_is_left_as_it_is() -> None:
    assert edit(PLAIN.encode(), target(), OLD_URI, OLD) == PLAIN.encode()


BLOCK = f"uri: {OLD_URI}, digest: {OLD}"
REFUSED = {
    "no marker": (PLAIN, {"marker": "prod"}, Reason.PLACE_NOT_FOUND, "no marker prod"),
    "two markers": (MARKED_FLOW + "---\n" + MARKED_FLOW, {"marker": "prod"}, Reason.PLACE_REFUSED, "2 times"),
    "half a marker": (JSON6902.replace("prod:uri", "dev:uri"), {"marker": "prod"}, Reason.PLACE_NOT_FOUND, "alone"),
    "a marker at no block": (
        'a: 1 # {"$star": "prod"}\n',
        {"marker": "prod"},
        Reason.PLACE_REFUSED,
        "stands at no block",
    ),
    "a marker on its own line": (
        '# {"$star": "prod"}\n' + MARKED_FLOW.split(" #")[0] + "\n",
        {"marker": "prod"},
        Reason.PLACE_REFUSED,
        "line 1: the marker stands at no block",
    ),
    "no field": (OTHER, {}, Reason.PLACE_NOT_FOUND, "has no key 'spec'"),
    "no digest": ("spec: {checkpoint: {uri: s3://a/b}}", {}, Reason.PLACE_NOT_FOUND, "no key 'digest'"),
    "a checkpoint by name": (
        "spec: {checkpoint: {checkpoint: a, uri: x, digest: y}}",
        {},
        Reason.PLACE_REFUSED,
        "names a Checkpoint",
    ),
    "no document": (PLAIN, {"document": DocumentSelector(name="x")}, Reason.PLACE_NOT_FOUND, "target.document"),
    "two documents": (PLAIN + "---\n" + PLAIN, {}, Reason.PLACE_REFUSED, "several documents (from lines 2, 16)"),
    "an anchor at the place": (f"spec:\n  checkpoint: &c {{{BLOCK}}}\nx: *c\n", {}, Reason.PLACE_REFUSED, "anchor"),
    "an anchor around it": (f"spec: &c\n  checkpoint: {{{BLOCK}}}\nx: *c\n", {}, Reason.PLACE_REFUSED, "anchor"),
    "an anchor at a value": (
        f"spec:\n  checkpoint: {{uri: &u s3://a/b, digest: {OLD}}}\n",
        {},
        Reason.PLACE_REFUSED,
        "anchor",
    ),
    "an alias": (f"x: &c {{{BLOCK}}}\nspec:\n  checkpoint: *c\n", {}, Reason.PLACE_REFUSED, "alias"),
    "a merge": (f"x: &c {{{BLOCK}}}\nspec:\n  checkpoint: {{<<: *c, {BLOCK}}}\n", {}, Reason.PLACE_REFUSED, "merges"),
    "a marker under an anchor": (
        f'x: &c\n  b: {{{BLOCK}}} # {{"$star": "prod"}}\nd: *c\n',
        {"marker": "prod"},
        Reason.PLACE_REFUSED,
        "anchor",
    ),
    "a template of Helm": (
        "{{- if .Values.on }}\n" + PLAIN + "{{- end }}\n",
        {},
        Reason.PLACE_REFUSED,
        "a template cannot be edited",
    ),
    "a templated value": (PLAIN + "    x: {{ .Values.x }}\n", {}, Reason.PLACE_REFUSED, "as templates have"),
    "a duplicate key": (PLAIN + "spec: {}\n", {}, Reason.PLACE_REFUSED, "'spec' stands twice"),
    "tabs": ("spec:\n\tcheckpoint: {}\n", {}, Reason.PLACE_REFUSED, "replace the tabs"),
    "no YAML": ("spec: [\n", {}, Reason.PLACE_REFUSED, "is not YAML"),
    "LFS": ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", {}, Reason.PLACE_REFUSED, "Git LFS"),
    "a value over lines": (
        f"spec:\n  checkpoint:\n    uri: >-\n      {OLD_URI}\n    digest: {OLD}\n",
        {},
        Reason.PLACE_REFUSED,
        "several lines",
    ),
    "a tagged value": (
        f"spec: {{checkpoint: {{uri: !!str s3://a/b, digest: {OLD}}}}}\n",
        {},
        Reason.PLACE_REFUSED,
        "YAML tag",
    ),
    "a folded patch": (
        "patches:\n- patch: >-\n    spec: {}\n",
        {"field": "patches[0].patch.spec.checkpoint"},
        Reason.PLACE_NOT_FOUND,
        "no mapping",
    ),
    "two patches that fit": (
        STRATEGIC.replace("- path: other.yaml", "- target: {name: student}"),
        {"field": "patches[target.name=student].patch.spec.checkpoint"},
        Reason.PLACE_REFUSED,
        "picks several items",
    ),
    "an item that is not there": (STRATEGIC, {"field": "patches[7].patch"}, Reason.PLACE_NOT_FOUND, "no item [7]"),
    "two operations": (
        JSON6902.replace("path: /metadata/name", "path: /spec/checkpoint/uri").replace("op: test", "op: add"),
        {"field": "patches[0].patch.spec.checkpoint"},
        Reason.PLACE_REFUSED,
        "several operations",
    ),
    "a patch of other things": (
        "- {op: remove, path: /spec/gates}\n",
        {},
        Reason.PLACE_NOT_FOUND,
        "none of its operations",
    ),
    "nested too deep": ("a: " + "[" * 120 + "]" * 120, {}, Reason.PLACE_REFUSED, "deep"),
    "nested far too deep": ("a: " + "[" * 20000, {}, Reason.PLACE_REFUSED, "b.yaml"),
    "an empty file": ("", {}, Reason.PLACE_NOT_FOUND, "none"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize(("text", "where", "reason", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_edited_is_said(text: str, where: dict[str, Any], reason: Reason, says: str) -> None:
    with pytest.raises(TerminalFailure) as caught:
        edit(text.encode(), target(**where), NEW_URI, NEW)
    assert caught.value.reason is reason
    assert says in caught.value.message
    assert "a/b.yaml" in caught.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "more than"),
        (b"a: \x00\n", "is not YAML"),
    ],
)
def test_bytes_that_are_no_yaml(data: bytes, says: str) -> None:
    with pytest.raises(TerminalFailure, match=says):
        edit(data, target(), NEW_URI, NEW)


_SCALARS = st.sampled_from(
    ["x", "'a # b'", '"c: d"', "12", "~", "true", "é", "[a, b]", "{p: q}", "|-\n      text\n      # more"]
)
_NOISE = st.lists(
    st.one_of(
        st.sampled_from(["", "# a comment", "  # another: one", "    # ümlaut"]),
        st.tuples(st.integers(0, 99), _SCALARS).map(lambda pair: f"  k{pair[0]}: {pair[1]}"),
    ),
    max_size=6,
    unique=True,
)
_QUOTES = st.sampled_from(["", "'", '"'])
_SPACES = st.sampled_from(["", " ", "   "])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A StarDeployment with noise around the place, in any quotes, with any spaces."""
    seen: set[str] = set()
    lines = [""] * 3
    for place in range(3):
        kept = []
        for line in draw(_NOISE):
            key = line.split(":")[0]
            if not line.strip().startswith("k") or key not in seen:
                kept.append(line)
                seen.add(key)
        lines[place] = "".join(each + "\n" for each in kept)
    uri_quote, digest_quote, space, tail = draw(_QUOTES), draw(_QUOTES), draw(_SPACES), draw(_SPACES)
    values = [
        f"    uri: {space}{uri_quote}{OLD_URI}{uri_quote}{tail}\n",
        f"    digest: {digest_quote}{OLD}{digest_quote} # d\n",
    ]
    if draw(st.booleans()):
        values.reverse()
    block = (
        f"  checkpoint:{tail}\n{values[0]}{draw(st.sampled_from(['', '    # between' + chr(10), chr(10)]))}{values[1]}"
    )
    text = f"kind: StarDeployment\nspec:\n  a: 1\n{lines[0]}{block}{lines[1]}  z:\n    y: 1\n{lines[2]}"
    text = (
        draw(st.sampled_from(["", "---\n", OTHER + "---\n"]))
        + text
        + draw(st.sampled_from(["", "...\n", "---\n" + OTHER]))
    )
    text = text if draw(st.booleans()) else text.rstrip("\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def parsed(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(io.StringIO(text)))


@settings(max_examples=150, deadline=None)
@given(documents())
def test_any_file_says_the_same_but_for_the_values(text: str) -> None:
    edited = edit(text.encode(), target(), NEW_URI, NEW).decode()

    assert edited == changed(text), "byte for byte elsewhere"
    wanted = parsed(text)
    place = next(each for each in wanted if each and each["kind"] == "StarDeployment")["spec"]["checkpoint"]
    place |= {"uri": NEW_URI, "digest": NEW}
    assert parsed(edited) == wanted


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}#&*!|>'\"%@`, \n\r\t{}\u2028\x85\ufeff"), max_size=80))
def test_any_text_is_edited_or_refused_with_a_reason(text: str) -> None:
    for where in ({}, {"marker": "a"}, {"field": "a[0].b"}):
        with contextlib.suppress(TerminalFailure):
            edit(text.encode(), target(**where), NEW_URI, NEW)
