"""Prepare this machine before the development environment is there: `python -m star_cli.host PURPOSE`.

    PYTHONPATH=operator python3.11 -m star_cli.host demo        (what `make demo` does first)

The exit status is 1 where the machine lacks something that cannot be installed; the sentences are on stderr.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_cli.errors import StarctlError
from star_cli.host.facts import cluster_of_tests
from star_cli.host.needs import Purpose
from star_cli.host.prepare import prepare_host
from star_cli.local.errors import LocalClusterError
from star_cli.local.paths import DEFAULT_NAME


class _Lines:
    """A Reporter without rich, which is not there yet: a line when a step begins, and one when it is done."""

    @contextmanager
    def step(self, title: str, leg: str = "") -> Iterator["_Lines"]:
        self.note(f"... {title}")
        start = time.monotonic()
        yield self
        self.note(f"ok  {title} {time.monotonic() - start:.1f} s")

    def advance(self, done: float, total: float, unit: str = "") -> None:
        """A line cannot be moved."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def skip(self, *legs: str) -> None:
        """There is no bar."""


def main(arguments: list[str]) -> int:
    """Prepare the machine for the purpose that is named. Returns the exit status."""
    shown = _Lines()
    try:
        (name,) = arguments
        purpose = Purpose(name)
    except ValueError:
        shown.note(f"usage: python -m star_cli.host {{{'|'.join(Purpose)}}}")
        return 2
    cluster = cluster_of_tests() if purpose in (Purpose.TESTS, Purpose.PROMOTION) else DEFAULT_NAME
    try:
        prepare_host(purpose, shown, cluster=cluster, repository=Path.cwd())
    except (StarctlError, LocalClusterError) as error:
        shown.note(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
