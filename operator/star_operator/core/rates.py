"""How often somebody may do something: a token bucket for each key, the keys bounded."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second for ever."""

    burst: float
    per_second: float


class Rates:
    """Buckets of one rate, by key. All times are seconds of one clock, which the caller reads."""

    def __init__(self, rate: Rate, most_keys: int) -> None:
        """A key that is pushed out by others begins anew: so there must be more than can be busy at once."""
        self._rate = rate
        self._most = most_keys
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """What each key may still do at once, and when that was so."""

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: Hashable, now: float) -> int:
        """Count one. Returns 0 when it is allowed, and else in how many whole seconds it would be."""
        left, at = self._left.pop(key, (self._rate.burst, now))
        left = min(self._rate.burst, left + max(0.0, now - at) * self._rate.per_second)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - left) / self._rate.per_second))
