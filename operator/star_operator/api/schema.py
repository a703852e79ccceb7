"""From a pydantic model to a structural schema (apiextensions v1 JSONSchemaProps).

Structural schemas know no `$ref`, no `anyOf` of types and no `title`, and want boolean `exclusiveMinimum`:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema, to_jsonable_python

from star_operator.api.meta import BARE, PRESERVE, RULES
from star_operator.api.references import REFERS
from star_operator.api.sentences import SENTENCES

Schema: TypeAlias = dict[str, Any]
"""A JSON schema as JSON."""

VALUES = "x-star-values"
"""Carries an enum's values and what they mean up to the field's description."""
NUMBER_OR_TEXT = ["string", "number"]
_NOTHING_ELSE: Schema = {
    PRESERVE: True,
    "not": {"enum": [True, False]},
    "minProperties": 1,
    "maxProperties": 0,
    "minItems": 1,
    "maxItems": 0,
}
"""A structural schema has no union of number and text (int-or-string refuses 0.5): of a value without a type it takes
away what is a truth value, a map or a list."""

_COPIED = frozenset(
    {"type", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems"}
    | {"maxProperties", "required", "format", RULES, PRESERVE}
    | {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
)
_READ = frozenset(
    {"$defs", "description", VALUES, REFERS, "propertyNames", "properties", "items", "additionalProperties", "const"}
    | {BARE}
)
_DROPPED = frozenset({"title"})
_ALTERNATIVES = re.compile(r"\^\(([A-Za-z0-9|]+)\)\$")


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, told what Kubernetes wants: an optional field is one that may be left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of the value: the API server takes null for absent."""
        return self.generate_inner(schema["schema"])

    def encode_default(self, dft: Any) -> Any:
        """Return the default as JSON, without the fields that are left out."""
        return to_jsonable_python(dft, by_alias=True, exclude_none=True)

    def enum_schema(self, schema: core_schema.EnumSchema) -> Schema:
        """Return the schema with what each value means."""
        return {**super().enum_schema(schema), VALUES: _value_docs(schema["cls"])}


def structural(model: type[BaseModel], *, status: bool = False) -> Schema:
    """Return the structural schema of a model.

    A status has neither defaults nor required fields (apart from the keys of list-maps): the operator writes it in
    parts, and what it has not written must not look as if it had.

    Raises ValueError on a JSON schema keyword that has no structural counterpart.
    """
    raw = json_schema(model)
    schema = _convert(raw, raw.get("$defs", {}))
    return _each(schema, _as_status) if status else _without_defaults_in_lists(_each(schema, _as_spec))


def json_schema(model: type[BaseModel]) -> Schema:
    """Return the JSON schema of a model, with `$defs`: optional fields are those that may be left out."""
    return model.model_json_schema(by_alias=True, schema_generator=_Generator)


def _convert(raw: Schema, defs: dict[str, Schema]) -> Schema:
    node = _resolve(raw, defs)
    description = _description(node)
    result: Schema = {"description": description} if description else {}
    result |= {key: value for key, value in node.items() if key in _COPIED}
    if result.get("default", "") is None:
        del result["default"]
    if "properties" in node:
        result["properties"] = {name: _convert(item, defs) for name, item in node["properties"].items()}
    if "items" in node:
        result["items"] = _convert(node["items"], defs)
        if "enum" in result["items"]:
            result["x-kubernetes-list-type"] = "set"
    if isinstance(node.get("additionalProperties"), dict) and PRESERVE not in node:
        result["additionalProperties"] = _convert(node["additionalProperties"], defs)
        result |= _key_rules(node.get("propertyNames", {}), result)
    result |= _scalar(node)
    return _without_descriptions(result) if BARE in node else result


def is_bare(schema: Schema) -> bool:
    """Say whether a block's fields are explained elsewhere."""
    inner = schema.get("properties", {}).values()
    return bool(inner) and not any("description" in item for item in inner)


def _without_descriptions(schema: Schema) -> Schema:
    """Return a block with its own description alone, marked, so that pages do not tell of its fields once more."""
    inner = _each(schema, lambda node: {key: value for key, value in node.items() if key != "description"})
    return {**inner, "description": schema.get("description", "")}


def _key_rules(keys: Schema, schema: Schema) -> Schema:
    """Return the rule that a pattern of a map's keys becomes: structural schemas have no `propertyNames`."""
    pattern = keys.get("pattern")
    if pattern is None:
        return {}
    rule = {"rule": f'self.all(key, key.matches(r"{pattern}"))', "message": f"keys {SENTENCES[pattern]}"}
    return {RULES: [*schema.get(RULES, []), rule]}


