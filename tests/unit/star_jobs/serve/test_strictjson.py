"""What is JSON to the gateway, and which place is named when it is not."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_jobs.serve.strictjson import MAX_DEPTH, MAX_MEMBERS, MAX_VALUES, BadJson, parse_object

# Code points, and not characters: lone surrogates are among them.
ANY_TEXT = st.text(st.integers(0, 0x10FFFF).map(chr), max_size=8)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        (b"", "body", "must not be empty"),
        (b" \n", "body", "must not be empty"),
        (b"{", "body", "not JSON"),
        (b"[1]", "body", "must be a JSON object"),
        (b"NaN", "body", "must be a JSON object"),
        (b'{"a": NaN}', "a", "finite"),
        (b'{"a": [1, {"b": -Infinity}]}', "a[1].b", "finite"),
        (b'{"a": 1e999}', "a", "finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a", "finite"),
        (b'{"a": 18446744073709551616}', "a", "64 bits"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "a.b", "more than once"),
        (b'{"a": "\\ud83d"}', "a", "surrogate"),
        (b'{"a": [{"x\\udc00": 1}]}', r"a[0].x\udc00", "surrogate"),
        (b'{"a": "\xed\xa0\xbd"}', "body", "UTF-8"),
        (b'{"a": "\xff"}', "body", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "body", "UTF-8"),
        (b'{"a": "\x00"}', "body", "not JSON"),
        (b'{"a":' * 50_000, "body", "nested deeper"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), ".".join("a" * MAX_DEPTH), "nested deeper"),
        (json.dumps({str(n): n for n in range(MAX_MEMBERS + 1)}).encode(), "body", "members"),
        (b'{"a": [' + b"0," * MAX_VALUES + b"0]}", "body", "values"),
    ],
)
def test_what_no_other_program_could_read_is_refused_by_name(raw: bytes, field: str, words: str) -> None:
    with pytest.raises(BadJson, match=words) as caught:
        parse_object(raw)
    assert caught.value.field == field


def test_whole_characters_and_a_byte_order_mark_are_taken() -> None:
    raw = b'\xef\xbb\xbf{"a": "\\ud83d\\ude42", "b": [18446744073709551615, -9223372036854775808, 1e308, true, null]}'
    assert parse_object(raw) == {"a": "🙂", "b": [2**64 - 1, -(2**63), 1e308, True, None]}


@pytest.mark.fuzz
@given(st.dictionaries(ANY_TEXT, ANY_VALUE, max_size=6))
def test_what_is_taken_can_be_written_again_and_is_the_same(document: dict[str, Any]) -> None:
    raw = json.dumps(document).encode()
    try:
        taken = parse_object(raw)
    except BadJson as error:
        error.field.encode()
        assert "NaN" in raw.decode() or not _is_plain(document)
    else:
        assert json.loads(json.dumps(taken, ensure_ascii=False, allow_nan=False).encode()) == json.loads(raw)


@pytest.mark.fuzz
@given(st.binary(max_size=200) | st.text('{}[]",:0eE+-.\\udNaI x', max_size=60).map(str.encode))
def test_bytes_of_any_kind_are_taken_or_refused_in_words(raw: bytes) -> None:
    with contextlib.suppress(BadJson):  # and nothing else
        json.dumps(parse_object(raw), ensure_ascii=False, allow_nan=False).encode()


def _is_plain(value: Any) -> bool:
    match value:
        case dict():
            return all(_is_plain(name) and _is_plain(member) for name, member in value.items())
        case list():
            return all(map(_is_plain, value))
        case float():
            return math.isfinite(value)
        case str():
            return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
        case bool() | None:
            return True
    return bool(-(2**63) <= value < 2**64)
