"""The files of a neighbours artifact: written by blocks of a matrix, read by key.

    items.parquet, users.parquet        id (str): what the numbers below stand for
    origin.json                         `Origin`: what they were computed from
    edges.parquet                       user, item (u32): the graph's edges; with a tolerance only
    {item_cf,user_cf}/keys-<n>.arrow    key (u32, a row of the items or users; ascending), end (u32, of its pairs),
                                        since (u16, of `Origin.snapshots`: in which the list was computed)
    {item_cf,user_cf}/part-<n>.arrow    neighbour (u32, a row of the items; a key's strongest first), weight (f32)

Pairs are by far the most that is written here, k for each user and item, so they are written as they are in memory:
numbers for ids, and nothing compressed, as what there is to gain (9%) takes three times as long.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import ValidationError

from star_contracts.artifact import Digest
from star_contracts.base import Model, canonical_json
from star_contracts.data import SignalKind
from star_contracts.errors import Reason
from star_contracts.settings import NeighbourSettings
from star_jobs.errors import TerminalFailure

FOLDERS = {SignalKind.ITEM_CF: "item_cf", SignalKind.USER_CF: "user_cf"}
_ITEM_IDS, _USER_IDS = "items.parquet", "users.parquet"
ORIGIN, _EDGES = "origin.json", "edges.parquet"
_KEY_IDS = {SignalKind.ITEM_CF: _ITEM_IDS, SignalKind.USER_CF: _USER_IDS}
_NO_KEYS = pl.DataFrame(schema={"key": pl.UInt32, "count": pl.Int64, "since": pl.UInt16})
_NO_PAIRS = pl.DataFrame(schema={"neighbour": pl.UInt32, "weight": pl.Float32})

Rows = NDArray[np.uint32]


class Origin(Model):
    """What neighbours were computed from: the content of `origin.json`."""

    dataset: Digest
    settings: NeighbourSettings
    snapshots: tuple[Digest, ...]
    """The datasets in which the lists were computed; of all but the last, this one, lists were kept."""


@dataclass(frozen=True)
class NeighbourList:
    """A key's neighbours."""

    key: str
    items: tuple[str, ...]
    """Ids, the strongest first."""
    since: str
    """Digest of the dataset in which the list was computed; empty where that was not recorded."""


@dataclass(frozen=True)
class Pairs:
    """All lists of a kind: keys ascend, and one key's pairs stand after another's."""

    key: Rows
    count: NDArray[np.int64]
    """(keys,) neighbours of each."""
    since: NDArray[np.uint16]
    """(keys,) of the origin's snapshots."""
    neighbour: Rows
    """(pairs,) a key's strongest first."""
    weight: NDArray[np.float32]


def write_ids(folder: Path, items: pl.Series, users: pl.Series) -> None:
    """Write what the numbers stand for."""
    folder.mkdir(parents=True, exist_ok=True)
    items.alias("id").to_frame().write_parquet(folder / _ITEM_IDS)
    users.alias("id").to_frame().write_parquet(folder / _USER_IDS)


def write_origin(folder: Path, origin: Origin) -> None:
    """Write what the neighbours are computed from."""
    (folder / ORIGIN).write_bytes(canonical_json(origin.to_json_dict()))


def write_edges(folder: Path, edges: sp.csr_matrix) -> None:
    """Write the graph's edges, a matrix of (users, items)."""
    user = np.repeat(np.arange(edges.shape[0], dtype=np.uint32), np.diff(edges.indptr))
    pl.DataFrame({"user": user, "item": edges.indices.view(np.uint32)}).write_parquet(folder / _EDGES)


def write_block(
    folder: Path, kind: SignalKind, start: int, block: sp.csr_matrix, since: NDArray[np.uint16] | None = None
) -> None:
    """Write a block of weights, whose first row is the key `start` and whose columns are items, as part files.

    `since` is (rows,); all 0 where there is none.
    """
    found = np.flatnonzero(np.diff(block.indptr))
    keys = {
        "key": (start + found).astype(np.uint32),
        "end": block.indptr[1:][found].astype(np.uint32),
        "since": np.zeros(len(found), np.uint16) if since is None else since[found],
    }
    pairs = {"neighbour": block.indices.view(np.uint32), "weight": block.data}
    within, number = folder / FOLDERS[kind], f"{start:09d}"
    within.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(pairs).write_ipc(within / f"part-{number}.arrow", compression="uncompressed")
    pl.DataFrame(keys).write_ipc(within / f"keys-{number}.arrow")


