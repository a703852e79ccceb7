"""A reconciler's context whose time and queue the test holds."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from star_operator.core.queue import Key, WorkQueue
from star_operator.reconcilers.context import Context


@dataclass
class Clock(Context):
    """A context whose time the test moves."""

    time: datetime = field(default=datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.time


class Recorder(WorkQueue):
    """Keeps what is to be looked at later."""

    later: float | None = None

    def add_after(self, key: Key, seconds: float) -> None:
        self.later = seconds
