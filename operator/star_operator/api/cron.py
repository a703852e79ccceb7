"""Times of a schedule as they are checked at admission: what can be said by pattern, and what by a rule."""

_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAYS = "SUN|MON|TUE|WED|THU|FRI|SAT"


def _field(value: str, special: str = "") -> str:
    one = f"({special}(\\*|({value})(-({value}))?)(/[1-9][0-9]?)?)"
    return f"{one}(,{one})*"


CRON_PATTERN = "^{} +{} +{} +{} +{}$".format(
    _field("[0-5]?[0-9]"),
    _field("[01]?[0-9]|2[0-3]"),
    _field("0?[1-9]|[12][0-9]|3[01]", "LW?|"),
    _field(f"0?[1-9]|1[0-2]|{_MONTHS}"),
    _field(f"[0-7]|{_DAYS}", "([0-7]L)|([0-7]#[1-5])|"),
)
"""Five fields in capitals, each within its range (crontab(5)); L, LW, 5L and 5#2 as cronsim has them."""
ZONE_PATTERN = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"
CLOCK_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
TIME_PATTERN = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"

SHORT_MONTHS = (
    r"!self.schedule.matches(r'^\S+ +\S+ +(30|31)(,(30|31))* +(0?2|FEB)(,(0?2|FEB))* +\*$') && "
    r"!self.schedule.matches(r'^\S+ +\S+ +31(,31)* +(0?[2469]|11|FEB|APR|JUN|SEP|NOV)"
    r"(,(0?[2469]|11|FEB|APR|JUN|SEP|NOV))* +\*$')",
    "schedule names a day that its months do not have, so that it would never come: correct day or month, or write L "
    "for the month's last day",
)
KNOWN_ZONE = (
    "timestamp('2026-01-01T00:00:00Z').getFullYear(self.timeZone) > 0",
    "timeZone must be a zone of the IANA data base, e.g. Europe/Berlin or Etc/UTC",
)