class Neighbours:
    """A fetched neighbours artifact. One part file at a time is in memory."""

    def __init__(self, folder: Path) -> None:
        """Raises TerminalFailure(ArtifactCorrupted) when the folder is not one, or one of an older version."""
        if not (folder / _ITEM_IDS).is_file() or not (folder / _USER_IDS).is_file():
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{folder} holds no {_ITEM_IDS} and {_USER_IDS}: it is not a set of neighbours",
            )
        if not all(_keys_of(part).is_file() for part in folder.glob("*/part-*")):
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                "the neighbours were made by an older version, without keys-<n>.arrow: delete the Verbalization and "
                "apply it again, which makes them anew",
            )
        self._folder = folder
        self._items = pl.read_parquet(folder / _ITEM_IDS)["id"]
        self._keys = {kind: pl.read_parquet(folder / name)["id"] for kind, name in _KEY_IDS.items()}

    @property
    def origin(self) -> Origin | None:
        """What they were computed from; None where that was not recorded, or cannot be read any more."""
        try:
            return Origin.model_validate_json((self._folder / ORIGIN).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def ids(self, kind: SignalKind) -> pl.Series:
        """Return the ids of a kind's keys by their rows; those of Item-CF are also the neighbours'."""
        return self._keys[kind]

    def edges(self) -> pl.DataFrame | None:
        """Return the graph's edges as (user, item); None where they were not kept."""
        path = self._folder / _EDGES
        return pl.read_parquet(path) if path.is_file() else None

    def pairs(self, kind: SignalKind) -> Pairs:
        """Return all of a kind's lists."""
        keys, pairs = [_NO_KEYS], [_NO_PAIRS]
        for part in self.parts(kind):
            count = pl.col("end").cast(pl.Int64).diff().fill_null(pl.col("end").cast(pl.Int64)).alias("count")
            keys.append(pl.read_ipc(_keys_of(self._path(kind, part))).select("key", count, "since"))
            pairs.append(pl.read_ipc(self._path(kind, part)))
        numbers, all_pairs = pl.concat(keys), pl.concat(pairs)
        return Pairs(
            *(numbers[name].to_numpy() for name in _NO_KEYS.columns),
            *(all_pairs[name].to_numpy() for name in _NO_PAIRS.columns),
        )

    def parts(self, kind: SignalKind) -> list[str]:
        """Return the names of a kind's part files, in the order of their keys."""
        return sorted(path.stem for path in (self._folder / FOLDERS[kind]).glob("part-*.arrow"))

    def rows(self, kind: SignalKind, part: str) -> Rows:
        """Return the keys of a part file, as rows of the ids."""
        return _read(_keys_of(self._path(kind, part)))["key"].to_numpy()

    def find(self, kind: SignalKind, keys: Iterable[str]) -> Rows:
        """Return the rows of those keys that have an id here, in the order given, each once."""
        ids = self._keys[kind]
        wanted = pl.Series(list(dict.fromkeys(keys)), dtype=pl.String)
        places = wanted.replace_strict(ids, np.arange(len(ids), dtype=np.uint32), default=None, return_dtype=pl.UInt32)
        return places.drop_nulls().to_numpy()

    def keys(self, kind: SignalKind, rows: Rows) -> list[str]:
        """Return the ids of keys."""
        return self._keys[kind][rows].to_list()

    def lists(self, kind: SignalKind, part: str, rows: Rows) -> list[NeighbourList]:
        """Return the lists of some rows of a part file."""
        keys, pairs = _read(_keys_of(self._path(kind, part))), _read(self._path(kind, part))
        ends = np.append(0, keys["end"].to_numpy())  # ends[n + 1] of the n-th key, whose pairs begin at ends[n]
        at = np.searchsorted(keys["key"].to_numpy(), rows)
        near = pairs["neighbour"]
        names: Sequence[str] = self.keys(kind, rows)
        since = self._since(keys, at)
        return [
            NeighbourList(name, tuple(self._items[near[start:end]]), of)
            for name, start, end, of in zip(names, ends[at], ends[at + 1], since, strict=True)
        ]

    def _since(self, keys: pl.DataFrame, at: NDArray[np.int64]) -> list[str]:
        origin = self.origin
        if origin is None or "since" not in keys.columns:
            return [""] * len(at)
        return [origin.snapshots[number] for number in keys["since"].to_numpy()[at]]

    def _path(self, kind: SignalKind, part: str) -> Path:
        return self._folder / FOLDERS[kind] / f"{part}.arrow"


def _keys_of(part: Path) -> Path:
    return part.with_name(part.name.replace("part-", "keys-", 1)).with_suffix(".arrow")


@lru_cache(maxsize=4)
def _read(path: Path) -> pl.DataFrame:
    return pl.read_ipc(path)
