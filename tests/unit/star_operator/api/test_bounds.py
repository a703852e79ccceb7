"""Every number that a person may write has a lower and an upper bound."""

from collections.abc import Iterator
from typing import Any

import pytest

from star_operator.api.crd import crd
from star_operator.api.kinds import KINDS

NUMBERS = ("integer", "number")


def leaves(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from leaves(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from leaves(schema[name], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.INFO.kind)
def test_every_number_is_bounded(kind: Any) -> None:
    spec = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    unbounded = [
        path
        for path, schema in leaves(spec)
        if schema.get("type") in NUMBERS and not ("enum" in schema or ("minimum" in schema and "maximum" in schema))
    ]
    assert unbounded == []
