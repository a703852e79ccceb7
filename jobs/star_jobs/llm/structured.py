"""Asking for structured output in the words of different endpoints."""

import json
from enum import StrEnum
from typing import Any

from star_jobs.llm.messages import ChatMessage

JsonSchema = dict[str, Any]


class Dialect(StrEnum):
    """What an endpoint understands."""

    VLLM = "vllm"
    """`response_format` with any JSON schema, and `structured_outputs.regex`."""
    JSON_SCHEMA = "json_schema"
    """`response_format` with the subset of JSON schema that OpenAI documents."""
    JSON_OBJECT = "json_object"
    """JSON without a schema (DeepSeek's API): the schema is told in words, and the caller checks."""


def response_format(schema: JsonSchema, dialect: Dialect) -> dict[str, Any]:
    """Return the `response_format` field of a request."""
    if dialect is Dialect.JSON_OBJECT:
        return {"type": "json_object"}
    shown = schema if dialect is Dialect.VLLM else _without_lengths(schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": shown, "strict": True}}


def tell_schema(messages: list[ChatMessage], schema: JsonSchema) -> list[ChatMessage]:
    """Return the messages with the schema in words behind the last one, for endpoints that take no schema."""
    *head, last = messages
    told = f"{last['content']}\n\nAnswer with one JSON object of this JSON schema:\n{json.dumps(schema)}"
    return [*head, {"role": last["role"], "content": told}]


def _without_lengths(schema: Any) -> Any:
    """Leave out the length limits of strings, which OpenAI's strict mode refuses."""
    if isinstance(schema, dict):
        return {k: _without_lengths(v) for k, v in schema.items() if k not in ("minLength", "maxLength")}
    if isinstance(schema, list):
        return [_without_lengths(element) for element in schema]
    return schema
