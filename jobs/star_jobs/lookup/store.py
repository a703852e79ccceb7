"""The look-up store: `write_store` once, `get` and `summary` ever after. Layout: `star_jobs.lookup.layout`."""

import itertools
import mmap
import sys
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from star_contracts.data import Signal, SignalKind, Summary
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.lookup import layout
from star_jobs.lookup.layout import SUMMARY, Entry, identity

_DICTIONARY_SAMPLE = 512
"""Entries the compression dictionary is made from."""
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(union_mode="left_to_right")])


def write_store(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """Write a store into `folder` and return its number of entries by kind.

    Each (kind, key) must come once. Memory: 20 bytes an entry, however large the entries are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stream = iter(entries)
    head = list(itertools.islice(stream, _DICTIONARY_SAMPLE))
    dictionary = _dictionary(head)
    (folder / layout.DICTIONARY).write_bytes(dictionary)
    # Taking a dictionary in costs as much as compressing a record: it is done once, and each record starts on a copy.
    primed = zlib.compressobj(6, zlib.DEFLATED, layout.RAW_DEFLATE, zdict=dictionary)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        shards = [_ShardWriter(folder, shard, stack) for shard in range(layout.SHARDS)]
        for entry in itertools.chain(head, stream):
            kind, key = identity(entry)
            hashed = layout.entry_hash(kind, key)
            shards[layout.shard_of(hashed)].add(hashed, _pack(entry, primed))
            counts[kind] += 1
    for shard in shards:
        shard.write_index()
    meta = layout.StoreMeta(entries={kind: counts[kind] for kind in (*SignalKind, SUMMARY)})
    (folder / layout.META).write_bytes(meta.model_dump_json(by_alias=True).encode())
    return meta.entries


class SignalStore:
    """A store opened for reading. Safe to share between threads; opening reads a few kilobytes only."""

    def __init__(self, meta: layout.StoreMeta, dictionary: bytes, shards: "list[_Shard]") -> None:
        self.entries = meta.entries
        """Number of entries by kind."""
        self._dictionary = dictionary
        self._shards = shards

    @classmethod
    def open(cls, folder: Path) -> "SignalStore":
        """Map the store in `folder`. Raises TerminalFailure(ArtifactCorrupted) when it is not a whole one."""
        try:
            meta = layout.StoreMeta.model_validate_json((folder / layout.META).read_bytes())
            if meta.format_version != layout.FORMAT_VERSION or sys.byteorder != "little":
                raise ValueError(f"format {meta.format_version} cannot be read here")
            shards = [_Shard(folder, shard) for shard in range(layout.SHARDS)]
            return cls(meta, (folder / layout.DICTIONARY).read_bytes(), shards)
        except (OSError, ValueError) as error:
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{folder} is not a look-up store of collaborative signals ({error}): run the Verbalization again",
            ) from error

    def get(self, kind: SignalKind, key: str) -> Signal | None:
        """Return the signal of an item (Item-CF) or a user (User-CF), or None when there is none."""
        found = self._find(kind, key)
        return found if isinstance(found, Signal) else None

    def summary(self, key: str) -> Summary | None:
        """Return the summary of a history's beginning, or None when there is none."""
        found = self._find(SUMMARY, key)
        return found if isinstance(found, Summary) else None

    def _find(self, kind: str, key: str) -> Entry | None:
        hashed = layout.entry_hash(kind, key)
        records = self._shards[layout.shard_of(hashed)].find(hashed)
        return next((entry for entry in map(self._unpack, records) if identity(entry) == (kind, key)), None)

    def _unpack(self, record: bytes) -> Entry:
        try:
            inflate = zlib.decompressobj(layout.RAW_DEFLATE, zdict=self._dictionary)
            return _ENTRY.validate_json(inflate.decompress(record) + inflate.flush())
        except (zlib.error, ValidationError) as error:
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED, "a record of the look-up store is damaged: fetch the artifact again"
            ) from error


class _Shard:
    """One mapped shard."""

    def __init__(self, folder: Path, shard: int) -> None:
        index = _map(folder / layout.index_file(shard))
        self._data = _map(folder / layout.data_file(shard))
        if bytes(index[: len(layout.MAGIC)]) != layout.MAGIC:
            raise ValueError(f"{layout.index_file(shard)} does not start with {layout.MAGIC!r}")
        (count,) = layout.COUNT.unpack(index[len(layout.MAGIC) : layout.HEADER_BYTES])
        start = layout.HEADER_BYTES + layout.FANOUT_BYTES
        if len(index) != start + count * 20:
            raise ValueError(f"{layout.index_file(shard)} is cut short")
        self._fanout = index[layout.HEADER_BYTES : start].cast("Q")
        self._hashes = index[start : start + count * 8].cast("Q")
        self._offsets = index[start + count * 8 : start + count * 16].cast("Q")
        self._lengths = index[start + count * 16 :].cast("I")

    def find(self, hashed: int) -> Iterable[bytes]:
        """Yield the records of a hash: nearly always none or one."""
        bucket = layout.bucket_of(hashed)
        end = self._fanout[bucket + 1]
        at = bisect_left(self._hashes, hashed, self._fanout[bucket], end)
        while at < end and self._hashes[at] == hashed:
            offset = self._offsets[at]
            yield bytes(self._data[offset : offset + self._lengths[at]])
            at += 1


class _ShardWriter:
    """Appends records as they come; the sorted index is written at the end."""

    def __init__(self, folder: Path, shard: int, stack: ExitStack) -> None:
        self._index_path = folder / layout.index_file(shard)
        self._data = stack.enter_context((folder / layout.data_file(shard)).open("wb"))
        self._size = 0
        self._hashes, self._offsets, self._lengths = array("Q"), array("Q"), array("I")

    def add(self, hashed: int, record: bytes) -> None:
        self._data.write(record)
        self._hashes.append(hashed)
        self._offsets.append(self._size)
        self._lengths.append(len(record))
        self._size += len(record)

    def write_index(self) -> None:
        order = sorted(range(len(self._hashes)), key=self._hashes.__getitem__)
        hashes = array("Q", (self._hashes[at] for at in order))
        counts = Counter(map(layout.bucket_of, hashes))
        fanout = array("Q", itertools.accumulate((counts[b] for b in range(layout.BUCKETS)), initial=0))
        with self._index_path.open("wb") as out:
            out.write(layout.MAGIC + layout.COUNT.pack(len(order)))
            for column in (fanout, hashes):
                out.write(column.tobytes())
            out.write(array("Q", (self._offsets[at] for at in order)).tobytes())
            out.write(array("I", (self._lengths[at] for at in order)).tobytes())


def _pack(entry: Entry, primed: "zlib._Compress") -> bytes:
    deflate = primed.copy()
    return deflate.compress(entry.model_dump_json(by_alias=True).encode()) + deflate.flush()


def _dictionary(sample: list[Entry]) -> bytes:
    # Deflate reaches the end of the dictionary most cheaply, so the shape common to all records stands last.
    texts = [entry.model_dump_json(by_alias=True).encode() for entry in sample]
    return b"".join(texts)[-layout.DICTIONARY_BYTES :]


def _map(path: Path) -> memoryview:
    if path.stat().st_size == 0:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
