"""`starctl follow`: what every resource of a namespace does, how far it is, when it will be done, and why it waits.

`Tracker` turns looks at the cluster into rows and knows no clock; a `Screen` shows rows: as a live table on a terminal,
as a line for each change elsewhere. `follow` joins them until everything has ended.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from star_cli.errors import StarctlError
from star_cli.local.errors import LocalClusterError
from star_cli.local.progress import clock_text
from star_cli.resources import Reader, StarResource, list_resources, parse_time, ready_condition, title
from star_operator.api.meta import Phase

POLL_SECONDS = 2.0
QUIET_SECONDS = 15.0
"""Without a terminal, progress alone makes a line no oftener than this."""
OVERALL_SECONDS = 60.0
"""Without a terminal, how far all of it is makes a line no oftener than this."""
PATIENCE_SECONDS = 60.0
"""An API server that does not answer is asked again for this long."""
GOOD = frozenset({Phase.SUCCEEDED, Phase.READY})
BAD = frozenset({Phase.FAILED, Phase.GATED})
_DIGITS = re.compile(r"\d+")
_STYLES = {Phase.RUNNING: "cyan", Phase.WAITING: "yellow", Phase.QUEUED: "yellow", Phase.PENDING: "dim"}


@dataclass(frozen=True)
class Row:
    """One resource, as shown."""

    name: str
    """`Kind/name`."""
    phase: Phase
    doing: str
    """The running step with its progress, e.g. `generate 34/100 trajectories`; empty where nothing is counted."""
    share: float | None
    """How much of the step is done, 0 to 1."""
    left_seconds: float | None
    """How long the step will still take at the pace seen so far."""
    seconds: float | None
    """How long the resource has been at work, or was."""
    says: str
    """Its result, or why it is as it is."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.phase in GOOD or self.phase in BAD


@dataclass
class Tracker:
    """Turns looks at the resources into rows; it remembers since when a step counts, for the time that is left."""

    _began: dict[tuple[str, int, str], tuple[float, int]] = field(default_factory=dict)

    def rows(self, resources: Sequence[StarResource], now: datetime) -> list[Row]:
        """The rows at this moment."""
        return [self._row(resource, now) for resource in resources]

    def _row(self, resource: StarResource, now: datetime) -> Row:
        status = resource.status
        why = ready_condition(resource)
        progress = None if status.phase in GOOD | BAD else status.progress
        said = status.headline if status.phase in GOOD and status.headline else (why.message if why else "not seen yet")
        return Row(
            name=title(resource),
            phase=status.phase,
            doing=f"{progress.step} {progress.done}/{progress.total} {progress.unit}".strip() if progress else "",
            share=progress.done / progress.total if progress and progress.total else None,
            left_seconds=self._left(resource, now),
            seconds=_seconds(resource, now),
            says=" ".join(said.split()),
        )

    def _left(self, resource: StarResource, now: datetime) -> float | None:
        progress, status = resource.status.progress, resource.status
        if progress is None or status.phase is not Phase.RUNNING:
            return None
        at = now.timestamp()
        key = (resource.metadata.uid, status.attempt, progress.step)
        since, first = self._began.setdefault(key, (at, progress.done))
        if progress.done <= first or at <= since:
            return None
        pace: float = (progress.done - first) / (at - since)
        left: float = max(0, progress.total - progress.done) / pace
        return left


def _seconds(resource: StarResource, now: datetime) -> float | None:
    status = resource.status
    if status.start_time is None:
        return None
    end = parse_time(status.completion_time) if status.completion_time else now
    return max(0.0, (end - parse_time(status.start_time)).total_seconds())


class Screen(Protocol):
    """Where rows are shown."""

    def show(self, rows: Sequence[Row], overall: str = "") -> None:
        """Show the rows at this moment, and how far the command is that they are a part of."""


