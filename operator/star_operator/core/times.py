"""Times as Kubernetes writes them: RFC 3339 in UTC and whole seconds."""

from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in seconds, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime(_FORMAT)


def parse_timestamp(text: str) -> datetime:
    """Read RFC 3339 as Kubernetes writes it."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
