"""AgentRecBench as released: JSON Lines tables of Amazon, Goodreads and Yelp, with ready-made test tasks.

    user.json, item.json, review.json        one JSON object a line; `source` names the platform
    task/<type>/<platform>/tasks/task_<n>.json            {"type": "recommendation", "user_id", "candidate_list", …}
    task/<type>/<platform>/groundtruth/groundtruth_<n>.json   {"ground truth": item id}

<type> is one of the five task types; tasks of the AgentSociety Challenge, whose folders name none, are classic. The
released candidate lists are not shuffled well (returned unchanged they score far above chance), so tasks are shuffled
again like all others. Sources: paper appendix B.1, https://arxiv.org/abs/2505.19623.

The tables may be larger than memory: of a review only numbers are kept (columns.py), of an item or a person where its
line begins (records.py). Texts, titles and profiles are read from the files again when they are written out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from star_jobs.datasets.columns import Columns
from star_jobs.datasets.faults import Fault, Malformed, Tally, invalid
from star_jobs.datasets.ids import Numbering
from star_jobs.datasets.limits import MAX_ID_CHARS, MAX_IMPLAUSIBLE, Doubt
from star_jobs.datasets.lines import Run, json_object, runs
from star_jobs.datasets.platforms import (
    TIME_COLUMNS,
    item_source,
    item_title,
    rating,
    ratings,
    required,
    to_item,
    to_profile,
    unix_time,
    unix_times,
)
from star_jobs.datasets.records import RecordFile
from star_jobs.datasets.signatures import refuse_other_formats
from star_jobs.datasets.source import Platforms, SourceTables, TextBlock
from star_jobs.datasets.taskfiles import read_tasks
from star_jobs.datasets.values import plain

USERS, ITEMS, REVIEWS = "user.json", "item.json", "review.json"
PLATFORM = "agentrecbench"
"""Of items that do not say where they come from."""
_TEXT_CHARS = 2000
"""Of a review's text kept in a history or table."""
_PLAIN_ID = r"^[0-9A-Za-z_-]+$"
_NO_ID = r"^(true|false|-?[0-9]+e-?[0-9]+)$"
"""What is left of a JSON boolean or fraction when it is read as text."""
_ITEM_COLUMNS = pl.Schema({"item_id": pl.String, "title": pl.String, "name": pl.String, "source": pl.String})
_USER_COLUMNS = pl.Schema({"user_id": pl.String})
_REVIEW_COLUMNS = pl.Schema({"user_id": pl.String, "item_id": pl.String, "stars": pl.Float64} | dict(TIME_COLUMNS))
_TEXT_COLUMNS = pl.Schema({"text": pl.String})
_NOT_TEXT = r"^\s*([\[{]|((true|false|-?[0-9.]+([eE][+-]?[0-9]+)?)\s*$))"
"""What a JSON value that is no text looks like when it is read as text; some texts do, too."""
_VISIBLE = r"[^\s\x00-\x1f]"
_DOCUMENTED: Mapping[str, Sequence[tuple[str, ...]]] = {
    ITEMS: [("categories", "popular_shelves")],
    REVIEWS: [("stars",), ("text",)],
}
"""Columns, each under the names it may have, that some line of a table should have; without the others it has none."""

Record = Mapping[str, Any]


def wanted(path: str) -> bool:
    """Tell whether an object under the source prefix is part of this format."""
    name = path.rpartition("/")[2]
    return path in (USERS, ITEMS, REVIEWS) or (name.startswith(("task_", "groundtruth_")) and name.endswith(".json"))


def read(folder: Path, max_malformed: float, max_implausible: float = MAX_IMPLAUSIBLE) -> SourceTables:
    """Read the tables and tasks of a folder. Raises TerminalFailure(InvalidDataset) naming file and line."""

    def tally(name: str) -> Tally:
        return Tally(name, max_malformed, max_implausible=max_implausible)

    for name in (USERS, ITEMS, REVIEWS):
        if not (folder / name).is_file():
            raise invalid(f"the source holds no {name}: AgentRecBench needs {USERS}, {ITEMS} and {REVIEWS}")
        refuse_other_formats(folder / name)
    items, people, reviews = _Items(), _People(), tally(REVIEWS)
    files = {
        ITEMS: _read(folder / ITEMS, _ITEM_COLUMNS, tally(ITEMS), items.add).finish(),
        USERS: _read(folder / USERS, _USER_COLUMNS, tally(USERS), people.add).finish(),
    }
    catalogue, codes = items.numbers.sorted()
    listed, places = people.numbers.sorted()
    tasks = read_tasks(folder, catalogue, max_malformed, files)
    people.numbers.add([task.user_id for task in tasks])
    table = _Reviews(people.numbers, items.numbers, codes)
    _read(folder / REVIEWS, _REVIEW_COLUMNS, reviews, table.add)
    interactions = table.columns.histories(people.numbers, catalogue, reviews)
    files[REVIEWS] = reviews.finish()
    return SourceTables(
        platform=PLATFORM,
        users=RecordFile(folder / USERS, listed, people.offsets(places), lambda line: to_profile(json_object(line))),
        items=RecordFile(folder / ITEMS, catalogue, items.offsets(codes), lambda line: to_item(json_object(line))),
        interactions=interactions,
        files=files,
        item_platforms=items.platforms(codes),
        tasks=tasks,
        texts=lambda: _texts(folder / REVIEWS),
    )


