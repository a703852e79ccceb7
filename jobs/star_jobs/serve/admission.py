"""Admission control: at most N requests at once, the rest are told at once when to come back.

A queue in front of a saturated model only turns overload into time-outs; a quick 429 with `Retry-After` lets callers
spread out, and keeps the latency of what was admitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from star_jobs.serve.problems import Problem

_SMOOTHING = 0.2
_RETRY_AFTER_RANGE = (1, 60)


class Admission:
    """Counts requests in flight and how long they take. For use from one event loop: no locks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Requests at once; may be changed at any time and counts from the next request."""
        self.in_flight = 0
        self._seconds = 1.0

    @contextmanager
    def slots(self, count: int = 1) -> Iterator[None]:
        """Hold slots for the body of the `with`. Raises Problem 429 when so many are not free."""
        if self.in_flight + count > self.limit:
            raise Problem(
                429,
                "too-many-requests",
                f"{self.in_flight} requests are in flight and the gateway takes {self.limit}; "
                f"retry after {self.retry_after()} s, or raise the deployment's gateway.maxInFlight or its replicas.",
                retry_after=self.retry_after(),
            )
        self.in_flight += count
        try:
            yield
        finally:
            self.in_flight -= count

    def observe(self, seconds: float) -> None:
        """Take note of how long a request took."""
        self._seconds += _SMOOTHING * (seconds - self._seconds)

    def retry_after(self) -> int:
        """Return the seconds after which a slot is likely to be free: about one request's time, from 1 to 60."""
        low, high = _RETRY_AFTER_RANGE
        return min(max(ceil(self._seconds), low), high)
