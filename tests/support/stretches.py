"""A way from one moment to the next, and how long it took beyond what was meant to take time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Stretch = tuple[float, float]
"""From and to, in seconds of one clock."""


def covered(stretches: Iterable[Stretch], begin: float, end: float) -> float:
    """Return the seconds between two times that lie in at least one of the stretches."""
    total, reached = 0.0, begin
    for first, last in sorted(stretches):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total, reached = total + last - first, last
    return total


@dataclass(frozen=True)
class Way:
    """Moments in the order in which they have to come, and the stretches that do not count."""

    moments: Mapping[str, float]
    meant: Mapping[str, tuple[Stretch, ...]]
    """Why -> when it took its time by intent."""

    def __post_init__(self) -> None:
        times = list(self.moments.values())
        if times != sorted(times):
            raise ValueError(f"what came first was seen later: {dict(self.moments)}")

    @property
    def whole(self) -> float:
        """Seconds from the first moment to the last."""
        times = list(self.moments.values())
        return times[-1] - times[0]

    def took(self, why: str) -> float:
        """Seconds that were meant to pass, for one reason."""
        times = list(self.moments.values())
        return covered(self.meant[why], times[0], times[-1])

    def parts(self) -> dict[str, float]:
        """Seconds to each moment from the one before, without those that were meant to pass."""
        left = [one for stretches in self.meant.values() for one in stretches]
        names, times = list(self.moments), list(self.moments.values())
        pairs = zip(names[1:], times, times[1:], strict=False)
        return {name: end - begin - covered(left, begin, end) for name, begin, end in pairs}

    @property
    def overhead(self) -> float:
        """Seconds of all parts."""
        return sum(self.parts().values())
