"""AgentRecBench as released: JSON Lines tables of Amazon, Goodreads and Yelp, with ready-made test tasks.

    user.json, item.json, review.json        one JSON object a line; `source` names the platform
    task/<type>/<platform>/tasks/task_<n>.json            {"type": "recommendation", "user_id", "candidate_list", …}
    task/<type>/<platform>/groundtruth/groundtruth_<n>.json   {"ground truth": item id}

<type> is one of the five task types; a `tasks` folder under none of them counts as classic, as in the AgentSociety
Challenge. The released candidate lists are not shuffled well (returned unchanged they score far above chance), so
tasks are shuffled again like all others. Sources: paper appendix B.1, https://arxiv.org/abs/2505.19623.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from star_contracts.data import Item, TaskType
from star_jobs.datasets.source import (
    INTERACTION_SCHEMA,
    LineCheck,
    Malformed,
    SourceTables,
    SourceTask,
    invalid,
    number,
    read_lines,
)

USERS, ITEMS, REVIEWS = "user.json", "item.json", "review.json"
_ATTRIBUTES = (
    "authors",
    "average_rating",
    "stars",
    "rating_number",
    "ratings_count",
    "text_reviews_count",
    "review_count",
    "publication_year",
    "store",
    "price",
    "city",
    "state",
    "source",
)
"""Item fields worth showing to a model, whichever of them the platform has (paper F.2 shows Goodreads')."""
_PROFILE = ("name", "review_count", "average_stars", "yelping_since", "fans")
_ATTRIBUTE_CHARS = 200
_TEXT_CHARS = 2000
"""Of a review's text kept in a history."""
_TYPE_FOLDERS = {
    **{type_.value: type_ for type_ in TaskType},
    "cold_start_user": TaskType.USER_COLD_START,
    "cold_start_item": TaskType.ITEM_COLD_START,
    "long": TaskType.LONG_TERM,
    "short": TaskType.SHORT_TERM,
}


def wanted(path: str) -> bool:
    """Tell whether an object under the source prefix is part of this format."""
    name = path.rpartition("/")[2]
    return path in (USERS, ITEMS, REVIEWS) or (name.startswith(("task_", "groundtruth_")) and name.endswith(".json"))


def read(folder: Path, max_malformed: float) -> SourceTables:
    """Read the tables and tasks of a folder. Raises TerminalFailure(InvalidDataset) naming file and line."""
    for name in (USERS, ITEMS, REVIEWS):
        if not (folder / name).is_file():
            raise invalid(f"the source holds no {name}: AgentRecBench needs {USERS}, {ITEMS} and {REVIEWS}")
    reader = _Reader(max_malformed)
    reader.read(folder / ITEMS, reader.add_item)
    reader.read(folder / USERS, reader.add_user)
    reader.read(folder / REVIEWS, reader.add_review)
    return SourceTables(
        platform="agentrecbench",
        users=reader.users,
        items=reader.items,
        interactions=pl.DataFrame(reader.columns, schema=INTERACTION_SCHEMA),
        malformed=reader.malformed,
        tasks=_tasks(folder, reader.items),
        texts=lambda: _texts(folder / REVIEWS),
    )


def unix_time(review: Mapping[str, Any]) -> int:
    """Return a review's time in Unix seconds. Raises Malformed when it has none.

    Amazon: `timestamp` in milliseconds. Yelp: `date`, local time without a zone, read as UTC. Goodreads: `date_added`,
    like `Fri Nov 10 08:12:00 -0800 2017`.
    """
    try:
        if review.get("timestamp") is not None:
            return int(number(review["timestamp"], "timestamp")) // 1000
        if review.get("date"):
            return int(datetime.strptime(review["date"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
        if review.get("date_added"):
            return int(datetime.strptime(review["date_added"], "%a %b %d %H:%M:%S %z %Y").timestamp())
    except (TypeError, ValueError) as error:
        raise Malformed(f"the review's time cannot be read: {error}") from None
    raise Malformed("the review has neither timestamp, date nor date_added")


@dataclass
class _Reader:
    max_malformed: float
    malformed: int = 0
    users: dict[str, dict[str, str]] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    columns: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in INTERACTION_SCHEMA})
    row: int = 0

    def read(self, path: Path, add: Callable[[dict[str, Any]], None]) -> None:
        self.malformed += read_lines(LineCheck(path, self.max_malformed), lambda line: add(_object(line)))

    def add_item(self, record: dict[str, Any]) -> None:
        item_id = _text(record, "item_id")
        self.items[item_id] = Item(
            item_id=item_id,
            title=_text(record, "title") if record.get("title") else _text(record, "name"),
            categories=_categories(record),
            attributes={
                name: _plain(record[name])[:_ATTRIBUTE_CHARS]
                for name in _ATTRIBUTES
                if record.get(name) not in (None, "", [], {})
            },
        )

    def add_user(self, record: dict[str, Any]) -> None:
        self.users[_text(record, "user_id")] = {name: _plain(record[name]) for name in _PROFILE if record.get(name)}

    def add_review(self, record: dict[str, Any]) -> None:
        row, self.row = self.row, self.row + 1
        user_id, item_id = _text(record, "user_id"), _text(record, "item_id")
        if item_id not in self.items:
            raise Malformed(f"item {item_id!r} is not in {ITEMS}")
        rating = record.get("stars")
        values = (row, user_id, item_id, unix_time(record), None if rating is None else number(rating, "stars"))
        for name, value in zip(INTERACTION_SCHEMA, values, strict=True):
            self.columns[name].append(value)


def _object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(record, dict):
        raise Malformed("not a JSON object")
    return record


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None or not str(value).strip():
        raise Malformed(f"{name} is missing")
    return str(value).strip()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _categories(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = record.get("categories") or record.get("popular_shelves") or ()
    if isinstance(value, str):  # Yelp: "Pizza, Italian"
        return tuple(part.strip() for part in value.split(",") if part.strip())
    names = [part.get("name", "") if isinstance(part, dict) else str(part) for part in value]
    return tuple(name for name in names[:10] if name)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (row, text) of every line that holds a JSON object, numbered as the reader did."""
    row = 0
    for _, line in LineCheck(path, 1.0).lines():
        try:
            record = _object(line)
        except Malformed:
            continue
        yield row, str(record.get("text") or "")[:_TEXT_CHARS]
        row += 1


def _tasks(folder: Path, items: Mapping[str, Item]) -> list[SourceTask]:
    paths = sorted(folder.rglob("task_*.json"), key=lambda p: (p.parent.as_posix(), _index(p)))
    return [_task(path, path.relative_to(folder), items) for path in paths]


def _task(path: Path, shown: Path, items: Mapping[str, Item]) -> SourceTask:
    truth_path = path.parent.parent / "groundtruth" / path.name.replace("task_", "groundtruth_", 1)
    try:
        task, truth = _object(path.read_text()), str(_object(truth_path.read_text())["ground truth"])
        candidates = tuple(str(item) for item in task["candidate_list"])
        user_id = str(task["user_id"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise invalid(f"{shown}: the task or its {truth_path.name} cannot be read: {error}") from error
    unknown = [item for item in candidates if item not in items]
    if unknown or truth not in candidates or len(set(candidates)) != len(candidates):
        problem = f"candidate {unknown[0]!r} is not in {ITEMS}" if unknown else "its ground truth is not one candidate"
        raise invalid(f"{shown}: {problem}; fix the task, or leave its file out")
    types = [_TYPE_FOLDERS[part] for part in shown.parts if part in _TYPE_FOLDERS]
    return SourceTask(types[0] if types else TaskType.CLASSIC, user_id, candidates, truth)


def _index(path: Path) -> int:
    digits = path.stem.removeprefix("task_")
    return int(digits) if digits.isdecimal() else 0
