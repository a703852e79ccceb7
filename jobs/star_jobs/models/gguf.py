"""Whether a GGUF file is whole (format: github.com/ggml-org/ggml, docs/gguf.md), from its header alone.

The library that reads the weights maps the file into memory and believes its header: a file that is cut short, or none
at all, would fail there in any way, after minutes.
"""

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = "general.alignment"
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of metadata values of a fixed size, as `struct` spells them."""
_UINT32, _STRING, _ARRAY = 4, 8, 9
_BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    30: (1, 2),  # BF16
}
"""Type of a tensor -> (weights, bytes) of a block. Of other types only the beginning is looked for."""
_NESTED = 4
_NAME_BYTES = 1 << 16
_DIMENSIONS = 8


class BrokenGGUF(ValueError):
    """A file that is no whole GGUF file; the text completes "the file ..."."""


def check(file: Path) -> None:
    """Raise BrokenGGUF unless a file has all the bytes that its header speaks of."""
    size = file.stat().st_size
    with file.open("rb") as data:
        magic = data.read(4)
        if not magic:
            raise BrokenGGUF("is empty")
        if magic != MAGIC:
            raise BrokenGGUF(f"is not a GGUF file (it starts with {magic!r})")
        needed = _Header(data, size).end()
    if size < needed:
        raise BrokenGGUF(f"is cut short ({size} of {needed} bytes)")


class _Header:
    """Reads a header once, from behind the magic bytes."""

    def __init__(self, data: BinaryIO, size: int) -> None:
        self._data = data
        self._size = size
        self._alignment = 32

    def end(self) -> int:
        """Return how long the file has to be."""
        version = self._number("I")
        if version not in _VERSIONS:
            raise BrokenGGUF(f"is of GGUF version {version}, and only versions 2 and 3 of little-endian files are read")
        tensors, values = self._number("Q"), self._number("Q")
        if tensors == 0:
            raise BrokenGGUF("holds no tensors")
        for _ in range(values):
            key = self._string()
            found = self._value(self._number("I"))
            if key == _ALIGNMENT.encode() and found:
                self._alignment = found
        ends = [self._tensor() for _ in range(tensors)]
        start = self._data.tell()
        return start + -start % self._alignment + max(ends)

    def _tensor(self) -> int:
        """Read a tensor's entry; return where it ends, counted from the first one's beginning."""
        self._string()
        dimensions = self._number("I")
        if dimensions > _DIMENSIONS:
            raise BrokenGGUF(f"has a header that is none (a tensor of {dimensions} dimensions)")
        weights = prod(self._number("Q") for _ in range(dimensions))
        kind, offset = self._number("I"), self._number("Q")
        block, size = _BLOCKS.get(kind, (weights or 1, 1))
        return offset + weights // block * size

    def _value(self, kind: int, depth: int = 0) -> int | None:
        """Pass over a value; return it when it is a whole number."""
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY and depth < _NESTED:
            of, count = self._number("I"), self._number("Q")
            if of in _VALUES:
                self._skip(count * struct.calcsize(_VALUES[of]))
            else:
                for _ in range(count):
                    self._value(of, depth + 1)
        elif kind == _UINT32:
            return self._number("I")
        elif kind in _VALUES:
            self._skip(struct.calcsize(_VALUES[kind]))
        else:
            raise BrokenGGUF(f"has a header that is none (a value of type {kind})")
        return None

    def _string(self) -> bytes:
        """Read a text; one that is too long for a name is passed over."""
        length = self._number("Q")
        if length > _NAME_BYTES:
            self._skip(length)
            return b""
        return self._read(length)

    def _number(self, form: str) -> int:
        (number,) = struct.unpack(f"<{form}", self._read(struct.calcsize(form)))
        return int(number)

    def _read(self, count: int) -> bytes:
        self._require(count)
        return self._data.read(count)

    def _skip(self, count: int) -> None:
        self._require(count)
        self._data.seek(count, 1)

    def _require(self, count: int) -> None:
        if count > self._size - self._data.tell():
            raise BrokenGGUF("is cut short in its header")
