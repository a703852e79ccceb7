"""MovieLens: RecBole's atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html) or the original `u.*`.

    *.inter / u.data     interactions: user, item, rating, time stamp
    *.item  / u.item     films: id, title, year, genres (`class`, `genre` or `genres`)
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
from star_jobs.datasets.faults import Fault, FileReport, Malformed, Tally, invalid
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids, Numbering
from star_jobs.datasets.limits import MAX_IMPLAUSIBLE, Doubt
from star_jobs.datasets.lines import BOM, blocks, decoded, not_utf8
from star_jobs.datasets.signatures import refuse_other_formats
from star_jobs.datasets.source import SourceTables
from star_jobs.datasets.values import identifier, number, plain, rating_in_bounds, shown, time_in_bounds, title

PLATFORM = "movielens"
_PROFILE = ("age", "gender", "occupation")
_CLASS = ("class", "genre", "genres")
"""What RecBole's files call the genres: `class` in ml-100k, `genre` in ml-1m."""
_PROFILE_CHARS = 200
_HEADER_BYTES = 1 << 16
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


def read(folder: Path, max_malformed: float, max_implausible: float = MAX_IMPLAUSIBLE) -> SourceTables:
    """Read a folder with either kind of files. Raises TerminalFailure(InvalidDataset) naming file and line."""
    reader = _Reader(max_malformed, max_implausible)
    items = _only(folder, (".item",), "films")
    reader.read(items, _original_item() if items.name == "u.item" else _atomic(items), reader.add_item)
    for users in sorted(filter(Path.is_file, folder.glob("*.user"))):
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
    max_implausible: float
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
        tally, last = Tally(path.name, self.max_malformed, max_implausible=self.max_implausible), -1
        for row, line in _lines(path, layout, tally):
            tally.saw(1)
            last = row
            try:
                add(row, layout.row(line))
            except Malformed as error:
                tally.bad_line(row, error)
        tally.refuse_cut_short(path, last)
        if path.suffix == ".item" and not layout.has_genres:
            tally.doubt(f"no column {' or '.join(_CLASS)} in the header", Doubt.MISSING_COLUMN)
        return tally

    def add_item(self, _row: int, record: Row) -> None:
        item_id, name = identifier(_required(record, "item_id"), "item_id"), title(record["movie_title"], "movie_title")
        if not name:
            raise Malformed(Fault.MISSING_FIELD, "movie_title is empty")
        if item_id in self.items:
            raise Malformed(Fault.DUPLICATE_ITEM, f"item {shown(item_id)} is there twice")
        named = _YEAR.match(name)
        year = record.get("release_year", "") or (named["year"] if named else "")
        genres = next((record[column] for column in _CLASS if record.get(column)), "")
        self.items[item_id] = Item(
            item_id=item_id,
            title=named["title"] if named else name,
            categories=tuple(genres.split()),
            attributes={"year": plain(year, _PROFILE_CHARS)} if year else {},
        )

    def add_user(self, _row: int, record: Row) -> None:
        user_id = identifier(_required(record, "user_id"), "user_id")
        if user_id in self.users:
            raise Malformed(Fault.DUPLICATE_USER, f"user {shown(user_id)} is there twice")
        self.users[user_id] = {name: plain(record[name], _PROFILE_CHARS) for name in _PROFILE if record.get(name)}

    def add_interaction(self, row: int, record: Row) -> None:
        user_id = identifier(_required(record, "user_id"), "user_id")
        item_id = identifier(_required(record, "item_id"), "item_id")
        timestamp = time_in_bounds(number(_required(record, "timestamp"), "time stamp"))
        rating = rating_in_bounds(_required(record, "rating"), "rating")
        if item_id not in self._codes:
            raise Malformed(Fault.UNKNOWN_ITEM, f"item {shown(item_id)} is not in the item file")
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
    encoding: str | None = None
    """Where the format's own documentation names one; UTF-8 otherwise."""
    header_lines: int = 0
    flags: int = 0
    """Columns after the named ones, one a genre: 1 or 0."""

    @property
    def has_genres(self) -> bool:
        """Whether a column tells an item's genres."""
        return bool(self.flags) or any(name in self.names for name in _CLASS)

    def row(self, line: str) -> Row:
        """Cut a line. Raises Malformed."""
        cells, wanted = line.split(self.separator), len(self.names) + self.flags
        if len(cells) != wanted:
            raise Malformed(Fault.WRONG_COLUMNS, f"{len(cells)} columns where {wanted} are expected")
        row = {name: cell.strip() for name, cell in zip(self.names, cells, strict=False)}
        if self.flags:
            flags = zip(_GENRES, cells[len(self.names) :], strict=True)
            row["class"] = " ".join(genre for genre, flag in flags if flag == "1")
        return row


def _lines(path: Path, layout: _Layout, tally: Tally) -> Iterator[tuple[int, str]]:
    """Yield (line number less one, line without its end); header and empty lines are left out."""
    for block in blocks(path):
        for at, row in enumerate(block.rows.tolist()):
            if row < layout.header_lines:
                continue
            if layout.encoding is not None:
                yield row, block.raw(at).decode(layout.encoding)
                continue
            line, is_utf8 = decoded(block.raw(at))
            if not is_utf8:
                tally.doubt(not_utf8(row), Doubt.NOT_UTF8)
            yield row, line


def _atomic(path: Path) -> _Layout:
    refuse_other_formats(path)
    with path.open("rb") as file:
        header = decoded(file.readline(_HEADER_BYTES).removeprefix(BOM))[0].strip("\r\n")
    names = [column.partition(":")[0].strip() for column in header.split("\t")]
    needed = {".inter": ("user_id", "item_id", "rating", "timestamp"), ".item": ("item_id", "movie_title")}
    missing = [name for name in needed.get(path.suffix, ("user_id",)) if name not in names]
    if missing:
        raise invalid(
            f"{path.name} line 1: the header {shown(header)} lacks {', '.join(missing)}: it must be RecBole's "
            "tab-separated `name:type` columns"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise invalid(f"{path.name} line 1: the header has the column {shown(twice)} twice: name each once")
    return _Layout(names, header_lines=1)


def _original_data() -> _Layout:
    return _Layout(("user_id", "item_id", "rating", "timestamp"))


def _original_item() -> _Layout:
    names = ("item_id", "movie_title", "release_date", "video_date", "url")
    return _Layout(names, "|", "latin-1", flags=len(_GENRES))


def _original_user() -> _Layout:
    return _Layout(("user_id", "age", "gender", "occupation", "zip_code"), "|", "latin-1")


def _required(row: Row, name: str) -> str:
    value = row.get(name, "")
    if not value:
        raise Malformed(Fault.MISSING_FIELD, f"{name} is empty")
    return value


def _only(folder: Path, suffixes: Sequence[str], what: str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise invalid(
            f"the source must hold one file of {what} (*{' or *'.join(suffixes)}) and holds {names}: "
            "point spec.source at the folder with RecBole's *.inter, *.item and *.user, or with u.data, u.item, u.user"
        )
    return found[0]
