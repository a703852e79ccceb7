"""JSON as the gateway takes it, from callers and from backends alike: RFC 8259 to the letter, and within bounds.

Python's own reader lets through what no other program can do anything with: NaN and Infinity, numbers past every type,
half a surrogate pair, a name twice in one object. Each of them would turn up later as a failure without a name, so all
of them are found here, and the path to the first one is told.
"""

import json
import math
from typing import Any

JsonObject = dict[str, Any]

MAX_DEPTH = 100
"""Levels of objects and arrays; what is deeper cannot be walked or written again within Python's stack."""
MAX_VALUES = 500_000
"""Values in a document: small bodies can hold values of many times their size in memory."""
MAX_MEMBERS = 10_000
"""Members of one object."""

_INTEGERS = range(-(2**63), 2**64)
_MAX_DIGITS = 20
_LONGEST_PATH = 300


class BadJson(ValueError):
    """A document that is not taken. `field` is the path to what is wrong, as `messages[0].content`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class _Repeated(JsonObject):
    """Stands for an object that had a name twice; `name` is that name."""

    name: str


def parse_object(raw: bytes, max_values: int = MAX_VALUES) -> JsonObject:
    """Read a JSON object. Raises BadJson."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJson("body", f"must be UTF-8; byte {error.start} is not") from None
    try:
        document = json.loads(text, parse_int=_integer, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        raise BadJson("body", f"not JSON ({error})" if text.strip() else "must not be empty") from None
    except RecursionError:
        raise BadJson("body", f"must not be nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(document, dict):
        raise BadJson("body", "must be a JSON object")
    _check(document, max_values)
    return document


def path(*parts: str | int) -> str:
    """Return how a place in a document is told: `history[3].rating`; the document itself is `body`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}" if text else printable(part)
    return text[:_LONGEST_PATH] or "body"


def printable(text: str) -> str:
    """Return the text with its lone surrogates as escapes, so that it can be written."""
    return text.encode("utf-8", "backslashreplace").decode()[:_LONGEST_PATH]


_Path = tuple[str | int, ...]


def _check(document: JsonObject, max_values: int) -> None:
    waiting: list[tuple[_Path, JsonObject | list[Any]]] = [((), document)]
    values = 1
    while waiting:
        where, container = waiting.pop()
        _check_container(where, container)
        values += len(container)
        if values > max_values:
            raise BadJson("body", f"must not have more than {max_values} values")
        # A path is only made where it is needed: nearly all values are plain, and there may be very many.
        for name, value in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(value, dict | list):
                waiting.append(((*where, name), value))
            elif (problem := _problem(value)) is not None:
                raise BadJson(path(*where, name), problem)


def _check_container(where: _Path, container: JsonObject | list[Any]) -> None:
    if len(where) >= MAX_DEPTH:
        raise BadJson(path(*where), f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(container, list):
        return
    if isinstance(container, _Repeated):
        raise BadJson(path(*where, container.name), "stands more than once in its object")
    if len(container) > MAX_MEMBERS:
        raise BadJson(path(*where), f"must not have more than {MAX_MEMBERS} members")
    for name in container:
        if not _is_text(name):
            raise BadJson(path(*where, name), "its name has half a surrogate pair; send whole characters")


def _problem(value: str | float | None) -> str | None:
    """Return what is wrong with a value that holds no others."""
    if isinstance(value, str):
        return None if _is_text(value) else "has half a surrogate pair; send whole characters"
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number"
    return None if value is None or value in _INTEGERS else "must fit into 64 bits"


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int | float:
    # Python takes time that grows with the square of the digits, and none at all past 4300 of them.
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _members(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    repeated = _Repeated(members)
    seen: set[str] = set()
    repeated.name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return repeated
