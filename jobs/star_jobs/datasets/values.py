"""The border of one value: what a user's file may hold where a number, an id or a text is wanted.

Each function returns the value or raises Malformed, whatever JSON it is given; nothing else escapes.
"""

import json
import re
import reprlib
from decimal import Decimal
from typing import Any

from star_jobs.datasets.faults import Fault, Malformed
from star_jobs.datasets.limits import MAX_ID_CHARS, MAX_RATING, MAX_TIME, TITLE_CHARS
from star_jobs.trajectory.text import clean, whole_text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 80


def shown(value: object) -> str:
    """Return a value for a sentence: short, however long or deep it is."""
    return _brief.repr(value)


def number(value: object, what: str) -> float:
    """Parse a finite number. Raises Malformed naming `what`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        parsed = float(value)  # type: ignore[arg-type]  # anything else is the TypeError caught here
    except (TypeError, ValueError, OverflowError):
        raise Malformed(Fault.BAD_VALUE, f"{what} {shown(value)} is not a number") from None
    if parsed != parsed or parsed in (float("inf"), float("-inf")):
        raise Malformed(Fault.BAD_VALUE, f"{what} {shown(value)} is not a finite number")
    return parsed


def rating_in_bounds(value: object, what: str) -> float:
    """Parse a rating. Raises Malformed naming `what`."""
    parsed = number(value, what)
    if abs(parsed) > MAX_RATING:
        raise Malformed(Fault.BAD_VALUE, f"{what} {parsed:g} is no rating")
    return parsed


def time_in_bounds(seconds: float) -> int:
    """Return Unix seconds that fit into a column. Raises Malformed."""
    if abs(seconds) >= MAX_TIME:
        raise Malformed(Fault.BAD_VALUE, f"the time {shown(seconds)} s lies too far from 1970")
    return int(seconds)


def identifier(value: object, name: str) -> str:
    """Return an id: text, or a whole number, which may be spelled 12.0 or 1e5.

    An id is shown to a model and must come back from it unchanged, so it is one line of text without the tags of the
    trajectory format. Raises Malformed.
    """
    if isinstance(value, float) and value.is_integer():
        value = f"{Decimal(repr(value)).to_integral_value():f}"
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Malformed(Fault.MISSING_FIELD, f"{name} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Malformed(Fault.BAD_VALUE, f"{name} {shown(value)} is neither text nor a whole number")
    text = whole_text(value.strip()) if isinstance(value, str) else str(value)
    if len(text) > MAX_ID_CHARS:
        raise Malformed(Fault.BAD_VALUE, f"{name} {shown(text)} has {len(text)} characters, more than {MAX_ID_CHARS}")
    if _CONTROL.search(text) or clean(text) != text:
        raise Malformed(Fault.BAD_VALUE, f"{name} {shown(text)} is not one line of plain text")
    return text


def title(value: object, name: str) -> str:
    """Return an item's name, empty where there is none; numbers, lists and the like are none. Raises Malformed."""
    if value is not None and not isinstance(value, str):
        raise Malformed(Fault.BAD_VALUE, f"{name} {shown(value)} is not text")
    return whole_text(value or "").strip()[:TITLE_CHARS]


def plain(value: Any, max_chars: int) -> str:
    """Return anything as text of at most `max_chars` characters: text as it is, the rest as JSON."""
    return (whole_text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=True))[:max_chars]
