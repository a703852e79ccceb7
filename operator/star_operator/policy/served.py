"""How long a checkpoint has served, and with how much of the traffic: (history, what serves now, the time) -> history.

A row is a digest at one share of the traffic. Its seconds grow while two looks after each other find it serving: a time
in which it was suspended, scaled to nothing or short of servers does not count, and neither does one in which nobody
looked (`gap`), as after a stop of the operator or a jump of the clock. What has served once is remembered when another
one serves, so that the next environment can ask for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from star_operator.api.stardeployment import MAX_SERVED, ServedStatus
from star_operator.core.times import parse_timestamp, timestamp

STEP = timedelta(seconds=60)
"""A history that only grew is written down this often: every write is an event, which leads to another look."""


@dataclass(frozen=True)
class Serving:
    """What serves now."""

    weights: Mapping[str, int]
    """Digest -> percent of the traffic, of those whose servers all answer."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The deployment's figures; they are those of what has all of the traffic."""


NOTHING = Serving({})
ALL = 100


def longest_gap(resync_seconds: float) -> timedelta:
    """Return how far apart two looks may be for the time between them to count."""
    return timedelta(seconds=2 * resync_seconds + 60)


def counted(history: Sequence[ServedStatus], now: Serving, at: datetime, gap: timedelta) -> tuple[ServedStatus, ...]:
    """Return the history as it is at a time: rows of what has served last come first."""
    left = {digest: weight for digest, weight in now.weights.items() if weight > 0}
    rows: list[ServedStatus] = []
    for row in history:
        goes_on = left.get(row.digest) == row.weight
        if goes_on:
            del left[row.digest]
        rows.append(_next(row, now, at, gap, goes_on=goes_on))
    begun = [
        ServedStatus(digest=digest, weight=weight, since=timestamp(at), until=timestamp(at), serving=True)
        for digest, weight in left.items()
    ]
    newest = sorted([*begun, *rows], key=lambda row: (row.serving, row.until), reverse=True)
    return tuple(newest[:MAX_SERVED])


def _next(row: ServedStatus, now: Serving, at: datetime, gap: timedelta, *, goes_on: bool) -> ServedStatus:
    """Return a row as it is now. What ends in trouble may have been in it since the last look, which does not count."""
    passed = at - parse_timestamp(row.until)
    if not row.serving and not goes_on:
        return row
    if goes_on and row.serving and timedelta(0) <= passed < STEP:
        return row
    if not goes_on and row.digest not in now.weights:
        return row.model_copy(update={"serving": False})
    seconds = row.seconds + (int(passed.total_seconds()) if _counts(row, passed, gap) else 0)
    fresh = goes_on and row.serving and row.weight == ALL  # at the first look the figures are still its predecessor's
    figures = dict(now.metrics) if fresh and now.metrics else row.metrics
    update = {"seconds": seconds, "until": timestamp(at), "serving": goes_on, "metrics": figures}
    return row.model_copy(update=update)


def _counts(row: ServedStatus, passed: timedelta, gap: timedelta) -> bool:
    return row.serving and timedelta(0) <= passed <= gap


@dataclass(frozen=True)
class Soak:
    """How long a digest has served."""

    seconds: int
    serving: bool
    """It goes on."""
    metrics: Mapping[str, float]
    """The last figures seen while it had all of the traffic."""
    seen: bool
    """It has served at all, with whatever share."""


def soak(history: Iterable[ServedStatus], digest: str, min_weight: int, at: datetime, gap: timedelta) -> Soak:
    """Return how long a digest has served with at least this share, up to now."""
    rows = [row for row in history if row.digest == digest]
    enough = [row for row in rows if row.weight >= min_weight]
    seconds = sum(row.seconds for row in enough)
    live = next((row for row in enough if row.serving), None)
    if live is not None and _counts(live, at - parse_timestamp(live.until), gap):
        seconds += int((at - parse_timestamp(live.until)).total_seconds())
    else:
        live = None
    figures = max((row for row in rows if row.metrics), key=lambda row: row.until, default=None)
    return Soak(seconds, live is not None, figures.metrics if figures is not None else {}, bool(rows))
