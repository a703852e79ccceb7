"""How far a long command is, and how long it will still take: from what its parts are expected to need.

Pure: it is told of shares and seconds, and knows no clock. The parts may run side by side, and what was expected is
corrected by the pace seen so far.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

_TRUST_SECONDS = 120.0
"""How much expected time must have passed until the pace seen counts as much as the one that was expected."""


@dataclass(frozen=True)
class Leg:
    """One part of the way."""

    name: str
    seconds: float
    """What it is expected to need on this machine."""


class Timeline:
    """The parts of a command, each between nothing and all done. Safe to use from several threads."""

    def __init__(self, legs: Sequence[Leg]) -> None:
        self._expected = {leg.name: leg.seconds for leg in legs}
        self._shares = dict.fromkeys(self._expected, 0.0)
        self._lock = Lock()

    def advance(self, leg: str, share: float) -> None:
        """Say that `share` (0 to 1) of a leg is done. It never goes back; a leg that is not of the way is ignored."""
        with self._lock:
            if leg in self._shares:
                self._shares[leg] = min(1.0, max(self._shares[leg], share))

    def finish(self, *legs: str) -> None:
        """Say that legs are done: because they are, or because nothing had to be done for them."""
        for leg in legs:
            self.advance(leg, 1.0)

    @property
    def shares(self) -> Mapping[str, float]:
        """Each leg's share, by name."""
        with self._lock:
            return dict(self._shares)

    @property
    def share(self) -> float:
        """How much of the whole way is done, 0 to 1."""
        total = sum(self._expected.values())
        return self._done() / total if total else 1.0

    def left(self, elapsed: float) -> float:
        """Seconds that the rest will take, where `elapsed` seconds have passed since the beginning."""
        done = self._done()
        pace = (elapsed + _TRUST_SECONDS) / (done + _TRUST_SECONDS)
        return (sum(self._expected.values()) - done) * pace

    def _done(self) -> float:
        shares = self.shares
        return sum(seconds * shares[name] for name, seconds in self._expected.items())
