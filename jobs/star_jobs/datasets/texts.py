"""The review texts that histories show, in a file: tasks may show millions of them, so only their places are kept."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class ShownTexts:
    """Texts by source row, written in row order and then read in any; 12 bytes a text in memory. Closing removes it."""

    def __init__(self, rows: NDArray[np.uint32], folder: Path) -> None:
        """`rows` (texts,) are wanted, ascending and distinct. The file is made in `folder`, which must exist."""
        self.rows = rows
        self._ends = np.zeros(len(rows), np.int64)
        self._written = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def add(self, texts: Sequence[str]) -> None:
        """Write the texts of the next rows."""
        encoded = [text.encode() for text in texts]
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        start = int(self._ends[self._written - 1]) if self._written else 0
        self._ends[self._written : self._written + len(encoded)] = start + np.cumsum(sizes)
        self._written += len(encoded)
        self._file.writelines(encoded)

    def text(self, row: int) -> str:
        """Return a row's text; empty where none was wanted or the source has none."""
        at = int(np.searchsorted(self.rows, row))
        if at >= self._written or self.rows[at] != row:
            return ""
        start = int(self._ends[at - 1]) if at else 0
        self._file.seek(start)
        return self._file.read(int(self._ends[at]) - start).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
