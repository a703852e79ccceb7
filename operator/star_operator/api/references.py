"""Fields that hold the name of another object: each says of which kinds, for tools that rename (kustomize)."""

from typing import Any

from pydantic import Field

REFERS = "x-star-refers"
"""In a field's JSON schema: the kinds whose names it may hold."""


def refers_to(*kinds: str) -> Any:
    """Return the field information of a name of one of these kinds (`Annotated[Name, refers_to("Secret")]`)."""
    return Field(json_schema_extra={REFERS: list(kinds)})
