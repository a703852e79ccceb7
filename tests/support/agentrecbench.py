"""Small synthetic tables in exactly the schemas of the AgentRecBench release, and large ones at the speed of the disk.

The release is Yelp's, Amazon's (2023) and Goodreads' own dumps with a few columns renamed: the item's id to `item_id`,
the rating to `stars`, Goodreads' `review_text` to `text`, Amazon's `asin` to `sub_item_id`; `source` and `type` are
added, and Amazon's reviews get a `review_id`. Everything else keeps each platform's own names and formats of values.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any

Record = dict[str, Any]

_WORDS = [
    *("the", "a", "of", "it", "was", "and", "very", "good", "bad", "small", "large", "film", "book", "lamp", "pizza"),
    *("read", "watched", "ate", "bought", "again", "never", "twice", "slow", "quick", "crisp", "dull", "warm", "cold"),
    *("story", "plot", "taste", "cable", "page", "table", "ending", "“quoted”", "naïve", "好", "🙂", "line\nbreak"),
]
_START = int(datetime(2014, 1, 1, tzinfo=UTC).timestamp())


class Platform(StrEnum):
    """Where a table comes from: the value of its `source` column."""

    AMAZON = "amazon"
    GOODREADS = "goodreads"
    YELP = "yelp"


TYPES = {Platform.AMAZON: "product", Platform.GOODREADS: "book", Platform.YELP: "business"}


@dataclass(frozen=True)
class Size:
    """How much to write."""

    users: int = 40
    items: int = 60
    reviews: int = 600
    seed: int = 0


def write_source(folder: Path, platform: Platform, size: Size = Size()) -> Path:
    """Write `user.json`, `item.json` and `review.json` of one platform."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "user.json", (user(platform, n) for n in range(size.users)))
    write_lines(folder / "item.json", (item(platform, n) for n in range(size.items)))
    write_lines(folder / "review.json", reviews(platform, size))
    return folder


def reviews(platform: Platform, size: Size) -> Iterator[Record]:
    """Yield reviews: no user reviews an item twice, and nobody twice in one second."""
    rng = random.Random(size.seed)
    pairs = rng.sample(range(size.users * size.items), size.reviews)
    for n, pair in enumerate(pairs):
        who, what = divmod(pair, size.items)
        seconds = _START + rng.randrange(10_000) * 86_400 // 10 + n
        yield review(platform, (who, what), seconds, float(rng.randint(1, 5)), text(rng, rng.randint(3, 60)))


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines as the release does."""
    with path.open("w") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)


def write_task(folder: Path, where: str, task: Record, truth: object, number: int = 0) -> None:
    """Write one task with its ground truth, e.g. `where` = `task/classic/amazon`."""
    for kind, value in (("tasks/task", task), ("groundtruth/groundtruth", {"ground truth": truth})):
        path = folder / where / f"{kind}_{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))


def task(platform: Platform, who: int, candidates: Iterable[int], category: str = "Home") -> Record:
    """A task file's content."""
    return {
        "type": "recommendation",
        "user_id": user_id(platform, who),
        "candidate_category": category,
        "candidate_list": [item_id(platform, n) for n in candidates],
        "loc": [-1, -1],
    }


def user_id(platform: Platform, n: int) -> str:
    """28 capital letters and digits, 32 hexadecimal digits, or 22 letters of base 64."""
    digest = _digest(f"user/{platform}/{n}")
    return {Platform.AMAZON: "AE" + digest[:26].upper(), Platform.GOODREADS: digest, Platform.YELP: _base64(digest)}[
        platform
    ]


def item_id(platform: Platform, n: int) -> str:
    """An ASIN, a number, or 22 letters of base 64."""
    yelp = _base64(_digest(f"item/{n}"))
    return {Platform.AMAZON: f"B0{n:08d}", Platform.GOODREADS: str(1000 + n), Platform.YELP: yelp}[platform]


def user(platform: Platform, n: int) -> Record:
    """A line of the user table: only Yelp tells anything of its people."""
    identity = {"user_id": user_id(platform, n)}
    if platform is not Platform.YELP:
        return identity | {"source": platform.value}
    compliments = ("hot", "more", "profile", "cute", "list", "note", "plain", "cool", "funny", "writer", "photos")
    return {
        **identity,
        "name": f"Ann {n}",
        "review_count": n,
        "yelping_since": "2007-01-25 16:47:26",
        "useful": 7217,
        "funny": 1259,
        "cool": 5994,
        "elite": "2007",
        "friends": "None",
        "fans": n % 7,
        "average_stars": 3.91,
        **{f"compliment_{name}": 0 for name in compliments},
        "source": platform.value,
    }


def item(platform: Platform, n: int) -> Record:
    """A line of the item table."""
    record = {Platform.AMAZON: _product, Platform.GOODREADS: _book, Platform.YELP: _business}[platform](n)
    return record | {"source": platform.value, "type": TYPES[platform]}


def review(platform: Platform, pair: tuple[int, int], seconds: int, stars: float, words: str) -> Record:
    """A line of the review table: `pair` is the user's and the item's number, `seconds` the Unix time."""
    who, what = pair
    common = {"user_id": user_id(platform, who), "item_id": item_id(platform, what)}
    identity = _digest(f"review/{platform}/{who}/{what}/{seconds}")
    return _review(platform, common, seconds, stars, words) | {
        "review_id": identity,
        "source": platform.value,
        "type": TYPES[platform],
    }


def text(rng: random.Random, words: int) -> str:
    """Some words, with what makes JSON hard: quotation marks, line breaks and letters beyond ASCII."""
    return " ".join(rng.choices(_WORDS, k=words))