def _read(path: Path, columns: pl.Schema, tally: Tally, add: Callable[[Run, Tally], None]) -> Tally:
    last, absent = -1, list(_DOCUMENTED.get(path.name, ()))
    for run in runs(path, columns):
        tally.saw(len(run))
        add(run, tally)
        last = int(run.rows[-1])
        absent = [names for names in absent if not any(f'"{name}"'.encode() in run.block.data for name in names)]
    tally.refuse_cut_short(path, last)
    for names in absent:
        tally.doubt(f"no line has {' or '.join(names)}", Doubt.MISSING_COLUMN)
    return tally


class _Index:
    """Numbers the records of a table and keeps where each begins; a second record of an id is left out."""

    what = "record"
    fault = Fault.DUPLICATE_USER

    def __init__(self) -> None:
        self.numbers = Numbering()
        self._starts: list[NDArray[np.int64]] = []

    def offsets(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return (records,) where each begins, by code; `codes` is the code of each number."""
        return _by_code(self._starts, codes, np.dtype(np.int64))

    def _keep(self, run: Run, ids: Sequence[str | None], tally: Tally) -> NDArray[np.int64]:
        """Number the ids that are there; return the lines (within the run) of those that are new."""
        known, lines = len(self.numbers), np.flatnonzero([value is not None for value in ids])
        numbers = self.numbers.add([value for value in ids if value is not None])
        firsts = np.unique(numbers, return_index=True)[1]
        new = np.zeros(len(numbers), np.bool_)
        new[firsts] = numbers[firsts] >= known
        for at in lines[~new]:
            tally.bad_line(int(run.rows[at]), Malformed(self.fault, f"{self.what} {ids[at]!r} is there twice"))
        self._starts.append(run.offsets[lines[new]])
        return lines[new]


class _Items(_Index):
    what, fault = "item", Fault.DUPLICATE_ITEM

    def __init__(self) -> None:
        super().__init__()
        self._names = Numbering()
        self._sources: list[NDArray[np.int32]] = []

    def add(self, run: Run, tally: Tally) -> None:
        """Take in a run of the item table."""
        ids: list[str | None] = [None] * len(run)
        sources: list[str] = [PLATFORM] * len(run)
        if run.table is not None:
            title = pl.coalesce("title", "name")
            named = title.str.contains(_VISIBLE) & ~title.str.contains(_NOT_TEXT)
            known = pl.col("source").is_null() | _plain("source")
            sure = run.table.select(
                id=pl.when(_plain("item_id") & named & known).then("item_id"), source=pl.col("source")
            )
            ids = [None if deep else value for value, deep in zip(sure["id"].to_list(), run.deep, strict=True)]
            sources = [value or PLATFORM for value in sure["source"].to_list()]
        for at, record in _doubtful(run, [value is None for value in ids], tally):
            try:
                item_title(record)
                ids[at], sources[at] = required(record, "item_id"), item_source(record) or PLATFORM
            except Malformed as error:
                tally.bad_line(int(run.rows[at]), error)
        kept = self._keep(run, ids, tally)
        self._sources.append(self._names.add([sources[at] for at in kept]))

    def platforms(self, codes: NDArray[np.int32]) -> Platforms:
        """Return which platform each item is of."""
        names, places = self._names.sorted()
        return Platforms(tuple(names), places[_by_code(self._sources, codes, np.dtype(np.int32))])


class _People(_Index):
    what, fault = "user", Fault.DUPLICATE_USER

    def add(self, run: Run, tally: Tally) -> None:
        """Take in a run of the user table."""
        ids: list[str | None] = [None] * len(run)
        if run.table is not None:
            sure = run.table.select(pl.when(_plain("user_id")).then("user_id")).to_series()
            ids = [None if deep else value for value, deep in zip(sure.to_list(), run.deep, strict=True)]
        for at, record in _doubtful(run, [value is None for value in ids], tally):
            try:
                ids[at] = required(record, "user_id")
            except Malformed as error:
                tally.bad_line(int(run.rows[at]), error)
        self._keep(run, ids, tally)


class _Reviews:
    """Takes in the review table: of each review its line, user, item, time and rating."""

    def __init__(self, people: Numbering, items: Numbering, codes: NDArray[np.int32]) -> None:
        """`codes` is the catalogue's code of each of `items`' numbers."""
        self.columns = Columns()
        self._people = people
        self._items = items
        self._codes = codes

    def add(self, run: Run, tally: Tally) -> None:
        """Take in a run of the review table."""
        users, items, times, stars = self._fields(run)
        for at, record in _doubtful(run, items < 0, tally):
            try:
                users[at], items[at], times[at], stars[at] = self._one(record)
            except Malformed as error:
                tally.bad_line(int(run.rows[at]), error)
            else:
                if record.get("stars") is None:
                    tally.doubt(f"line {run.rows[at] + 1}: no stars", Doubt.NO_RATING)
        kept = items >= 0
        people = self._people.add([user for user, keep in zip(users, kept.tolist(), strict=True) if keep])
        self.columns.append(run.rows[kept], people, self._codes[items[kept]], times[kept], stars[kept])

    def _fields(self, run: Run) -> tuple[list[str], NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        """Return (lines,) users, item numbers, times and ratings; the item is -1 where a line is in doubt."""
        if run.table is None:
            lines = len(run)
            return [""] * lines, np.full(lines, -1, np.int32), np.zeros(lines, np.int64), np.zeros(lines)
        view = run.table.select("user_id", "item_id", time=unix_times(), stars=ratings(), plain=_plain("user_id"))
        sure = view.select(pl.col("plain") & pl.col("time").is_not_null() & pl.col("stars").is_not_null()).to_series()
        items = self._items.find(view["item_id"].to_list())
        items[~sure.fill_null(False).to_numpy()] = -1
        times, stars = view["time"].fill_null(0), view["stars"].fill_null(0)
        return view["user_id"].to_list(), items, times.to_numpy(writable=True), stars.to_numpy(writable=True)

    def _one(self, review: Record) -> tuple[str, int, int, float]:
        """Read a review alone. Raises Malformed."""
        user, item = required(review, "user_id"), required(review, "item_id")
        number = int(self._items.find([item])[0])
        if number < 0:
            raise Malformed(Fault.UNKNOWN_ITEM, f"item {item!r} is not in {ITEMS}")
        stars = rating(review)
        return user, number, unix_time(review), float("nan") if stars is None else stars


def _plain(name: str) -> pl.Expr:
    """Tell where an id is surely text or a whole number as it stands."""
    column = pl.col(name)
    return column.str.contains(_PLAIN_ID) & ~column.str.contains(_NO_ID) & (column.str.len_bytes() <= MAX_ID_CHARS)


def _doubtful(run: Run, doubts: Sequence[bool] | NDArray[np.bool_], tally: Tally) -> Iterator[tuple[int, Record]]:
    """Yield the records of lines that are in doubt; those that are no JSON objects are left out."""
    for at in np.flatnonzero(doubts).tolist():
        try:
            record = run.record(at, tally)
        except Malformed as error:
            tally.bad_line(int(run.rows[at]), error)
        else:
            yield at, record


def _by_code(parts: Sequence[NDArray[Any]], codes: NDArray[np.int32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Join parts that are in order of the numbers and bring them in order of the codes."""
    values = np.empty(len(codes), dtype)
    values[codes] = np.concatenate(parts) if parts else values
    return values


def _texts(path: Path) -> Iterator[TextBlock]:
    for run in runs(path, _TEXT_COLUMNS):
        texts = [_text(run, at) for at in range(len(run))] if run.table is None else run.table["text"].fill_null("")
        # simdjson spells half a surrogate pair as NUL
        yield TextBlock(
            run.rows,
            pl.Series(texts, dtype=pl.String).str.slice(0, _TEXT_CHARS).str.replace_all("\0", "\ufffd", literal=True),
        )


def _text(run: Run, at: int) -> str:
    try:
        value = run.record(at).get("text")
    except Malformed:
        return ""
    return "" if value is None else plain(value, _TEXT_CHARS)
