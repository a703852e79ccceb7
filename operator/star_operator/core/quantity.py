"""Quantities as Kubernetes writes them (apimachinery, `resource.Quantity`): text such as `500m`, or a bare number."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

WORDS = (
    "must be a quantity: a number, alone or with n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi or Ei, e.g. 500m or 16Gi"
)
QUANTITY_PATTERN = (
    rf"^({WORDS}){{0}}"
    r"[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$"
)
"""A group that is repeated zero times is the one comment that all regular expressions have: the API server shows people
the pattern itself, as no rule can speak about a value of two types."""
_FORM = re.compile(r"[+]?(?P<number>[0-9.]+)(?P<unit>.*)")
_UNITS = {
    unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate(("K", "M", "G", "T", "P", "E"), 1)}


def as_text(value: Any) -> Any:
    """Return a bare number as text without an exponent; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{Decimal(str(value)).normalize():f}"


def amount(quantity: str) -> Decimal:
    """Return what a quantity amounts to, e.g. 0.5 for `500m`. Raises ValueError when it is none."""
    if not re.fullmatch(QUANTITY_PATTERN, quantity):
        raise ValueError(f"{quantity!r} {WORDS}")
    number, unit = _FORM.fullmatch(quantity).group("number", "unit")  # type: ignore[union-attr]
    return Decimal(number) * _UNITS[unit] if unit in _UNITS else Decimal(f"{number}{unit}")


Quantity = Annotated[
    str,
    StringConstraints(pattern=QUANTITY_PATTERN, max_length=32),
    BeforeValidator(as_text),
    Field(json_schema_extra={"type": ["string", "number"], "minimum": 0}),
]
"""Text in our models; in YAML also a number without quotes, as in every Deployment."""
