"""MovieLens: RecBole's atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html) or the original `u.*`.

    *.inter / u.data     interactions: user, item, rating, time stamp
    *.item  / u.item     films: id, title, year, genres
    *.user  / u.user     people (may be missing): id, age, gender, occupation

The time stamps of MovieLens say when a rating was entered, not when the film was seen: the order within a session is
arbitrary, and nothing about evolving interests can be concluded from it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from star_contracts.data import Item
from star_jobs.datasets.columns import Columns
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids, Numbering
from star_jobs.datasets.source import Fault, FileReport, Malformed, SourceTables, Tally, invalid, number

PLATFORM = "movielens"
_PROFILE = ("age", "gender", "occupation")
_YEAR = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})\)\s*$")
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The 19 genre columns of `u.item`, in its README's order."""

Row = Mapping[str, str]


def wanted(path: str) -> bool:
    """Tell whether an object under the source prefix is part of this format."""
    return path.endswith((".inter", ".item", ".user")) or path in ("u.data", "u.item", "u.user")


def read(folder: Path, max_malformed: float) -> SourceTables:
    """Read a folder with either kind of files. Raises TerminalFailure(InvalidDataset) naming file and line."""
    reader = _Reader(max_malformed)
    items = _only(folder, (".item",), "films")
    reader.read(items, _original_item() if items.name == "u.item" else _atomic(items), reader.add_item)
    for users in folder.glob("*.user"):
        reader.read(users, _original_user() if users.name == "u.user" else _atomic(users), reader.add_user)
    ratings = _only(folder, (".inter", ".data"), "ratings")
    layout = _original_data() if ratings.name == "u.data" else _atomic(ratings)
    return SourceTables(
        platform=PLATFORM,
        users=dict(sorted(reader.users.items())),
        items=dict(sorted(reader.items.items())),
        interactions=reader.interactions(ratings, layout),
        files=reader.files,
    )


@dataclass
class _Reader:
    max_malformed: float
    users: dict[str, Row] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    files: dict[str, FileReport] = field(default_factory=dict)
    _rows: list[int] = field(default_factory=list)
    _people: list[str] = field(default_factory=list)
    _films: list[int] = field(default_factory=list)
    _times: list[int] = field(default_factory=list)
    _ratings: list[float] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)

    def read(self, path: Path, layout: "_Layout", add: Callable[[int, Row], None]) -> None:
        self.files[path.name] = self._tally(path, layout, add).finish()

    def interactions(self, path: Path, layout: "_Layout") -> Histories:
        catalogue = Ids.of(self.items)
        self._codes = {item: code for code, item in enumerate(catalogue)}
        tally = self._tally(path, layout, self.add_interaction)
        people, columns = Numbering(), Columns()
        people.add(list(self.users))
        columns.append(
            np.array(self._rows, np.uint32),
            people.add(self._people),
            np.array(self._films, np.int32),
            np.array(self._times, np.int64),
            np.array(self._ratings, np.float32),
        )
        histories = columns.histories(people, catalogue, tally)
        self.files[path.name] = tally.finish()
        return histories

    def _tally(self, path: Path, layout: "_Layout", add: Callable[[int, Row], None]) -> Tally:
        tally, last = Tally(path.name, self.max_malformed), -1
        for row, line in _lines(path, layout):
            tally.saw(1)
            last = row
            try:
                add(row, layout.row(line))
            except Malformed as error:
                tally.bad_line(row, error)
        tally.refuse_cut_short(path, last)
        return tally

    def add_item(self, _row: int, record: Row) -> None:
        item_id, title = _required(record, "item_id"), _required(record, "movie_title")
        if item_id in self.items:
            raise Malformed(Fault.DUPLICATE_ITEM, f"item {item_id} is there twice")
        named = _YEAR.match(title)
        year = record.get("release_year", "") or (named["year"] if named else "")
        self.items[item_id] = Item(
            item_id=item_id,
            title=named["title"] if named else title,
            categories=tuple(record.get("class", "").split()),
            attributes={"year": year} if year else {},
        )

    def add_user(self, _row: int, record: Row) -> None:
        user_id = _required(record, "user_id")
        if user_id in self.users:
            raise Malformed(Fault.DUPLICATE_USER, f"user {user_id} is there twice")
        self.users[user_id] = {name: record[name] for name in _PROFILE if record.get(name)}

    def add_interaction(self, row: int, record: Row) -> None:
        user_id, item_id = _required(record, "user_id"), _required(record, "item_id")
        timestamp = int(number(_required(record, "timestamp"), "time stamp"))
        rating = number(_required(record, "rating"), "rating")
        if item_id not in self._codes:
            raise Malformed(Fault.UNKNOWN_ITEM, f"item {item_id!r} is not in the item file")
        self._rows.append(row)
        self._people.append(user_id)
        self._films.append(self._codes[item_id])
        self._times.append(timestamp)
        self._ratings.append(rating)


