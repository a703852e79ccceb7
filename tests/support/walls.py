"""An oracle of cron times that knows nothing of the operator's: it looks at every minute's wall clock (zoneinfo).

As Debian's crontab(5) has it: where minute and hour name times, what falls into an hour that is left out comes right
after it, and what falls into an hour that comes twice comes in its first one; other jobs follow every real minute.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = 60
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def ticks(cron: str, zone_name: str, begin: int, end: int) -> list[int]:
    """All times from `begin` to before `end` (Unix seconds, whole minutes), by walking over the minutes."""
    zone, found = ZoneInfo(zone_name), []
    minute, hour, *_ = cron.split()
    fixed = not minute.startswith("*") and not hour.startswith("*")
    minutes, hours = _values(minute, 0, 59), _values(hour, 0, 23)
    last = datetime.fromtimestamp(begin - MINUTE, zone).replace(tzinfo=None)
    for at in range(begin, end, MINUTE):
        local = datetime.fromtimestamp(at, zone)
        wall = local.replace(tzinfo=None, fold=0)
        skipped = []
        if fixed and wall - last > timedelta(minutes=1):
            skipped = [last + timedelta(minutes=n) for n in range(1, int((wall - last).total_seconds()) // MINUTE)]
        last = wall
        if fixed and local.fold:
            continue
        for one in (*skipped, wall):
            if one.minute in minutes and one.hour in hours and _day(cron, one.year, one.month, one.day):
                found.append(at)
                break
    return found


@lru_cache(maxsize=100_000)
def _day(cron: str, year: int, month: int, day: int) -> bool:
    _, _, days, months, weekdays = cron.split()
    weekday = (datetime(year, month, day, tzinfo=UTC).weekday() + 1) % 7
    of_month, of_week = day in _values(days, 1, 31), weekday in {value % 7 for value in _values(weekdays, 0, 7)}
    both = days.startswith("*") or weekdays.startswith("*")
    return month in _values(months, 1, 12) and (of_month and of_week if both else of_month or of_week)


@lru_cache
def _values(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first)
            end = _number(last) if last else (high if step else begin)
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str) -> int:
    return _DAYS.index(text) if text in _DAYS else int(text)
