"""How slow commands show that they move: one bar on a terminal, lines elsewhere.

A command that knows its way (`timeline.Timeline`) has one bar for all of it, with the time that is left; any other
shows the step that runs.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from star_cli.local.timeline import Timeline

QUIET_SECONDS = 60.0
"""Without a terminal, a step that goes on says how far it is no oftener than this."""


class Step(Protocol):
    """One step that is under way."""

    def advance(self, done: float, total: float, unit: str = "") -> None:
        """Say how far the step is."""


class Reporter(Protocol):
    """Where the steps of a command are shown. Steps may run side by side, in threads."""

    def step(self, title: str, leg: str = "") -> AbstractContextManager[Step]:
        """A step that begins with the context and ends with it; `leg` is its name in the command's timeline."""

    def note(self, text: str) -> None:
        """A line that stays on the screen."""

    def skip(self, *legs: str) -> None:
        """Legs of the command's timeline for which nothing has to be done."""


class _Quiet:
    def advance(self, done: float, total: float, unit: str = "") -> None:
        """Nothing is shown."""


@dataclass
class Silent:
    """Shows nothing: for tests."""

    notes: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, title: str, leg: str = "") -> Iterator[Step]:
        """See Reporter."""
        yield _Quiet()

    def note(self, text: str) -> None:
        """Keep the line."""
        self.notes.append(text)

    def skip(self, *legs: str) -> None:
        """See Reporter."""


def clock_text(seconds: float | None) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass
class _Running:
    """A step that runs, and what it last said."""

    terminal: "Terminal"
    title: str
    leg: str
    detail: str = ""
    share: float | None = None
    said: float = field(default_factory=time.monotonic)

    def advance(self, done: float, total: float, unit: str = "") -> None:
        """See Step."""
        self.detail = f"{done:.0f}/{total:.0f} {unit}".strip() if unit else ""
        self.share = done / total if total else None
        self.terminal.moved(self)


class Terminal:
    """One bar while steps run and a line with its seconds for each that is done; plain lines without a terminal."""

    def __init__(self, console: Console | None = None, timeline: Timeline | None = None) -> None:
        self.console = console or Console(file=sys.stderr)
        self.timeline = timeline
        self.took: list[tuple[str, float]] = []
        """Every step that is done, with its seconds."""
        self._begin = time.monotonic()
        self._steps: list[_Running] = []
        self._bar: Progress | None = None
        self._lock = RLock()

    @contextmanager
    def step(self, title: str, leg: str = "") -> Iterator[Step]:
        """See Reporter."""
        start = time.monotonic()
        running = _Running(self, title, leg)
        self._enter(running)
        word = "[yellow]no[/]"
        try:
            yield running
            word = "[green]ok[/]"
            if self.timeline:
                self.timeline.finish(leg)
        finally:
            seconds = time.monotonic() - start
            self.took.append((title, seconds))
            self._leave(running)
            self.console.print(f"{word}  {title} [dim]{seconds:.1f} s[/]", highlight=False)

    def note(self, text: str) -> None:
        """Print the line."""
        self.console.print(text, highlight=False, markup=False)

    def skip(self, *legs: str) -> None:
        """See Reporter."""
        if self.timeline:
            self.timeline.finish(*legs)

    def moved(self, step: _Running) -> None:
        """Show how far a step is."""
        with self._lock:
            if self.timeline and step.share is not None:
                self.timeline.advance(step.leg, step.share)
            if self._bar is not None:
                self._draw()
            elif time.monotonic() - step.said >= QUIET_SECONDS:
                step.said = time.monotonic()
                self.console.print(f"... {step.title}  {step.detail}{self._total()}", highlight=False, markup=False)

    def left_text(self) -> str:
        """How far the whole command is, for a line of text; empty where its way is not known."""
        if self.timeline is None:
            return ""
        left = self.timeline.left(time.monotonic() - self._begin)
        return f"{self.timeline.share:.0%} of all, about {clock_text(left)} left"

    def _total(self) -> str:
        text = self.left_text()
        return f"  ({text})" if text else ""

    def _enter(self, step: _Running) -> None:
        with self._lock:
            self._steps.append(step)
            if not self.console.is_terminal:
                self.console.print(f"... {step.title}{self._total()}", highlight=False, markup=False)
                return
            if self._bar is None:
                left = _Left(self)
                columns = (SpinnerColumn(), BarColumn(bar_width=30), left, TextColumn("{task.description}"))
                self._bar = Progress(*columns, console=self.console, transient=True)
                self._bar.add_task("", total=1.0)
                self._bar.start()
            self._draw()

    def _leave(self, step: _Running) -> None:
        with self._lock:
            self._steps.remove(step)
            if self._bar is None:
                return
            if self._steps:
                self._draw()
            else:
                self._bar.stop()
                self._bar = None

    def _draw(self) -> None:
        assert self._bar is not None
        newest = self._steps[-1]
        share = self.timeline.share if self.timeline else newest.share
        told = "; ".join(f"{step.title} {step.detail}".strip() for step in self._steps)
        total = 1.0 if share is not None else None
        self._bar.update(self._bar.task_ids[0], completed=share or 0.0, total=total, description=told)


class _Left(ProgressColumn):
    """The time that is left where the way is known, else the time that has passed."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text(self._terminal.left_text() or clock_text(task.elapsed), style="progress.elapsed")
