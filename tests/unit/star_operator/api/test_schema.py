"""Models to structural schemas: what Kubernetes cannot express is turned into what it can, or refused."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from pydantic import Field

from star_contracts.base import Model
from star_operator.api.common import DNS_LABEL, NAME_PATTERN
from star_operator.api.kinds import KINDS
from star_operator.api.meta import CEL, RULES, Resource, list_map
from star_operator.api.schema import structural
from star_operator.core.podmeta import LABEL_KEY_PATTERN, Labels
from star_operator.core.quantity import Quantity


class Colour(StrEnum):
    """What it looks like."""

    RED = "Red"
    """Like a tomato."""
    BLUE = "Blue"


class Inner(Model):
    """Something inside."""

    size: int = 3
    """How big."""


class Outer(Model):
    """Something."""

    model_config = CEL(("self.count > 0", "count must be above 0")).config()

    name: str = Field(pattern=NAME_PATTERN, max_length=10)
    """Its name."""
    count: int | None = Field(default=None, ge=1)
    rate: float = Field(default=0.5, gt=0, le=1)
    colour: Colour = Colour.RED
    colours: tuple[Colour, ...] = (Colour.RED,)
    size: str = Field(default="small", pattern=r"^(small|large)$")
    inner: Inner = Inner(size=5)
    """What is inside."""
    other: Inner | None = None
    labels: dict[str, str] = {}


@pytest.fixture(scope="module")
def outer() -> dict[str, Any]:
    return structural(Outer)


def test_an_optional_field_is_one_that_may_be_left_out(outer: dict[str, Any]) -> None:
    assert outer["required"] == ["name"]
    assert outer["properties"]["count"] == {"minimum": 1, "type": "integer", "format": "int64"}


def test_limits_are_those_of_openapi_3_0(outer: dict[str, Any]) -> None:
    rate = outer["properties"]["rate"]
    assert (rate["minimum"], rate["exclusiveMinimum"], rate["maximum"]) == (0, True, 1)
    assert "exclusiveMaximum" not in rate


def test_enums_say_what_their_values_mean(outer: dict[str, Any]) -> None:
    colour = outer["properties"]["colour"]
    assert colour["enum"] == ["Red", "Blue"]
    assert colour["description"] == "What it looks like. `Red`: Like a tomato."


def test_a_list_of_words_is_a_set(outer: dict[str, Any]) -> None:
    assert outer["properties"]["colours"]["x-kubernetes-list-type"] == "set"


def test_a_pattern_that_lists_words_is_an_enum(outer: dict[str, Any]) -> None:
    assert outer["properties"]["size"]["enum"] == ["small", "large"]
    assert "pattern" not in outer["properties"]["size"]


def test_a_pattern_becomes_a_rule_with_a_sentence(outer: dict[str, Any]) -> None:
    (rule,) = outer["properties"]["name"][RULES]
    assert rule["rule"] == f'self.matches(r"{NAME_PATTERN}")'
    assert rule["message"].startswith("must be a resource's name")


def test_references_are_inlined_and_the_field_wins(outer: dict[str, Any]) -> None:
    inner = outer["properties"]["inner"]
    assert inner["description"] == "What is inside."
    assert inner["default"] == {"size": 5}
    assert inner["properties"]["size"]["default"] == 3
    assert outer["properties"]["other"]["description"] == "Something inside."


def test_rules_of_the_model_are_kept(outer: dict[str, Any]) -> None:
    assert outer[RULES] == [{"rule": "self.count > 0", "message": "count must be above 0"}]


def test_a_status_has_no_defaults_and_requires_only_the_keys_of_its_lists() -> None:
    class Entry(Model):
        """An entry."""

        key: str
        value: str

    class State(Model):
        """A status."""

        phase: str = "Pending"
        entries: tuple[Entry, ...] = Field(default=(), json_schema_extra=list_map("key"))

    schema = structural(State, status=True)
    assert "default" not in schema["properties"]["phase"]
    assert schema["properties"]["entries"]["x-kubernetes-list-map-keys"] == ["key"]
    assert schema["properties"]["entries"]["items"]["required"] == ["key"]


def test_a_pattern_without_a_sentence_is_refused() -> None:
    class Silent(Model):
        """Wrong."""

        code: str = Field(pattern=r"^[A-Z]{3}$")

    with pytest.raises(ValueError, match="has no sentence"):
        structural(Silent)


def test_alternatives_of_types_are_refused() -> None:
    class Either(Model):
        """Wrong."""

        value: int | str

    with pytest.raises(ValueError, match="anyOf"):
        structural(Either)


def test_number_or_text_leaves_no_room_for_anything_else() -> None:
    class Amount(Model):
        """An amount."""

        size: Quantity = "1"

    size = structural(Amount)["properties"]["size"]
    assert "type" not in size
    assert size["not"] == {"enum": [True, False]}
    assert size["maxProperties"] < size["minProperties"]
    assert size["maxItems"] < size["minItems"]
    assert "must be a quantity" in size["pattern"]


@pytest.mark.case("apply-twice")
def test_defaults_inside_lists_are_said_in_words_alone() -> None:
    class Entry(Model):
        """An entry."""

        size: int = 3
        """How big."""
        inner: Inner = Inner()

    class Holder(Model):
        """Has lists and maps."""

        entries: tuple[Entry, ...] = ()
        by_name: dict[str, Entry] = {}

    schema = structural(Holder)["properties"]
    assert schema["entries"]["default"] == []
    entry = schema["entries"]["items"]["properties"]
    assert entry["size"]["description"] == "How big. Default: `3`."
    assert [path for path, node in nodes("", schema["entries"]["items"]) if "default" in node] == []
    assert schema["byName"]["additionalProperties"]["properties"]["size"]["default"] == 3, (
        "a merge patch goes into maps"
    )


def test_keys_of_maps_are_checked_by_a_rule() -> None:
    class Tagged(Model):
        """Has labels."""

        labels: Labels = {}

    (rule,) = structural(Tagged)["properties"]["labels"][RULES]
    assert rule["rule"] == f'self.all(key, key.matches(r"{LABEL_KEY_PATTERN}"))'
    assert rule["message"].startswith("keys must be name or prefix/name")


def nodes(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside one, with its path."""
    yield path, schema
    for name, item in schema.get("properties", {}).items():
        yield from nodes(f"{path}.{name}", item)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(path, schema[key])


@pytest.mark.parametrize(
    ("text", "good"), [("h20", True), ("h-20", True), ("H20", False), ("-a", False), ("a.b", False)]
)
def test_pool_names(text: str, good: bool) -> None:
    assert bool(re.fullmatch(DNS_LABEL, text)) is good


@pytest.mark.case("apply-twice")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_no_list_of_any_kind_has_defaults_inside(kind: type[Resource[Any, Any]]) -> None:
    spec = structural(kind.spec_type())
    lists = [node["items"] for _, node in nodes("spec", spec) if "items" in node]
    assert [inner for entry in lists for _, inner in nodes("", entry) if "default" in inner] == []
