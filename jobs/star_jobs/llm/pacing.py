"""Keeping to an endpoint's rate limits: calls pass at an even pace, and none while the endpoint asks for rest.

The pace is that of the generic cell rate algorithm without bursts: each call reserves the time that its share of a
minute takes, and the next one starts after it. Nothing is polled, and calls pass in the order in which they came.
"""

import asyncio
import time
from collections.abc import Callable

from star_contracts.limits import RateLimits

_MINUTE = 60.0


class Pace:
    """An even pace of so many units a minute."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_a_unit = _MINUTE / per_minute
        self._clock = clock
        self._free_at = clock()

    def reserve(self, units: float) -> float:
        """Take the next place in line for these units; return the seconds until it comes."""
        now = self._clock()
        start = max(now, self._free_at)
        self._free_at = start + units * self._seconds_a_unit
        return start - now

    def settle(self, units: float) -> None:
        """Correct a reservation that was too small (or, with negative units, too large)."""
        self._free_at += units * self._seconds_a_unit


class Pacer:
    """Lets calls to one endpoint through: not faster than its limits, and not while it asks for rest."""

    def __init__(self, limits: RateLimits | None, pods: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """`pods` clients share the limits in equal parts."""
        limits = limits or RateLimits()
        per_minute = limits.requests_per_minute, limits.tokens_per_minute
        requests, tokens = (Pace(amount / pods, clock) if amount else None for amount in per_minute)
        self._requests, self._tokens = requests, tokens
        self._clock = clock
        self._rests_until = 0.0

    def rest(self, seconds: float) -> None:
        """Let no call through for so long, as the endpoint said (Retry-After)."""
        self._rests_until = max(self._rests_until, self._clock() + seconds)

    async def admit(self, tokens: float) -> None:
        """Wait until a call of about so many tokens may be sent."""
        pauses = [pace.reserve(units) for pace, units in ((self._requests, 1.0), (self._tokens, tokens)) if pace]
        if (pause := max(pauses, default=0.0)) > 0:
            await asyncio.sleep(pause)
        # Again after each pause: a rest can be prolonged while it is slept through.
        while (pause := self._rests_until - self._clock()) > 0:  # noqa: ASYNC110 - a time, not an event
            await asyncio.sleep(pause)

    def settle(self, expected: float, spent: float) -> None:
        """Correct the pace by what a call really took in tokens."""
        if self._tokens:
            self._tokens.settle(spent - expected)
