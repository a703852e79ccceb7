"""The store's file layout, shared by its writer and its reader. All numbers are little-endian.

    store.json           {"formatVersion": 1, "entries": {"Item-CF": n, "User-CF": m, "Summary": s}}
    dictionary.bin       compression dictionary shared by all records, at most 32 KiB
    shard-0.idx … -f.idx magic (8 bytes), n (u64), fan-out (1025 x u64), hashes (n x u64, ascending),
                         offsets (n x u64) and lengths (n x u32) of the records in the shard's .dat file
    shard-0.dat … -f.dat records: raw deflate of an entry's JSON, compressed with the dictionary

An entry's hash is the first 64 bits of blake2b(kind, 0, key), big-endian: its top 4 bits pick the shard, the next 10
the fan-out bucket, so that a look-up in ten million entries bisects about 600 neighbouring hashes (two pages).
The record holds its own kind and key, which settles the rare equal hashes. Only the standard library is needed, as
the store is read in every image, the trainers' included.
"""

import hashlib
import struct

from star_contracts.base import Model
from star_contracts.data import Signal, Summary

FORMAT_VERSION = 1
META = "store.json"
DICTIONARY = "dictionary.bin"
DICTIONARY_BYTES = 32 * 1024
"""Deflate looks back no further."""
MAGIC = b"STARIDX1"
SHARDS = 16
BUCKETS = 1024
HEADER_BYTES = len(MAGIC) + 8
FANOUT_BYTES = (BUCKETS + 1) * 8
RAW_DEFLATE = -15

COUNT = struct.Struct("<Q")

Entry = Signal | Summary
SUMMARY = "Summary"
"""The kind of summaries; a signal's is its tool."""


class StoreMeta(Model):
    """The content of `store.json`."""

    format_version: int = FORMAT_VERSION
    entries: dict[str, int]
    """By kind; kinds without entries may be left out."""


def identity(entry: Entry) -> tuple[str, str]:
    """Return an entry's (kind, key); no two entries of a store have the same."""
    return (SUMMARY if isinstance(entry, Summary) else entry.kind.value), entry.key


def entry_hash(kind: str, key: str) -> int:
    """Return an entry's 64-bit hash."""
    data = f"{kind}\0{key}".encode(errors="surrogatepass")  # a model may ask for any key
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def shard_of(hashed: int) -> int:
    """Return which shard holds a hash."""
    return hashed >> 60


def bucket_of(hashed: int) -> int:
    """Return a hash's fan-out bucket within its shard."""
    return (hashed >> 50) & (BUCKETS - 1)


def index_file(shard: int) -> str:
    """Return the name of a shard's index."""
    return f"shard-{shard:x}.idx"


def data_file(shard: int) -> str:
    """Return the name of a shard's records."""
    return f"shard-{shard:x}.dat"