@dataclass(frozen=True)
class _Layout:
    """How a file's lines are cut into columns."""

    names: Sequence[str]
    separator: str = "\t"
    encoding: str = "utf-8"
    header_lines: int = 0

    def row(self, line: str) -> Row:
        cells = line.split(self.separator)
        if len(cells) != len(self.names):
            raise Malformed(Fault.WRONG_COLUMNS, f"{len(cells)} columns where {len(self.names)} are expected")
        row = {name: cell.strip() for name, cell in zip(self.names, cells, strict=True) if not name.startswith("genre")}
        flags = [cell for name, cell in zip(self.names, cells, strict=True) if name.startswith("genre")]
        if flags:
            row["class"] = " ".join(genre for genre, flag in zip(_GENRES, flags, strict=True) if flag == "1")
        return row


def _lines(path: Path, layout: _Layout) -> Iterator[tuple[int, str]]:
    """Yield (line number less one, line without its end); header and empty lines are left out."""
    with path.open(encoding=layout.encoding, errors="replace", newline="\n") as text:
        for row, line in enumerate(text):
            stripped = line.rstrip("\r\n")
            if stripped and row >= layout.header_lines:
                yield row, stripped


def _atomic(path: Path) -> _Layout:
    with path.open(encoding="utf-8", errors="replace") as text:
        header = text.readline().strip("\r\n")
    names = [column.partition(":")[0] for column in header.split("\t")]
    needed = {".inter": ("user_id", "item_id", "rating", "timestamp"), ".item": ("item_id", "movie_title")}
    missing = [name for name in needed.get(path.suffix, ("user_id",)) if name not in names]
    if missing:
        raise invalid(
            f"{path.name} line 1: the header {header[:80]!r} lacks {', '.join(missing)}: it must be RecBole's "
            "tab-separated `name:type` columns"
        )
    return _Layout(names, header_lines=1)


def _original_data() -> _Layout:
    return _Layout(("user_id", "item_id", "rating", "timestamp"))


def _original_item() -> _Layout:
    names = ("item_id", "movie_title", "release_date", "video_date", "url", *(f"genre{n}" for n in range(len(_GENRES))))
    return _Layout(names, "|", "latin-1")


def _original_user() -> _Layout:
    return _Layout(("user_id", "age", "gender", "occupation", "zip_code"), "|", "latin-1")


def _required(row: Row, name: str) -> str:
    value = row.get(name, "")
    if not value:
        raise Malformed(Fault.MISSING_FIELD, f"{name} is empty")
    return value


def _only(folder: Path, suffixes: Sequence[str], what: str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise invalid(
            f"the source must hold one file of {what} (*{' or *'.join(suffixes)}) and holds {names}: "
            "point spec.source at the folder with RecBole's *.inter, *.item and *.user, or with u.data, u.item, u.user"
        )
    return found[0]
