"""Write a look-up store and look things up in it.

    make bench-store      or      .venv/bin/python tests/bench/bench_store.py [--entries 1e7] [--folder DIR]

Entries are as different as real ones: two or three categories whose summaries are passages of English prose (Python's
own manual, cut at random places), which says less twice than a model's summaries do, and neighbours with the random
ten-character ids of a shop, the popular ones oftener. Ten million of them take about 4 GB of disk in --folder, which
is emptied afterwards. The last line is the result:

    RESULT {"p99_ms": ..., "open_ms": ..., "size_ratio": ..., ...}

p99_ms, p50_ms    one `SignalStore.get`, of keys drawn evenly, all files in the page cache
open_ms           `SignalStore.open`
size_ratio        bytes of all the store's files over bytes of the signals' JSON
raw_gb, store_gb  what the ratio is made of
write_s           `write_store`, making up the entries included; make_s: making them up alone, by a sample
writer_rss_mb     most resident memory of this process while it wrote
"""

import argparse
import json
import pydoc_data.topics
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from star_contracts.data import Signal, SignalCategory, SignalKind
from star_jobs.lookup import SignalStore, write_store

CATALOGUE = 200_000
"""Items that neighbours are drawn from."""
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NEIGHBOURS = 10
_LOOKUPS = 20_000
_SAMPLE = 20_000


class Texts:
    """Makes up signals, the same ones each time."""

    def __init__(self) -> None:
        rng = random.Random(0)
        self._words = " ".join(pydoc_data.topics.topics.values()).replace("*", "").replace("`", "").split()
        self._items = ["B0" + "".join(rng.choices(_ID_LETTERS, k=8)) for _ in range(CATALOGUE)]

    def signals(self, count: int) -> Iterator[Signal]:
        """Yield `count` signals, items and users in turn."""
        rng = random.Random(1)
        for number in range(count):
            yield self._signal(rng, SignalKind.USER_CF if number % 2 else SignalKind.ITEM_CF, number)

    def _signal(self, rng: random.Random, kind: SignalKind, number: int) -> Signal:
        neighbours = tuple(dict.fromkeys(self._items[int(CATALOGUE * rng.random() ** 3)] for _ in range(_NEIGHBOURS)))
        categories = tuple(
            SignalCategory.model_construct(
                name=self._passage(rng, 2 + rng.randrange(3)),
                summary=self._passage(rng, 10 + rng.randrange(16)),
                representative_items=neighbours[(at := rng.randrange(_NEIGHBOURS - 3)) : at + 3],
            )
            for _ in range(2 + rng.randrange(2))
        )
        made_from = f"{rng.getrandbits(64):016x}"
        return Signal.model_construct(
            kind=kind, key=key(number), categories=categories, neighbours=neighbours, made_from=made_from
        )

    def _passage(self, rng: random.Random, words: int) -> str:
        start = rng.randrange(len(self._words) - words)
        return " ".join(self._words[start : start + words])


def key(number: int) -> str:
    """The key of an entry."""
    return f"A{number * 2654435761 % 2**40:012X}"


def timed(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def lookup_seconds(store: SignalStore, entries: int) -> list[float]:
    """Look keys up and return the sorted times. The first round brings the pages into the cache."""
    numbers = random.Random(1).choices(range(entries), k=_LOOKUPS)

    def one(number: int) -> None:
        kind = SignalKind.USER_CF if number % 2 else SignalKind.ITEM_CF
        assert store.get(kind, key(number)) is not None, number

    for number in numbers:
        one(number)
    return sorted(timed(lambda number=number: one(number)) for number in numbers)  # type: ignore[misc]


def raw_bytes(texts: Texts, entries: int) -> float:
    """Bytes of all signals' JSON, one a line, estimated from every n-th."""
    sample = list(texts.signals(min(entries, _SAMPLE)))
    return sum(len(signal.model_dump_json(by_alias=True)) + 1 for signal in sample) / len(sample) * entries


def peak_rss_mb() -> float:
    """Most resident memory of this process so far (proc_pid_status(5), VmHWM), in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def benchmark(folder: Path, entries: int) -> dict[str, float]:
    """Write, open, look up."""
    texts = Texts()
    make = timed(lambda: sum(1 for _ in texts.signals(min(entries, _SAMPLE)))) / min(entries, _SAMPLE) * entries
    write = timed(lambda: write_store(folder, texts.signals(entries)))
    writer_rss = peak_rss_mb()
    size = sum(path.stat().st_size for path in folder.iterdir())
    opened = min(timed(lambda: SignalStore.open(folder)) for _ in range(5))
    times = lookup_seconds(SignalStore.open(folder), entries)
    raw = raw_bytes(texts, entries)
    return {
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 4),
        "open_ms": round(opened * 1000, 2),
        "size_ratio": round(size / raw, 4),
        "p50_ms": round(times[len(times) // 2] * 1000, 4),
        "entries": entries,
        "raw_gb": round(raw / 1e9, 3),
        "store_gb": round(size / 1e9, 3),
        "write_s": round(write, 1),
        "make_s": round(make, 1),
        "writer_rss_mb": round(writer_rss),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=float, default=1e7)
    parser.add_argument("--folder", type=Path, help="where the store is written for the time of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="star-bench-", dir=options.folder) as folder:
        print("RESULT " + json.dumps(benchmark(Path(folder) / "store", int(options.entries))))


if __name__ == "__main__":
    main()
