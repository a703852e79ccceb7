"""The AgentRecBench-shaped tables of a snapshot: user, item and review as JSON Lines, answers left out."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from star_contracts.data import Item
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.source import SourceTables


def write_tables(folder: Path, source: SourceTables, full: Histories, safe: pl.DataFrame) -> None:
    """Write `user.jsonl`, `item.jsonl` and `review.jsonl` (in the released tables' snake_case names).

    `safe` are the interactions that give no answer away, with their `row`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "user.jsonl", (_user(user, source) for user in full.users))
    _write(folder / "item.jsonl", (_item(source.items[item], source.platform) for item in full.catalogue))
    _write(folder / "review.jsonl", _reviews(source, safe))


def _user(user_id: str, source: SourceTables) -> dict[str, Any]:
    return {"user_id": user_id, "source": source.platform, **source.users.get(user_id, {})}


def _item(item: Item, platform: str) -> dict[str, Any]:
    known = {"item_id": item.item_id, "title": item.title, "categories": list(item.categories)}
    return {"source": platform, **item.attributes, **known}


def _reviews(source: SourceTables, safe: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the safe reviews in source order, each with its text as the source streams by."""
    platforms = {item.item_id: item.attributes.get("source", source.platform) for item in source.items.values()}
    texts = source.texts()
    at, text = next(texts, (-1, ""))
    for review in safe.sort("row").iter_rows(named=True):
        while at < review["row"]:
            at, text = next(texts, (1 << 62, ""))
        yield _review(review, text if at == review["row"] else "", platforms[review["item_id"]])


def _review(review: Mapping[str, Any], text: str, platform: str) -> dict[str, Any]:
    return {
        "review_id": str(review["row"]),
        "user_id": review["user_id"],
        "item_id": review["item_id"],
        "stars": review["rating"],
        "text": text,
        "timestamp": review["timestamp"],
        "source": platform,
    }


def _write(path: Path, records: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
