"""Models to structural schemas: what Kubernetes cannot express is turned into what it can, or refused."""

import re
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from star_contracts.base import Model
from star_operator.api.common import DNS_LABEL, NAME_PATTERN, QUANTITY_PATTERN
from star_operator.api.meta import CEL, list_map
from star_operator.api.schema import RULES, structural


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


@given(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?", fullmatch=True))
def test_quantities_are_taken(text: str) -> None:
    assert re.fullmatch(QUANTITY_PATTERN, text)


@pytest.mark.parametrize("text", ["", "16 Gi", "16GB", "-1", "1e9", ".5", "Gi"])
def test_what_is_not_a_quantity_is_not(text: str) -> None:
    assert not re.fullmatch(QUANTITY_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "good"), [("h20", True), ("h-20", True), ("H20", False), ("-a", False), ("a.b", False)]
)
def test_pool_names(text: str, good: bool) -> None:
    assert bool(re.fullmatch(DNS_LABEL, text)) is good
