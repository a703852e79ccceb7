"""When a schedule's times are, and when its windows are open: (cron, zone) -> Unix seconds. No clock is read here.

cronsim (BSD-3-Clause) says which times of a wall clock an expression means. It was held against croniter 7.0 (MIT),
whose `30 2 * * *` in Europe/Berlin fires twice in the night in which the hour comes twice, and whose iteration may
slip by an hour after the clocks are moved (pallets-eco/croniter, issue 191). cronsim follows Debian's crontab(5), is
typed, has no dependencies, is looked after by those who run it at Healthchecks, and refuses `0 0 31 2 *`. Where the
clocks are moved by half an hour (Australia/Lord_Howe) cronsim 2.8 loses a tick of `15 */2 * * *`; so zones are left
to zoneinfo, here.

All times are Unix seconds (int).
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from star_operator.api.retrainschedule import Weekday, Window
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason

DAY = 86_400
HOUR = 3_600
_DENSE = 48
"""Ticks a day above which they are counted out by the day."""
_SPARSE_DAYS = 32
_FAR_DAYS = 9 * 366
"""29 February comes once in eight years at the least (1896, 1904; 2096, 2104)."""
_WEEK = tuple(Weekday)


@dataclass(frozen=True)
class Clock:
    """The ticks of a cron expression in a zone."""

    cron: str
    zone: ZoneInfo
    span: int
    """Seconds that are counted out at once."""
    fixed: bool
    """It names times of the day: neither minute nor hour begins with a star."""

    def latest(self, until: int) -> int | None:
        """Return the last tick at or before a time; None when there is none in nine years."""
        index = until // self.span
        for back in range(_FAR_DAYS * DAY // self.span + 1):
            ticks = _ticks(self, index - back)
            at = bisect_right(ticks, until)
            if at:
                return ticks[at - 1]
        return None

    def following(self, after: int) -> int | None:
        """Return the first tick after a time; None when there is none in nine years."""
        return next(self.between(after, after + _FAR_DAYS * DAY), None)

    def between(self, after: int, until: int) -> Iterator[int]:
        """Yield the ticks after a time and not after another, in order."""
        for index in range(after // self.span, until // self.span + 1):
            for tick in _ticks(self, index):
                if after < tick <= until:
                    yield tick


@lru_cache(maxsize=256)
def clock(cron: str, zone_name: str) -> Clock:
    """Return the clock of a schedule.

    Raises InvalidSpec: there is no such zone, the expression is none, or it never comes.
    """
    try:
        zone = ZoneInfo(zone_name)
    except (KeyError, ValueError, OSError) as error:
        text = f"spec.timeZone is {zone_name!r}, which the IANA data base does not have"
        raise InvalidSpec(ConditionReason.UNKNOWN_TIME_ZONE, f"{text}; write one like Europe/Berlin") from error
    try:
        if len(cron.split()) != len(("minute", "hour", "day", "month", "weekday")):
            raise CronSimError("Wrong number of fields")
        parsed = CronSim(cron, datetime(2000, 1, 1))
        next(parsed)
    except CronSimError as error:
        text = f"spec.schedule is {cron!r}, which cannot be followed ({error})"
        raise InvalidSpec(ConditionReason.IMPOSSIBLE_SCHEDULE, f"{text}; correct that field") from error
    except StopIteration as error:
        text = f"spec.schedule is {cron!r}, which never comes: its months have no such day"
        raise InvalidSpec(ConditionReason.IMPOSSIBLE_SCHEDULE, f"{text}; correct day or month") from error
    dense = len(parsed.minutes) * len(parsed.hours) > _DENSE
    fixed = not any(part.startswith("*") for part in cron.split()[:2])
    return Clock(cron, zone, DAY if dense else _SPARSE_DAYS * DAY, fixed)


@lru_cache(maxsize=1024)
def _ticks(one: Clock, index: int) -> tuple[int, ...]:
    """Return the ticks of a span of time: those of the wall clock, and when that shows them."""
    begin = index * one.span
    end, found = begin + one.span, set()
    walls = CronSim(one.cron, datetime.fromtimestamp(begin - DAY, one.zone).replace(tzinfo=None))
    until = datetime.fromtimestamp(end + DAY, one.zone).replace(tzinfo=None)
    for wall in takewhile(lambda wall: wall <= until, walls):
        found.update(_moments(wall, one))
    return tuple(sorted(tick for tick in found if begin <= tick < end))


def _moments(wall: datetime, one: Clock) -> set[int]:
    """Return when the wall clock shows a time, as Debian's cron sees it.

    A time of the day that is left out comes when the clock has been moved; one that comes twice counts once. Jobs of
    every minute or hour run whenever the clock shows their time.
    """
    first, second = (int(wall.replace(tzinfo=one.zone, fold=fold).timestamp()) for fold in (0, 1))
    if datetime.fromtimestamp(first, one.zone).replace(tzinfo=None) == wall:
        return {first} if one.fixed else {first, second}
    if not one.fixed:
        return set()
    while datetime.fromtimestamp(first, one.zone).replace(tzinfo=None) != wall:
        wall += timedelta(minutes=1)
        first = int(wall.replace(tzinfo=one.zone).timestamp())
    return {first}


def is_open(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> bool:
    """Say whether a run may start now: no windows, or the wall clock is within one of them."""
    if not windows:
        return True
    local = datetime.fromtimestamp(now, zone)
    today, wall = _WEEK[local.weekday()], f"{local:%H:%M}"
    yesterday = _WEEK[local.weekday() - 1]
    for one in windows:
        over_night = one.end < one.start
        if today in one.days and one.start <= wall and (over_night or wall < one.end):
            return True
        if over_night and yesterday in one.days and wall < one.end:
            return True
    return False


def opens(windows: tuple[Window, ...], zone: ZoneInfo, now: int) -> int | None:
    """Return the first time after now at which a window is open that was closed before; None within eight days.

    Windows open when the wall clock says so, or when it is moved.
    """
    first = datetime.fromtimestamp(now, zone).date()
    moments = set(_moves(zone, now, now + 8 * DAY))
    for ahead in range(9):
        for one in windows:
            hour, minute = map(int, one.start.split(":"))
            local = datetime.combine(first + timedelta(days=ahead), time(hour, minute), zone)
            moments |= {int(local.replace(fold=fold).timestamp()) for fold in (0, 1)}
    return next((moment for moment in sorted(moments) if moment > now and is_open(windows, zone, moment)), None)


def _moves(zone: ZoneInfo, begin: int, end: int) -> Iterator[int]:
    """Yield the times at which the zone's clocks are moved, to the second."""
    for at in range(begin, end, HOUR):
        low, high = at, at + HOUR
        if _offset(zone, low) == _offset(zone, high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(zone, middle) == _offset(zone, at) else (low, middle)
        yield high


def _offset(zone: ZoneInfo, at: int) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
