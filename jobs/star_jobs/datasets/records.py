"""Records that stay in their file: a mapping from id to record that keeps 8 bytes a record in memory."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from star_jobs.datasets.ids import Ids
from star_jobs.datasets.lines import decoded

RecordT = TypeVar("RecordT")


class RecordFile(Mapping[str, RecordT]):
    """Records of a JSON Lines file by id, in order of the ids; each is parsed when it is asked for."""

    def __init__(self, path: Path, ids: Ids, offsets: NDArray[np.int64], parse: Callable[[str], RecordT]) -> None:
        """`offsets` is (ids,): where in the file each id's line begins. `parse` makes a record of a line."""
        self._path = path
        self._ids = ids
        self._offsets = offsets
        self._parse = parse

    def __getitem__(self, key: str) -> RecordT:
        code = self._ids.code(key)
        if code is None:
            raise KeyError(key)
        return next(self._records(range(code, code + 1)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def items(self) -> ItemsView[str, RecordT]:
        """Return the records with their ids; one pass opens the file once."""
        return _Items(self)

    def values(self) -> ValuesView[RecordT]:
        """Return the records; one pass opens the file once."""
        return _Values(self)

    def all(self) -> Iterator[RecordT]:
        """Yield every record, in order of the ids."""
        return self._records(range(len(self._ids)))

    def _records(self, codes: range) -> Iterator[RecordT]:
        with self._path.open("rb") as file:
            for code in codes:
                file.seek(int(self._offsets[code]))
                yield self._parse(decoded(file.readline().rstrip(b"\r\n"))[0])


class _Items(ItemsView[str, RecordT]):
    _mapping: RecordFile[RecordT]

    def __iter__(self) -> Iterator[tuple[str, RecordT]]:
        return zip(self._mapping, self._mapping.all(), strict=True)


class _Values(ValuesView[RecordT]):
    _mapping: RecordFile[RecordT]

    def __iter__(self) -> Iterator[RecordT]:
        return self._mapping.all()