class Lines:
    """A line for every change: for logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._start = clock()
        self._shown: dict[str, tuple[Row, float]] = {}
        self._overall = self._start

    def show(self, rows: Sequence[Row], overall: str = "") -> None:
        """Print what is new."""
        at = self._clock()
        if overall and at - self._overall >= OVERALL_SECONDS:
            self._overall = at
            self._console.print(f"{clock_text(at - self._start):>7}  {overall}", markup=False, highlight=False)
        for row in rows:
            before, since = self._shown.get(row.name, (None, 0.0))
            if before is not None and not _news(before, row, at - since):
                continue
            self._shown[row.name] = (row, at)
            eta = f"  about {clock_text(row.left_seconds)} left" if row.left_seconds is not None else ""
            doing = f"  {row.doing}" if row.doing else ""
            line = f"{clock_text(at - self._start):>7}  {row.name}: {row.phase}{doing}{eta}  {row.says}"
            self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)


def _news(before: Row, row: Row, seconds: float) -> bool:
    # "RecDataset d is Running (3/80 entries)" and "(4/80 entries)" are the same news to whoever waits for it.
    if (before.phase, _DIGITS.sub("", before.says)) != (row.phase, _DIGITS.sub("", row.says)):
        return True
    return before.doing != row.doing and seconds >= QUIET_SECONDS


class LiveTable:
    """A table that is drawn anew: for terminals."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, rows: Sequence[Row], overall: str = "") -> None:
        """Draw the rows."""
        self._live.update(table(rows, overall), refresh=True)


def table(rows: Sequence[Row], overall: str = "") -> Table:
    """The rows as a table, and below it how far all of it is."""
    drawn = Table(box=None, pad_edge=False, caption=overall or None, caption_justify="left")
    for column in ("RESOURCE", "PHASE", "PROGRESS", "LEFT", "TIME"):
        drawn.add_column(column, no_wrap=True)
    drawn.add_column("", ratio=1)
    for row in rows:
        style = "green" if row.phase in GOOD else "red" if row.phase in BAD else _STYLES.get(row.phase, "")
        bar = ProgressBar(total=1.0, completed=row.share, width=12) if row.share is not None else ""
        says = f"{row.doing}. {row.says}" if row.doing else row.says
        drawn.add_row(
            row.name,
            Text(row.phase, style=style),
            bar,
            clock_text(row.left_seconds),
            clock_text(row.seconds),
            Text(says, overflow="ellipsis" if not row.ended else "fold", no_wrap=not row.ended),
        )
    return drawn


@dataclass(frozen=True)
class Watch:
    """What is followed, and for how long."""

    api: Reader
    namespace: str
    expected: frozenset[str] = frozenset()
    """`Kind/name` of what must have ended; empty for whatever is there."""
    deadline_seconds: float | None = None
    overall: Callable[[Sequence[Row]], str] | None = None
    """Says how far the command is of which this is a part."""


def follow(watch: Watch, console: Console) -> list[StarResource]:
    """Show the resources until all have ended; returns them as they are then.

    Raises:
        StarctlError: one failed (its own sentence is in the message), or the deadline passed (what was waited for is).
    """
    if not console.is_terminal:
        return _follow(watch, Lines(console))
    with Live(console=console, auto_refresh=False) as live:
        return _follow(watch, LiveTable(live))


def _follow(watch: Watch, screen: Screen) -> list[StarResource]:
    tracker = Tracker()
    start = time.monotonic()
    while True:
        resources = _look(watch)
        rows = tracker.rows(resources, datetime.now(UTC))
        screen.show(rows, watch.overall(rows) if watch.overall else "")
        if all_ended(rows, watch.expected):
            return resources
        if watch.deadline_seconds is not None and time.monotonic() - start > watch.deadline_seconds:
            raise StarctlError(overdue(rows, watch.deadline_seconds))
        time.sleep(POLL_SECONDS)


def _look(watch: Watch) -> list[StarResource]:
    """The resources now. An API server that is busy or restarts is asked again for a while: the run goes on anyway."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return list_resources(watch.api, watch.namespace)
        except LocalClusterError:
            if time.monotonic() > patience:
                raise
            time.sleep(POLL_SECONDS)


def all_ended(rows: Sequence[Row], expected: frozenset[str] = frozenset()) -> bool:
    """Whether everything ended well.

    Raises:
        StarctlError: something failed; the resources' own sentences are in the message.
    """
    failed = [f"{row.name} is {row.phase}: {row.says}" for row in rows if row.phase in BAD]
    if failed:
        raise StarctlError("\n".join(failed))
    there = {row.name for row in rows}
    return expected <= there and all(row.ended for row in rows)


def overdue(rows: Sequence[Row], seconds: float) -> str:
    """What to say when the time is over."""
    waits = [f"{row.name} is {row.phase}: {row.says}" for row in rows if not row.ended]
    return f"not done within {clock_text(seconds)}; unfinished:\n" + "\n".join(waits)