def shown_time(platform: Platform, seconds: int) -> int | str:
    """A time as the platform writes it; Goodreads' people live eight hours west of Greenwich."""
    if platform is Platform.AMAZON:
        return seconds * 1000 + 923
    if platform is Platform.YELP:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return datetime.fromtimestamp(seconds, timezone(timedelta(hours=-8))).strftime("%a %b %d %H:%M:%S %z %Y")


def _review(platform: Platform, common: Record, seconds: int, stars: float, words: str) -> Record:
    time = shown_time(platform, seconds)
    if platform is Platform.AMAZON:
        return {
            "stars": stars,
            "title": "As described",
            "text": words,
            "images": [],
            "sub_item_id": common["item_id"],
            **common,
            "timestamp": time,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
    if platform is Platform.GOODREADS:
        dates = {"date_added": time, "date_updated": time, "read_at": "", "started_at": ""}
        return {**common, "stars": int(stars), "text": words, **dates, "n_votes": 0, "n_comments": 0}
    return {**common, "stars": stars, "useful": 0, "funny": 0, "cool": 0, "text": words, "date": time}


def _product(n: int) -> Record:
    return {
        "main_category": "Industrial & Scientific",
        "title": f"Cable {n} — 2 m",
        "average_rating": 4.5,
        "rating_number": 100 + n,
        "features": ["shielded", "grey"],
        "description": ["A cable."],
        "price": "9.99" if n % 3 else None,
        "images": [{"thumb": "t.jpg", "large": "l.jpg", "variant": "MAIN", "hi_res": None}],
        "videos": [],
        "store": "Acme",
        "categories": ["Industrial & Scientific", f"Shelf {n % 5}"],
        "details": {"Item Weight": "1 ounce"},
        "item_id": item_id(Platform.AMAZON, n),
        "bought_together": None,
        "subtitle": None,
        "author": None,
    }


def _book(n: int) -> Record:
    return {
        "isbn": "",
        "text_reviews_count": str(n),
        "series": [],
        "country_code": "US",
        "language_code": "eng",
        "popular_shelves": [{"count": "58", "name": "to-read"}, {"count": "15", "name": f"shelf-{n % 5}"}],
        "asin": "",
        "is_ebook": "false",
        "average_rating": "4.18",
        "kindle_asin": "",
        "similar_books": ["1001"],
        "description": "A story.",
        "format": "Hardcover",
        "link": "",
        "authors": [{"author_id": "167915", "role": ""}],
        "publisher": "",
        "num_pages": "32",
        "publication_day": "",
        "isbn13": "",
        "publication_month": "9",
        "edition_information": "",
        "publication_year": str(1990 + n % 30),
        "url": "",
        "image_url": "",
        "item_id": item_id(Platform.GOODREADS, n),
        "ratings_count": str(10 * n),
        "work_id": "54143148",
        "title": f"Owl Moon {n}",
        "title_without_series": f"Owl Moon {n}",
    }


def _business(n: int) -> Record:
    return {
        "item_id": item_id(Platform.YELP, n),
        "name": f"Joe's {n}",
        "address": "1 Main St",
        "city": ("Philadelphia", "Tampa", "Tucson")[n % 3],
        "state": ("PA", "FL", "AZ")[n % 3],
        "postal_code": "19107",
        "latitude": 39.95,
        "longitude": -75.15,
        "stars": 4.0,
        "review_count": n,
        "is_open": 1,
        "attributes": {"RestaurantsTakeOut": "True"} if n % 2 else None,
        "categories": "Pizza, Italian" if n % 4 else None,
        "hours": {"Monday": "7:0-20:0"},
    }


def stream_reviews(path: Path, platform: Platform, size: Size, wanted_bytes: int, text_chars: int = 450) -> int:
    """Write a review table of at least `wanted_bytes` and return its number of lines; `size.reviews` is not used.

    Lines are put together from pieces of JSON made once, so that a gigabyte takes seconds. `text_chars` is the mean
    length of a text.
    """
    rng = random.Random(size.seed)
    template = _template(platform)
    texts = [json.dumps(text(rng, 500)[: rng.randint(1, 2 * text_chars - 1)]) for _ in range(512)]
    people = [user_id(platform, n) for n in range(size.users)]
    things = [item_id(platform, n) for n in range(size.items)]
    written = lines = 0
    with path.open("w", buffering=1 << 20) as out:
        while written < wanted_bytes:
            seconds = _START + lines
            written += out.write(
                template
                % {
                    "user": people[int(rng.random() ** 2 * len(people))],
                    "item": things[int(rng.random() ** 2 * len(things))],
                    "text": texts[int(rng.random() * len(texts))],
                    "time": json.dumps(shown_time(platform, seconds))
                    if platform is not Platform.AMAZON
                    else seconds * 1000,
                    "stars": 1 + int(rng.random() * 5),
                    "id": lines,
                }
            )
            lines += 1
    return lines


def _template(platform: Platform) -> str:
    """A review's JSON with places for what differs from line to line."""
    record = review(platform, (0, 0), 0, 1.0, "@text") | {
        "user_id": "@user",
        "item_id": "@item",
        "stars": "@stars",
        "review_id": "@id",
    }
    record = {name: "@time" if name in ("timestamp", "date", "date_added") else value for name, value in record.items()}
    line = json.dumps(record).replace("%", "%%")
    for name in ("user", "item", "id"):
        line = line.replace(f'"@{name}"', f'"%({name})s"')
    for name in ("text", "time", "stars"):
        line = line.replace(f'"@{name}"', f"%({name})s")
    return line + "\n"


def _digest(value: str) -> str:
    return hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()


def _base64(digest: str) -> str:
    return "-" + digest[:20] + "_"
