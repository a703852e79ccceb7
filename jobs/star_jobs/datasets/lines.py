"""A JSON Lines file of any size, a block of whole lines at a time: in memory is never more than one block.

Most lines are well formed, so a block is parsed as one table by polars. Only a line that this leaves in doubt is looked
at alone, so that each malformed one is known by its number and its fault. A line's `row` is its number less one, blank
lines counted: it finds the line again when the file streams by a second time.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from star_jobs.datasets.faults import Fault, Malformed, Tally, invalid
from star_jobs.datasets.limits import MAX_DEPTH, Doubt

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
ONE_BY_ONE = 16
"""A run of lines as short as this that is no table is read line by line."""
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        record.update(reversed(pairs))
    return record


# As polars does, take control characters in strings, and of a name given twice the first value.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_first_of_each)
BOM = b"\xef\xbb\xbf"
_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; blank ones are left out."""

    data: bytes
    offset: int
    """Of `data` in the file."""
    starts: NDArray[np.int64]
    """(lines,) where in `data` each line begins."""
    ends: NDArray[np.int64]
    """(lines,) one past each line's last byte, its end mark left out."""
    rows: NDArray[np.int64]
    """(lines,) the line's number in the file, from 0."""

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, at: int) -> bytes:
        """Return one line's bytes."""
        return self.data[self.starts[at] : self.ends[at]]

    def line(self, at: int) -> str:
        """Return one line as `decoded` reads it."""
        return decoded(self.raw(at))[0]

    @cached_property
    def brackets(self) -> NDArray[np.int64]:
        """(lines,) how many lists and objects each line opens at most."""
        text = np.frombuffer(self.data, np.uint8)
        places = np.flatnonzero((text == ord("[")) | (text == ord("{")))
        return np.searchsorted(places, self.ends) - np.searchsorted(places, self.starts)


@dataclass(frozen=True)
class Run:
    """Lines `first` to `end` of a block, parsed as one table where that was possible."""

    block: Block
    first: int
    end: int
    table: pl.DataFrame | None
    """One row a line, with null where a value is missing or of another type."""

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def rows(self) -> NDArray[np.int64]:
        """(lines,) their numbers in the file, from 0."""
        return self.block.rows[self.first : self.end]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(lines,) where in the file each line begins."""
        return self.block.offset + self.block.starts[self.first : self.end]

    @property
    def deep(self) -> NDArray[np.bool_]:
        """(lines,) True where a line may be nested deeper than Python can parse."""
        return self.block.brackets[self.first : self.end] > MAX_DEPTH

    def record(self, at: int, tally: Tally | None = None) -> dict[str, Any]:
        """Parse one line of the run; what is not UTF-8 is noted in the tally. Raises Malformed."""
        line, is_utf8 = decoded(self.block.raw(self.first + at))
        if tally is not None and not is_utf8:
            tally.doubt(not_utf8(int(self.rows[at])), Doubt.NOT_UTF8)
        return json_object(line)


def runs(path: Path, schema: pl.Schema) -> Iterator[Run]:
    """Yield all lines of a file in order, with the columns of `schema` out of each line's object.

    Raises TerminalFailure(InvalidDataset) when a line is longer than MAX_LINE_BYTES.
    """
    for block in blocks(path):
        yield from _parse(block, 0, len(block), schema)


def blocks(path: Path) -> Iterator[Block]:
    """Yield a file's lines in blocks.

    Raises TerminalFailure(InvalidDataset) when a line is longer than MAX_LINE_BYTES.
    """
    offset, row, rest, ended = 0, 0, b"", False
    with path.open("rb") as file:
        while not ended:
            chunk = file.read(BLOCK_BYTES)
            ended = not chunk
            data = rest + chunk
            cut = len(data) if ended else data.rfind(b"\n") + 1
            rest = data[cut:]
            if len(rest) > MAX_LINE_BYTES:
                number = row + data.count(b"\n") + 1
                raise invalid(
                    f"{path.name} line {number} is longer than {MAX_LINE_BYTES} bytes: the "
                    "file must be JSON Lines, one object a line"
                )
            if cut:
                block, lines = _block(data[:cut], offset, row)
                offset, row = offset + cut, row + lines
                yield block


def decoded(line: bytes) -> tuple[str, bool]:
    """Return a line as text, and whether it is UTF-8.

    What is not is read as Windows-1252, which holds Latin-1, so that no letter is replaced by a question mark.
    """
    try:
        return line.decode(), True
    except UnicodeDecodeError:
        pass
    try:
        return line.decode("cp1252"), False
    except UnicodeDecodeError:
        return line.decode("latin-1"), False


def not_utf8(row: int) -> str:
    """Return the sentence about a line that is not UTF-8."""
    return f"line {row + 1}: not UTF-8, read as Windows-1252"


def json_object(line: str) -> dict[str, Any]:
    """Parse a line that must hold one JSON object. Raises Malformed."""
    if line.count("[") + line.count("{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
        raise Malformed(Fault.NOT_JSON, f"lists and objects within each other, more than {MAX_DEPTH} deep")
    try:
        record = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise Malformed(Fault.NOT_JSON, f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; a caller deep in the stack
        raise Malformed(Fault.NOT_JSON, f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise Malformed(Fault.NOT_JSON, "not a JSON object")
    return record


def _depth(line: str) -> int:
    """Return how deep lists and objects are nested at most, what stands in strings left out."""
    depth = deepest = 0
    for sign in _STRING.sub("", line):
        if sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return deepest


def _block(data: bytes, offset: int, row: int) -> tuple[Block, int]:
    """Cut whole lines; return the block and how many lines it has, blank ones counted."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == _NEWLINE).astype(np.int64)
    if len(data) and text[-1] != _NEWLINE:  # the file's last line has no end mark
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    if offset == 0 and data.startswith(BOM):
        starts[0] = len(BOM)
    ends -= (ends > starts) & (text[ends - 1] == _RETURN)
    full = ends > starts
    return Block(data, offset, starts[full], ends[full], np.flatnonzero(full) + row), len(full)


def _parse(block: Block, first: int, end: int, schema: pl.Schema) -> Iterator[Run]:
    """Parse lines as one table; where one of them is no JSON, halve until it stands among few."""
    if end - first <= ONE_BY_ONE:
        if end > first:
            yield Run(block, first, end, None)
        return
    lines = block.data[block.starts[first] : block.ends[end - 1]]
    try:
        table = pl.read_ndjson(io.BytesIO(lines), schema=schema, ignore_errors=True)
    except pl.exceptions.PolarsError:
        table = None
    if table is not None and table.height == end - first:
        yield Run(block, first, end, table)
    else:
        middle = (first + end) // 2
        yield from _parse(block, first, middle, schema)
        yield from _parse(block, middle, end, schema)
