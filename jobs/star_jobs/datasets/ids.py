"""Ids and their codes: a table's millions of ids as small integers, so that no interaction keeps a string."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

_CHUNK = 100_000
_UNKNOWN = -1


class Ids(Sequence[str]):
    """Sorted, distinct ids; an id's place is its code. 16 bytes each, and the text of those longer than 12 bytes."""

    def __init__(self, ids: pl.Series) -> None:
        """`ids` are sorted and distinct strings."""
        self._ids = ids

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Ids":
        """Sort ids, each once."""
        return cls(pl.Series(sorted(set(ids)), dtype=pl.String))

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, code: int) -> str: ...
    @overload
    def __getitem__(self, code: slice) -> Sequence[str]: ...
    def __getitem__(self, code: int | slice) -> str | Sequence[str]:
        if isinstance(code, slice):
            return tuple(self._ids[code].to_list())
        value: str = self._ids[int(code)]
        return value

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            yield from self._ids.slice(first, _CHUNK).to_list()

    def code(self, value: str) -> int | None:
        """Return the code of an id; None when it is not one of these."""
        at = bisect_left(self, value)
        return at if at < len(self) and self[at] == value else None

    def take(self, codes: NDArray[np.integer]) -> pl.Series:
        """Return (codes,) the ids of codes."""
        return self._ids.gather(pl.Series(codes))


class _Numbers(dict[str, int]):
    def __missing__(self, value: str) -> int:
        number = self[value] = len(self)
        return number


class Numbering:
    """Numbers ids in the order they come, while a table is read. About 150 bytes for each distinct id."""

    def __init__(self) -> None:
        self._numbers = _Numbers()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Return (ids,) their numbers; an id seen for the first time gets the next one."""
        return np.fromiter(map(self._numbers.__getitem__, ids), np.int32, len(ids))

    def find(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Return (ids,) their numbers, -1 for those that were never added."""
        return np.fromiter((self._numbers.get(value, _UNKNOWN) for value in ids), np.int32, len(ids))

    def sorted(self) -> tuple[Ids, NDArray[np.int32]]:
        """Return the ids in order, and (ids,) the code that each number becomes."""
        ids = pl.Series(list(self._numbers), dtype=pl.String)
        order = ids.arg_sort()
        codes = np.empty(len(ids), np.int32)
        codes[order.to_numpy()] = np.arange(len(ids), dtype=np.int32)
        return Ids(ids.gather(order)), codes
