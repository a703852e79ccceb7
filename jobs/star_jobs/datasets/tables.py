"""The AgentRecBench-shaped tables of a snapshot: user, item and review as JSON Lines, answers left out.

Reviews are as many as the source's, with their texts: they are written a block at a time as the source streams by.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from star_contracts.data import Item
from star_jobs.datasets import snapshot
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.source import SourceTables, TextBlock
from star_jobs.datasets.texts import ShownTexts
from star_jobs.storage.records import to_line

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_BATCH = 1 << 16
"""Reviews written at once where the source has no texts."""


def write_tables(folder: Path, source: SourceTables, safe: NDArray[np.bool_], shown: ShownTexts) -> None:
    """Write `user.jsonl`, `item.jsonl` and `review.jsonl` in the released tables' names, and the catalogue.

    `safe` is (interactions,): True where one gives no answer away. The texts that histories show are put into
    `shown` on the way: the source is read again but once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "user.jsonl", _users(source))
    _write(folder / "item.jsonl", _items(folder.parent / snapshot.ITEMS, source))
    with (folder / "review.jsonl").open("wb") as out:
        for reviews in _reviews(source, safe, shown):
            reviews.write_ndjson(out)


def interactions_frame(histories: Histories, positions: NDArray[np.int64]) -> pl.DataFrame:
    """Return interactions as a frame of user_id, item_id, timestamp, rating (null for none) and row."""
    return pl.DataFrame(
        {
            "user_id": histories.users.take(histories.owners(positions)),
            "item_id": histories.catalogue.take(histories.items[positions]),
            "timestamp": histories.timestamps[positions],
            "rating": pl.Series(histories.ratings[positions]).fill_nan(None),
            "row": histories.rows[positions],
        }
    )


def _users(source: SourceTables) -> Iterator[dict[str, Any]]:
    """Yield every user; `source.users` are some of them, in the same order."""
    listed = iter(source.users.items())
    listed_id, profile = next(listed, ("", {}))
    for user_id in source.interactions.users:
        known: Mapping[str, str] = {}
        if user_id == listed_id:
            known = profile
            listed_id, profile = next(listed, ("", {}))
        yield {"user_id": user_id, "source": source.platform, **known}


def _items(catalogue: Path, source: SourceTables) -> Iterator[dict[str, Any]]:
    """Yield every item, and write it into the catalogue on the way: they are read once."""
    with catalogue.open("wb") as out:
        for item in source.items.values():
            out.write(to_line(item))
            yield _item(item, source.platform)


def _item(item: Item, platform: str) -> dict[str, Any]:
    known = {"item_id": item.item_id, "title": item.title, "categories": list(item.categories)}
    return {"source": platform, **item.attributes, **known}


def _reviews(source: SourceTables, safe: NDArray[np.bool_], shown: ShownTexts) -> Iterator[pl.DataFrame]:
    """Yield the safe reviews in source order, each with its text, and put the texts shown into `shown`."""
    positions = np.argsort(source.interactions.rows)
    positions = positions[safe[positions]]
    rows = source.interactions.rows[positions]
    done = 0
    for block in source.texts():
        first, last = np.searchsorted(shown.rows, [block.rows[0], block.rows[-1] + 1])
        shown.add(_texts_at(block, shown.rows[first:last]).to_list())
        end = int(np.searchsorted(rows, block.rows[-1], side="right"))
        if end > done:
            yield _review_frame(source, positions[done:end], _texts_at(block, rows[done:end]))
        done = end
    for first in range(done, len(positions), _BATCH):
        yield _review_frame(source, positions[first : first + _BATCH], None)


def _texts_at(block: TextBlock, rows: NDArray[np.uint32]) -> pl.Series:
    return block.texts.gather(np.searchsorted(block.rows, rows))


def _review_frame(source: SourceTables, positions: NDArray[np.int64], texts: pl.Series | None) -> pl.DataFrame:
    names = pl.Series(source.platforms.names, dtype=pl.String)
    platforms = source.platforms.codes[source.interactions.items[positions]]
    return interactions_frame(source.interactions, positions).select(
        pl.col("row").cast(pl.String).alias("review_id"),
        "user_id",
        "item_id",
        pl.col("rating").alias("stars"),
        pl.lit("").alias("text") if texts is None else texts.alias("text"),
        "timestamp",
        names.gather(platforms).alias("source"),
    )


def _write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(_ENCODER.encode(record) + "\n")
