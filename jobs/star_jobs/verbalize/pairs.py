"""The files of a neighbours artifact: written by blocks of a matrix, read by key.

    items.parquet, users.parquet                        id (str): what the numbers below stand for
    item_cf/part-<n>.arrow, user_cf/part-<n>.arrow  key (u32, a row of the items or users), neighbour (u32, a row of
                                                        the items), weight (f32)

One row a pair; a key's rows follow each other, strongest first, and keys ascend. Numbers take a third of the time and
memory that ids would, and pairs are by far the most that is written here: k for each user and item. Hence Arrow files
for them: written in half the time of Parquet, and no larger.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from star_contracts.data import SignalKind
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

FOLDERS = {SignalKind.ITEM_CF: "item_cf", SignalKind.USER_CF: "user_cf"}
_ITEM_IDS, _USER_IDS = "items.parquet", "users.parquet"
_KEY_IDS = {SignalKind.ITEM_CF: _ITEM_IDS, SignalKind.USER_CF: _USER_IDS}

Rows = NDArray[np.uint32]


def write_ids(folder: Path, items: pl.Series, users: pl.Series) -> None:
    """Write what the numbers stand for."""
    folder.mkdir(parents=True, exist_ok=True)
    items.alias("id").to_frame().write_parquet(folder / _ITEM_IDS)
    users.alias("id").to_frame().write_parquet(folder / _USER_IDS)


def write_block(folder: Path, kind: SignalKind, start: int, block: sp.csr_matrix) -> None:
    """Write a block of weights, whose first row is the key `start` and whose columns are items, as a part file."""
    keys = np.repeat(np.arange(start, start + block.shape[0], dtype=np.uint32), np.diff(block.indptr))
    pairs = pl.DataFrame({"key": keys, "neighbour": block.indices.astype(np.uint32), "weight": block.data})
    path = folder / FOLDERS[kind] / f"part-{start:09d}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs.write_ipc(path, compression="lz4")


class Neighbours:
    """A fetched neighbours artifact. One part file at a time is in memory."""

    def __init__(self, folder: Path) -> None:
        """Raises TerminalFailure(ArtifactCorrupted) when the folder is not one, or one of an older version."""
        if not (folder / _ITEM_IDS).is_file() or not (folder / _USER_IDS).is_file():
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{folder} holds no {_ITEM_IDS} and {_USER_IDS}: it is not a set of neighbours",
            )
        if any(folder.glob("*/part-*.parquet")):
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                "the neighbours were made by an older version, in Parquet files: delete the Verbalization and apply it "
                "again, which makes them anew",
            )
        self._folder = folder
        self._items = pl.read_parquet(folder / _ITEM_IDS)["id"]
        self._keys = {kind: pl.read_parquet(folder / name)["id"] for kind, name in _KEY_IDS.items()}

    def parts(self, kind: SignalKind) -> list[str]:
        """Return the names of a kind's part files, in the order of their keys."""
        return sorted(path.stem for path in (self._folder / FOLDERS[kind]).glob("part-*.arrow"))

    def rows(self, kind: SignalKind, part: str) -> Rows:
        """Return the keys of a part file, as rows of the ids."""
        keys = pl.read_ipc(self._path(kind, part), columns=["key"])["key"]
        return keys.filter(keys.diff().fill_null(1) != 0).to_numpy()

    def find(self, kind: SignalKind, keys: Iterable[str]) -> Rows:
        """Return the rows of those keys that have an id here, in the order given, each once."""
        ids = self._keys[kind]
        wanted = pl.Series(list(dict.fromkeys(keys)), dtype=pl.String)
        places = wanted.replace_strict(ids, np.arange(len(ids), dtype=np.uint32), default=None, return_dtype=pl.UInt32)
        return places.drop_nulls().to_numpy()

    def keys(self, kind: SignalKind, rows: Rows) -> list[str]:
        """Return the ids of keys."""
        return self._keys[kind][rows].to_list()

    def lists(self, kind: SignalKind, part: str, rows: Rows) -> list[tuple[str, tuple[str, ...]]]:
        """Return (key, neighbours' ids with the strongest first) of some rows of a part file."""
        pairs = _read(self._path(kind, part))
        keys = pairs["key"].to_numpy()
        starts, ends = np.searchsorted(keys, rows, "left"), np.searchsorted(keys, rows, "right")
        near = pairs["neighbour"]
        names: Sequence[str] = self.keys(kind, rows)
        return [
            (name, tuple(self._items[near[start:end]])) for name, start, end in zip(names, starts, ends, strict=True)
        ]

    def _path(self, kind: SignalKind, part: str) -> Path:
        return self._folder / FOLDERS[kind] / f"{part}.arrow"


@lru_cache(maxsize=2)
def _read(path: Path) -> pl.DataFrame:
    return pl.read_ipc(path, columns=["key", "neighbour"])
