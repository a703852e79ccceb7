"""Times as Kubernetes writes them: RFC 3339 in UTC and whole seconds."""

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in seconds, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse_timestamp(text: str) -> datetime:
    """Read RFC 3339 as Kubernetes writes it."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)


def of_seconds(seconds: int) -> str:
    """Return Unix seconds as RFC 3339."""
    return timestamp(datetime.fromtimestamp(seconds, UTC))


def to_seconds(text: str) -> int:
    """Read RFC 3339 as Kubernetes writes it, as Unix seconds."""
    return int(parse_timestamp(text).timestamp())
