"""How the slow steps show that they move: a bar on a terminal, one line a step elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Step(Protocol):
    """One step that is under way."""

    def advance(self, done: float, total: float, unit: str = "") -> None:
        """Say how far the step is."""


class Reporter(Protocol):
    """Where the steps of a command are shown."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """A step that begins with the context and ends with it."""

    def note(self, text: str) -> None:
        """A line that stays on the screen."""


class _Quiet:
    def advance(self, done: float, total: float, unit: str = "") -> None:
        """Nothing is shown."""


@dataclass
class Silent:
    """Shows nothing: for tests."""

    notes: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """See Reporter."""
        yield _Quiet()

    def note(self, text: str) -> None:
        """Keep the line."""
        self.notes.append(text)


class _BarStep:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._title = title
        self._task = progress.add_task(title, total=None, detail="")

    def advance(self, done: float, total: float, unit: str = "") -> None:
        """Move the bar."""
        detail = f"{done:.0f}/{total:.0f} {unit}".strip() if unit else ""
        self._progress.update(self._task, completed=done, total=total or None, detail=detail)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)


class Terminal:
    """Bars while a step runs, one line with its seconds when it is done; plain lines where there is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._progress: Progress | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """See Reporter."""
        start = time.monotonic()
        try:
            if self._console.is_terminal:
                with self._bar(title) as bar:
                    yield bar
            else:
                self._console.print(f"... {title}", highlight=False)
                yield _Quiet()
        except BaseException:
            self._console.print(f"[yellow]no[/]  {title} [dim]{time.monotonic() - start:.1f} s[/]", highlight=False)
            raise
        self._console.print(f"[green]ok[/]  {title} [dim]{time.monotonic() - start:.1f} s[/]", highlight=False)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Step]:
        outermost = self._progress is None
        progress = self._progress or Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        if outermost:
            self._progress = progress
            progress.start()
        bar = _BarStep(progress, title)
        try:
            yield bar
        finally:
            bar.close()
            if outermost:
                progress.stop()
                self._progress = None

    def note(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, highlight=False, markup=False)
