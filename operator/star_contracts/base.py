"""The base of every model on the wire: camelCase JSON, unknown fields refused, immutable values."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A wire value. Python names are snake_case, JSON names camelCase; an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_json_dict(self) -> dict[str, Any]:
        """Return the JSON object of this value: camelCase keys, `None` left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Later:
    """Marks a field, `Annotated[..., Later()]`, that came after values of its model were first named by their hash.

    While it has its default it is no part of the hash: what was named before keeps its name (`lasting`).
    """


def lasting(value: BaseModel, *, by_alias: bool = False, exclude_none: bool = False) -> dict[str, Any]:
    """Return a value as JSON for a hash that a later version of the program computes alike."""
    found = value.model_dump(mode="json", by_alias=by_alias, exclude_none=exclude_none)
    for name, field in type(value).model_fields.items():
        inner, key = getattr(value, name), (field.alias or name) if by_alias else name
        if any(isinstance(mark, Later) for mark in field.metadata) and inner == field.get_default():
            found.pop(key, None)
        elif isinstance(inner, BaseModel):
            found[key] = lasting(inner, by_alias=by_alias, exclude_none=exclude_none)
    return found


def canonical_json(value: Any) -> bytes:
    """Serialize a JSON value so that equal values give equal bytes: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_digest(data: bytes) -> str:
    """Return `sha256:<64 hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def value_hash(value: Any) -> str:
    """Return the `sha256:` digest of a JSON value's canonical form."""
    return sha256_digest(canonical_json(value))
