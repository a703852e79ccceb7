"""docs/reference.md, generated from the same schemas as the CRDs: every field, its limits, and every rule.

python -m star_operator.api.reference --out docs/reference.md
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from star_contracts.names import GROUP, VERSION
from star_operator.api.crd import CATEGORY, crd
from star_operator.api.kinds import KINDS
from star_operator.api.meta import RULES, KindInfo, Resource, Status
from star_operator.api.schema import Schema, is_bare, structural
from star_operator.core.quantity import WORDS as QUANTITY_WORDS

INTRODUCTION = f"""# Reference

Generated from `star_operator.api` by `make generate`; do not edit.

All kinds belong to `{GROUP}/{VERSION}`, and all but RetrainSchedule are namespaced; `kubectl get {CATEGORY}` lists them
all, and `kubectl explain <kind>.spec` shows what is here. Fields in **bold** are required.

Unknown fields: `kubectl` asks the API server to refuse them (`--validate=strict`, its default). For a client that does
not ask they are dropped, with a warning at most, so let your GitOps tool validate strictly.

Quantities may be written as numbers without quotes. Defaults inside lists are the operator's: the API server does not
fill them in, so that a manifest applied twice is unchanged.
"""
TEMPLATE = "template"
RANGES = {"minimum": "at least {}", "maximum": "at most {}", "minItems": "at least {} entries"}
RANGES |= {"maxItems": "at most {} entries", "minLength": "at least {} characters", "maxProperties": "at most {} keys"}


def render() -> str:
    """Return the whole page, the same text every time."""
    toc = [f"- [{kind.INFO.kind}](#{kind.INFO.kind.lower()})" for kind in KINDS]
    parts = [INTRODUCTION, "\n".join([*toc, "- [Status of every kind](#status-of-every-kind)"]) + "\n"]
    parts += [_kind(kind) for kind in KINDS]
    parts.append("## Status of every kind\n\n" + _table("status", structural(Status, status=True)))
    return "\n".join(parts)


def _kind(kind: type[Resource[Any, Any]]) -> str:
    info = kind.INFO
    version = crd(kind)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    columns = ", ".join(column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column)
    parts = [
        f"## {info.kind}\n",
        f"{schema['description']} Short name `{info.short}`. `kubectl get {info.plural}` shows: {columns}.\n",
        _table("spec", schema["properties"]["spec"]),
        _rules(info, schema["properties"]["spec"]),
    ]
    own = _own_status(kind)
    if own["properties"]:
        parts.append(f"Status, besides the [fields of every kind](#status-of-every-kind):\n\n{_table('status', own)}")
    return "\n".join(parts)


def _own_status(kind: type[Resource[Any, Any]]) -> Schema:
    status = structural(kind.status_type(), status=True)
    inherited = Status.model_json_schema(by_alias=True)["properties"]
    own = {name: item for name, item in status["properties"].items() if name not in inherited}
    return {**status, "properties": own}


def _table(path: str, schema: Schema) -> str:
    rows = [
        f"| {_name(*row)} | {_type(row[1])} | {_default(row[1])} | {_text(row[1])} |" for row in _rows(path, schema)
    ]
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows, ""])


def _rows(path: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    required = schema.get("required", ())
    for name, item in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield below, item, name in required
        if name == TEMPLATE or is_bare(item):  # its fields stand at their own kind
            continue
        yield from _rows(below, item)
        if item.get("type") == "array":
            yield from _rows(f"{below}[]", item["items"])


def _name(path: str, _: Schema, required: bool) -> str:
    return f"**`{path}`**" if required else f"`{path}`"


def _type(schema: Schema) -> str:
    if "type" not in schema:
        return "string or number"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return str(schema["type"])


def _default(schema: Schema) -> str:
    """Return the default of a leaf; those of an object stand at its fields."""
    if "default" not in schema or "properties" in schema:
        return ""
    return f"`{json.dumps(schema['default'])}`"


def _text(schema: Schema) -> str:
    inner = schema.get("items", schema)
    text = [str(schema.get("description", ""))]
    if "type" not in schema:
        return f"{text[0]} ({QUANTITY_WORDS})"
    limits = [words.format(f"{schema[key]:g}") for key, words in RANGES.items() if key in schema]
    for side, words in (("minimum", "above {}"), ("maximum", "below {}")):
        if schema.get(f"exclusive{side.capitalize()}"):
            limits = [words.format(f"{schema[side]:g}"), *(limit for limit in limits if not limit.startswith("at "))]
    limits += [rule["message"] for rule in inner.get(RULES, ()) if inner.get("type") == "string"]
    if "enum" in inner:
        limits.append("one of " + ", ".join(f"`{value}`" for value in inner["enum"]))
    if limits:
        text.append(f"({'; '.join(limits)})")
    return " ".join(text).replace("|", "\\|").strip()


def _rules(info: KindInfo, schema: Schema) -> str:
    rules = [
        f"- `{path}`: {rule['message']}" for path, rule in _all_rules("spec", schema) if "oldSelf" not in rule["rule"]
    ]
    lines = ["Checked at admission:\n", *dict.fromkeys(rules), ""] if rules else []
    return "\n".join([*lines, _mutability(info), ""])


def _mutability(info: KindInfo) -> str:
    if not info.run_to_completion:
        return "The whole spec may change at any time."
    if not info.mutable:
        return f"The spec never changes: create a new {info.kind} instead."
    fields = [
        *(f"`spec.{name}`" for name in info.mutable),
        "`spec.compute.priorityClassName`",
        "`spec.compute.queueName`",
    ]
    return f"A run keeps its spec; only {', '.join(fields)} may change after creation."


def _all_rules(path: str, schema: Schema) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rules of objects, with their paths; those of strings stand at their fields."""
    if schema.get("type") == "string" or is_bare(schema):
        return
    for rule in schema.get(RULES, ()):
        yield path, rule
    for name, item in schema.get("properties", {}).items():
        if name == TEMPLATE:
            continue
        yield from _all_rules(f"{path}.{name}", item)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from _all_rules(path + mark, schema[key])


def main() -> None:
    """Write the page into a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args().out.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