def _resolve(raw: Schema, defs: dict[str, Schema]) -> Schema:
    """Put a definition in the place of its `$ref`; what stands beside the reference wins."""
    node = raw
    if "$ref" in raw:
        target = defs[raw["$ref"].removeprefix("#/$defs/")]
        node = {**_resolve(target, defs), **{key: value for key, value in raw.items() if key != "$ref"}}
    unknown = node.keys() - _COPIED - _READ - _DROPPED - {"exclusiveMinimum", "exclusiveMaximum"}
    if unknown:
        raise ValueError(f"JSON schema keywords without structural counterpart: {sorted(unknown)} in {node}")
    return node


def _scalar(node: Schema) -> Schema:
    """Return what is spelled differently in OpenAPI v3.0: exclusive limits, constants, formats of numbers."""
    result: Schema = {}
    for side in ("Minimum", "Maximum"):
        if f"exclusive{side}" in node:
            result |= {side.lower(): node[f"exclusive{side}"], f"exclusive{side}": True}
    if "const" in node:
        result["enum"] = [node["const"]]
    formats = {"integer": "int64", "number": "double"}
    if (type_ := node.get("type")) in ("integer", "number"):
        result["format"] = formats[type_]
    return result


def _description(node: Schema) -> str:
    text = " ".join(str(node.get("description", "")).split())
    meanings: dict[str, str] = node.get(VALUES, {})
    values = [value for value in node.get("enum", ()) if value in meanings]
    return " ".join([text, *(f"`{value}`: {meanings[value]}" for value in values)]).strip()


def _value_docs(enum: type[Enum]) -> dict[str, str]:
    """Return the docstring under each member, by value; pydantic has no such thing for enums."""
    body = ast.parse(textwrap.dedent(inspect.getsource(enum))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            name = statement.targets[0].id
            docs[str(enum[name].value)] = " ".join(str(following.value.value).split())
    return docs


def _each(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Apply a change to a schema and to all schemas inside it."""
    result = change(schema)
    if "properties" in result:
        result["properties"] = {name: _each(item, change) for name, item in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = _each(result[key], change)
    return result


def _as_spec(schema: Schema) -> Schema:
    """Say in words what a pattern wants: a regular expression tells people little.

    Patterns that only list words become enums; the others become rules with the pattern's sentence.
    """
    if schema.get("type") == NUMBER_OR_TEXT:
        return {key: value for key, value in schema.items() if key != "type"} | _NOTHING_ELSE
    if "pattern" not in schema:
        return schema
    result = {key: value for key, value in schema.items() if key != "pattern"}
    pattern = schema["pattern"]
    alternatives = _ALTERNATIVES.fullmatch(pattern)
    if alternatives:
        return {**result, "enum": alternatives[1].split("|")}
    if pattern not in SENTENCES:
        raise ValueError(f"pattern {pattern} has no sentence in star_operator/api/sentences.py: add one")
    rule = {"rule": f'self.matches(r"{pattern}")', "message": SENTENCES[pattern]}
    return {**result, RULES: [*result.get(RULES, []), rule]}


def _without_defaults_in_lists(schema: Schema, inside: bool = False) -> Schema:
    """Say the defaults of a list's entries in words alone: the operator knows them, and the API server fills in none.

    A merge patch, which is what `kubectl apply` sends, replaces lists whole: a list with defaults filled in would
    differ from its manifest for ever ("configured" at every apply, OutOfSync in Argo CD).
    """
    result = dict(schema)
    if inside and "default" in result:
        default = result.pop("default")
        if default not in ({}, []):
            shown = default if isinstance(default, str) else json.dumps(default)
            result["description"] = f"{result.get('description', '')} Default: `{shown}`.".strip()
    if "properties" in result:
        properties = result["properties"].items()
        result["properties"] = {name: _without_defaults_in_lists(item, inside) for name, item in properties}
    if "items" in result:
        result["items"] = _without_defaults_in_lists(result["items"], inside=True)
    if isinstance(result.get("additionalProperties"), dict):
        result["additionalProperties"] = _without_defaults_in_lists(result["additionalProperties"], inside)
    return result


def _as_status(schema: Schema) -> Schema:
    dropped = ("default", "required", RULES)
    result = {key: value for key, value in schema.items() if key not in dropped}
    keys = result.get("x-kubernetes-list-map-keys", ())
    if keys:
        result["items"] = {**result["items"], "x-star-keys": list(keys)}
    if "x-star-keys" in result:
        result["required"] = result.pop("x-star-keys")
    return result
