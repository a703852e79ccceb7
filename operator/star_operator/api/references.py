"""Fields that hold the name of another object: each says of which kinds, for tools that rename (kustomize)."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

REFERS = "x-star-refers"
"""In a field's JSON schema: the kinds whose names it may hold."""


def refers_to(*kinds: str) -> Any:
    """Return the field information of a name of one of these kinds (`Annotated[Name, refers_to("Secret")]`)."""
    return Field(json_schema_extra={REFERS: list(kinds)})


def named(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield path, kinds and name of each reference in a value; `schema` is its model's JSON schema, with `$defs`."""
    yield from _named(schema, schema.get("$defs", {}), value, "")


def _named(
    raw: Mapping[str, Any], defs: Mapping[str, Any], value: Any, path: str
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    node = {**defs[raw["$ref"].removeprefix("#/$defs/")], **raw} if "$ref" in raw else raw
    if REFERS in node and isinstance(value, str):
        yield path, tuple(node[REFERS]), value
    if isinstance(value, Mapping):
        fields, others = node.get("properties", {}), node.get("additionalProperties")
        for name, item in value.items():
            below = fields.get(name, others if isinstance(others, Mapping) else None)
            if below is not None:
                yield from _named(below, defs, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and "items" in node:
        for place, item in enumerate(value):
            yield from _named(node["items"], defs, item, f"{path}[{place}]")
