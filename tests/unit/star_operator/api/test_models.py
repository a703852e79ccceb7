"""The kinds' models: what they read and write, and what keeps their parts together."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from star_operator.api import crd, reference, sentences, values
from star_operator.api.common import OWN_FLAGS, RESERVED_FLAGS
from star_operator.api.kinds import KINDS
from star_operator.api.meta import Resource

SAMPLES = Path(__file__).resolve().parents[4] / "manifests" / "samples"
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)


def sample(kind: type[Resource[Any, Any]]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((SAMPLES / f"{kind.INFO.kind.lower()}.yaml").read_text())
    return loaded


@every_kind
def test_what_is_written_is_read_again(kind: type[Resource[Any, Any]]) -> None:
    parsed = kind.parse(sample(kind))
    assert kind.parse(parsed.to_json_dict()).spec == parsed.spec


@every_kind
def test_a_status_of_a_newer_version_does_not_stop_an_older_operator(kind: type[Resource[Any, Any]]) -> None:
    body = {**sample(kind), "status": {"phase": "Running", "fromTheFuture": 1}}
    assert kind.parse(body).status.phase == "Running"


@pytest.mark.bad_input
@every_kind
def test_an_unknown_field_of_the_spec_is_refused(kind: type[Resource[Any, Any]]) -> None:
    body = sample(kind)
    body["spec"]["typo"] = 1
    with pytest.raises(ValidationError, match="typo"):
        kind.parse(body)


def test_names_of_kinds_do_not_collide() -> None:
    names = [name for kind in KINDS for name in {kind.INFO.kind.lower(), kind.INFO.plural, kind.INFO.short}]
    assert len(names) == len(set(names))
    # resources of Kubernetes itself
    assert not set(names) & {
        "ev",
        "cm",
        "po",
        "svc",
        "sts",
        "ds",
        "cj",
        "no",
        "ns",
        "pv",
        "sa",
        "ep",
        "rs",
        "hpa",
        "pdb",
    }


def test_every_sentence_is_about_some_field() -> None:
    rendered = "".join(json.dumps(crd.crd(kind)) for kind in KINDS)
    assert [sentence for sentence in sentences.SENTENCES.values() if sentence not in rendered] == []


@pytest.mark.parametrize("flag", RESERVED_FLAGS)
def test_the_rule_on_engine_flags_knows_every_reserved_one(flag: str) -> None:
    pattern = OWN_FLAGS[0].split("'")[1]
    assert re.fullmatch(pattern, flag)
    assert re.fullmatch(pattern, f"{flag}=x")
    assert not re.fullmatch(pattern, f"{flag}-more=x")
    assert flag.removeprefix("--") in OWN_FLAGS[1]


def test_the_reference_has_every_kind_and_field() -> None:
    page = reference.render()
    for kind in KINDS:
        assert f"\n## {kind.INFO.kind}\n" in page
        for field in kind.spec_type().model_fields.values():
            assert f"`spec.{field.alias}`" in page


def test_the_schema_of_values_knows_helms_own_key() -> None:
    assert "global" in values.values_schema()["properties"]
