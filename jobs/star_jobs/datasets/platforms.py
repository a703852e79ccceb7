"""What Amazon, Goodreads and Yelp call things in the AgentRecBench release: times, ratings, items and people.

    Amazon      `timestamp`   milliseconds since 1970
    Yelp        `date`        2018-07-07 22:09:11, without a zone: read as UTC
    Goodreads   `date_added`  Fri Nov 10 08:12:00 -0800 2017

The release renames each platform's own columns to user_id, item_id, review_id, stars and text, and adds `source`.
Goodreads' 0 stars mean that none were given. Items keep the names of their platform: `title`, or Yelp's `name`;
`categories` as a list, or as Yelp's one string with commas, or Goodreads' `popular_shelves` of count and name.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from star_contracts.data import Item
from star_jobs.datasets.faults import Fault, Malformed
from star_jobs.datasets.limits import MAX_RATING, MAX_TIME
from star_jobs.datasets.values import identifier, number, plain, rating_in_bounds, shown, time_in_bounds, title

_YELP_TIME = "%Y-%m-%d %H:%M:%S"
_GOODREADS_TIME = "%a %b %d %H:%M:%S %z %Y"
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
_FIELD_CHARS = 200
_CATEGORIES = 10

TIME_COLUMNS = pl.Schema({"timestamp": pl.String, "date": pl.String, "date_added": pl.String})
"""All as text, so that a value of another type is seen to be there."""


def unix_time(review: Mapping[str, Any]) -> int:
    """Return a review's time in Unix seconds, of whichever platform it is. Raises Malformed when it has none."""
    if review.get("timestamp") is not None:
        seconds = amazon_time(review["timestamp"])
    elif review.get("date"):
        seconds = yelp_time(review["date"])
    elif review.get("date_added"):
        seconds = goodreads_time(review["date_added"])
    else:
        raise Malformed(Fault.MISSING_FIELD, "the review has neither timestamp, date nor date_added")
    return time_in_bounds(seconds)


def amazon_time(value: object) -> int:
    """Parse milliseconds since 1970. Raises Malformed."""
    return value // 1000 if type(value) is int else int(number(value, "timestamp")) // 1000


def yelp_time(value: object) -> int:
    """Parse a local time without a zone, as UTC. Raises Malformed."""
    return int(_parsed(value, _YELP_TIME).replace(tzinfo=UTC).timestamp())


def goodreads_time(value: object) -> int:
    """Parse a time with its zone, as `date` prints it. Raises Malformed."""
    return int(_parsed(value, _GOODREADS_TIME).timestamp())


def unix_times() -> pl.Expr:
    """Return `unix_time` over TIME_COLUMNS: null where there is none, or where the one-line parser has to look."""
    amazon, yelp, goodreads = (pl.col(name) for name in TIME_COLUMNS)
    seconds = (
        pl.when(amazon.is_not_null())
        .then(amazon.cast(pl.Int64, strict=False).floordiv(1000))
        .when(yelp.is_not_null() & (yelp != ""))
        .then(yelp.str.to_datetime(_YELP_TIME, strict=False).dt.epoch("s"))
        .otherwise(goodreads.str.to_datetime(_GOODREADS_TIME, strict=False).dt.epoch("s"))
    )
    return pl.when(seconds.abs() < MAX_TIME).then(seconds)


def rating(review: Mapping[str, Any]) -> float | None:
    """Return a review's rating, None where the reader gave none. Raises Malformed."""
    if review.get("stars") is None:
        return None
    value = rating_in_bounds(review["stars"], "stars")
    return None if value == 0 and review.get("date_added") is not None else value


def ratings() -> pl.Expr:
    """Return `rating` over `stars` and `date_added`, NaN for none; null where the one-line parser has to look."""
    stars, unrated = pl.col("stars"), (pl.col("stars") == 0) & pl.col("date_added").is_not_null()
    return pl.when(unrated).then(float("nan")).when(stars.abs() <= MAX_RATING).then(stars)


def item_title(record: Mapping[str, Any]) -> str:
    """Return an item's name. Raises Malformed when it has none."""
    named = title(record.get("title"), "title") or title(record.get("name"), "name")
    if not named:
        raise Malformed(Fault.MISSING_FIELD, "title or name is missing")
    return named


def item_source(record: Mapping[str, Any]) -> str | None:
    """Return the platform that an item says it is of; None where it says none."""
    try:
        return identifier(record.get("source"), "source")
    except Malformed:
        return None


def to_item(record: Mapping[str, Any]) -> Item:
    """Make an item of a line of the item table that has an id and a name."""
    return Item(
        item_id=required(record, "item_id"),
        title=item_title(record),
        categories=_categories(record),
        attributes={
            name: plain(record[name], _FIELD_CHARS)
            for name in _ATTRIBUTES
            if record.get(name) not in (None, "", [], {})
        },
    )


def to_profile(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what the user table tells of a person that a recommender may know."""
    return {name: plain(record[name], _FIELD_CHARS) for name in _PROFILE if record.get(name)}


def required(record: Mapping[str, Any], name: str) -> str:
    """Return a field that must hold an id. Raises Malformed."""
    return identifier(record.get(name), name)


def _parsed(value: object, form: str) -> datetime:
    if not isinstance(value, str):
        raise Malformed(Fault.BAD_VALUE, f"the review's time cannot be read: {shown(value)} is not text")
    try:
        return datetime.strptime(value, form)
    except (ValueError, OverflowError):
        what = f"the review's time cannot be read: {shown(value)} is not like {form}"
        raise Malformed(Fault.BAD_VALUE, what) from None


def _categories(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = record.get("categories") or record.get("popular_shelves") or ()
    if isinstance(value, str):  # Yelp: "Pizza, Italian"
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list):
        return ()
    names = [part.get("name") if isinstance(part, dict) else part for part in value]
    return tuple(plain(name, _FIELD_CHARS) for name in names if name)[:_CATEGORIES]
