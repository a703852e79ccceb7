"""Namespaces by their labels, as metav1.LabelSelector has it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from star_contracts.base import Model
from star_operator.api.meta import CEL
from star_operator.core.podmeta import LABEL_KEY_PATTERN, LabelValue

_KEYS: dict[str, JsonValue] = {"propertyNames": {"pattern": LABEL_KEY_PATTERN, "maxLength": 317}}
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN, max_length=317)]


class Operator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(Model):
    """A requirement on one label (metav1.LabelSelectorRequirement)."""

    model_config = CEL(
        (
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "values go with In and NotIn, and with these alone",
        )
    ).config()

    key: LabelKey
    """The label."""
    operator: Operator
    """How it is compared."""
    values: tuple[LabelValue, ...] = Field(default=(), max_length=32)
    """With what."""


class NamespaceSelector(Model):
    """Namespaces by their labels (metav1.LabelSelector); an empty one selects all."""

    match_labels: dict[str, LabelValue] = Field(default={}, max_length=32, json_schema_extra=_KEYS)
    """Labels with these values."""
    match_expressions: tuple[LabelRequirement, ...] = Field(default=(), max_length=16)
    """Requirements, all of which hold."""


def selects(selector: NamespaceSelector, labels: Mapping[str, str]) -> bool:
    """Say whether a selector fits labels (metav1.LabelSelector)."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for one in selector.match_expressions:
        there = one.key in labels
        match one.operator:
            case Operator.IN:
                fits = there and labels[one.key] in one.values
            case Operator.NOT_IN:
                fits = not there or labels[one.key] not in one.values
            case Operator.EXISTS:
                fits = there
            case Operator.DOES_NOT_EXIST:
                fits = not there
        if not fits:
            return False
    return True
