"""Ticks and windows: through both changes of the clocks, against a walk over every minute's wall clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_operator.api.retrainschedule import Weekday, Window
from star_operator.core.errors import InvalidSpec
from star_operator.policy.schedule.clock import clock, is_open, opens
from tests.support.walls import ticks

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Etc/UTC")
CRONS = (
    "30 2 * * *", "0,30 2,3 * * *", "45 1 * * *", "*/30 * * * *", "0 * * * *", "15 */2 * * *", "0 0 * * *",
    "30 1 * * SUN", "0 2 1,15 * 1", "59 23 28-31 * *",
)  # fmt: skip


def seconds(*parts: int, fold: int = 0, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*parts, tzinfo=zone or UTC, fold=fold).timestamp())  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_ticks_around_the_changes_of_the_clocks(cron: str, zone: str) -> None:
    for middle in (seconds(2026, 3, 8), seconds(2026, 3, 29), seconds(2026, 4, 5), seconds(2026, 4, 24)):
        begin, end = middle - 2 * 86400, middle + 2 * 86400
        assert list(clock(cron, zone).between(begin - 1, end - 1)) == ticks(cron, zone, begin, end)
    for middle in (seconds(2026, 10, 4), seconds(2026, 10, 25), seconds(2026, 10, 30), seconds(2026, 11, 1)):
        begin, end = middle - 2 * 86400, middle + 2 * 86400
        assert list(clock(cron, zone).between(begin - 1, end - 1)) == ticks(cron, zone, begin, end)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(("*", "*/7", "0", "5,35", "10-20")),
    st.sampled_from(("*", "*/3", "2", "1-3")),
    st.sampled_from(("*", "SUN", "1-5")),
    st.integers(seconds(2026, 1, 1) // 60, seconds(2027, 1, 1) // 60),
)
def test_ticks_wherever_one_begins(zone: str, minute: str, hour: str, weekday: str, begin: int) -> None:
    cron, start = f"{minute} {hour} * * {weekday}", begin * 60
    wanted = ticks(cron, zone, start, start + 2 * 86400)
    one = clock(cron, zone)
    assert list(one.between(start - 1, start + 2 * 86400 - 1)) == wanted
    if wanted:
        assert one.following(start - 1) == wanted[0]
        assert one.latest(start + 2 * 86400 - 1) == wanted[-1]


def test_a_job_of_the_night_runs_once_in_either_night() -> None:
    one = clock("30 2 * * *", "Europe/Berlin")
    spring = list(one.between(seconds(2026, 3, 29), seconds(2026, 3, 29, 12)))
    assert [datetime.fromtimestamp(tick, BERLIN).isoformat() for tick in spring] == ["2026-03-29T03:00:00+02:00"]
    autumn = list(one.between(seconds(2026, 10, 24, 12), seconds(2026, 10, 25, 12)))
    assert [datetime.fromtimestamp(tick, BERLIN).isoformat() for tick in autumn] == ["2026-10-25T02:30:00+02:00"]


def test_what_comes_once_in_years_is_found() -> None:
    leap = clock("0 0 29 2 *", "Etc/UTC")
    assert leap.following(seconds(2096, 3, 1)) == seconds(2104, 2, 29)
    assert leap.latest(seconds(2103, 1, 1)) == seconds(2096, 2, 29)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("0 0 31 2 *", "Etc/UTC", "spec.schedule is '0 0 31 2 *'"),
        ("0 0 30 2 *", "Etc/UTC", "correct"),
        ("0 0 31 4,6 *", "Etc/UTC", "correct"),
        ("0 0 31 4-4 *", "Etc/UTC", "correct"),
        ("* * * * * *", "Etc/UTC", "Wrong number of fields"),
        ("60 * * * *", "Etc/UTC", "Bad minute"),
        ("@daily", "Etc/UTC", "Wrong number of fields"),
        ("0 0 * * *", "Mars/Base", "spec.timeZone is 'Mars/Base', which the IANA data base does not have"),
        ("0 0 * * *", "../etc/passwd", "write one like Europe/Berlin"),
        ("0 0 * * *", "", "write one like Europe/Berlin"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_sentence(cron: str, zone: str, says: str) -> None:
    with pytest.raises(InvalidSpec, match="spec") as refusal:
        clock(cron, zone)
    assert says in refusal.value.message


NIGHT = Window(start="22:00", end="06:00")
WEEKEND = Window(days=(Weekday.SATURDAY, Weekday.SUNDAY), start="02:30", end="12:00")
FRIDAY_NIGHT = Window(days=(Weekday.FRIDAY,), start="22:00", end="04:00")


@pytest.mark.parametrize("windows", [(NIGHT,), (WEEKEND,), (FRIDAY_NIGHT,), (WEEKEND, FRIDAY_NIGHT)])
@pytest.mark.parametrize("middle", [seconds(2026, 3, 29), seconds(2026, 10, 25), seconds(2026, 7, 1)])
def test_the_next_opening_is_the_first_minute_that_is_open(windows: tuple[Window, ...], middle: int) -> None:
    for begin in range(middle - 86400, middle + 86400, 5 * 3600 + 60):
        walk = (begin + 60 * n for n in range(1, 8 * 1440))
        shut = not is_open(windows, BERLIN, begin)
        if shut:
            assert opens(windows, BERLIN, begin) == next(at for at in walk if is_open(windows, BERLIN, at))


def test_a_window_over_midnight_is_of_the_day_on_which_it_opens() -> None:
    friday = seconds(2026, 7, 3, 23, zone=BERLIN)
    assert datetime.fromtimestamp(friday, BERLIN).strftime("%a") == "Fri"
    assert is_open((FRIDAY_NIGHT,), BERLIN, friday)
    assert is_open((FRIDAY_NIGHT,), BERLIN, friday + 3 * 3600)
    assert not is_open((FRIDAY_NIGHT,), BERLIN, friday + 6 * 3600)
    assert not is_open((FRIDAY_NIGHT,), BERLIN, friday + int(timedelta(days=1).total_seconds()))
    assert is_open((), BERLIN, friday)
