"""When a promotion may begin: the windows and freezes of its policy."""

from datetime import datetime
from zoneinfo import ZoneInfo

from star_operator.api.promotionpolicy import PromotionPolicySpec
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.policy.promotionfacts import MET, WAITING, Facts, Requirement
from star_operator.policy.schedule.clock import clock, is_open, opens

ANY_TIME = "* * * * *"
MAX_TURNS = 100
"""Freezes and windows that are looked through for the next time that is free of both."""


def times(rules: PromotionPolicySpec, facts: Facts) -> Requirement:
    """No freeze is on, and a window is open."""
    try:
        zone = clock(ANY_TIME, rules.time_zone).zone
    except InvalidSpec as error:
        return Requirement("window", WAITING, error.message, ConditionReason.UNKNOWN_TIME_ZONE, can_override=False)
    now = int(facts.now.timestamp())
    free = _next_free(rules, zone, now)
    frozen = next((one for one in rules.freezes if _is_frozen(one.start, one.end, now)), None)
    if free == now:
        return Requirement("window", MET, "a window is open" if rules.windows else "nothing is frozen")
    until = datetime.fromtimestamp(free, tz=facts.now.tzinfo) if free is not None else None
    when = f"until {timestamp(until)}" if until is not None else "and no window opens within a week"
    if frozen is not None:
        text = f"frozen until {frozen.end}: {frozen.reason}"
        text = (
            text
            if until is None or timestamp(until) == frozen.end
            else f"{text}; the next window opens {timestamp(until)}"
        )
        return Requirement("window", WAITING, text, ConditionReason.FROZEN, until=until)
    return Requirement("window", WAITING, f"no window is open {when}", ConditionReason.WINDOW_CLOSED, until=until)


def _is_frozen(start: str, end: str, at: int) -> bool:
    return parse_timestamp(start).timestamp() <= at < parse_timestamp(end).timestamp()


def _next_free(rules: PromotionPolicySpec, zone: ZoneInfo, now: int) -> int | None:
    """Return the first time that no freeze covers and at which a window is open; None where none is seen."""
    at: int | None = now
    for _ in range(MAX_TURNS):
        if at is None:
            return None
        ends = [
            int(parse_timestamp(one.end).timestamp()) for one in rules.freezes if _is_frozen(one.start, one.end, at)
        ]
        if ends:
            at = max(ends)
        elif is_open(rules.windows, zone, at):
            return at
        else:
            at = opens(rules.windows, zone, at)
    return None
