"""Feedback on recommendations: a log line each, counted, and in batches to the store where a prefix is configured."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from star_contracts.artifact import S3Uri
from star_contracts.base import canonical_json
from star_contracts.job import Store
from star_jobs.errors import JobFailure
from star_jobs.serve.metrics import Metrics
from star_jobs.serve.models import Feedback
from star_jobs.storage import ObjectStore

FLUSH_SECONDS = 30.0
FLUSH_EVENTS = 500
MAX_WAITING = 20_000
"""Events kept while the store cannot be written; the oldest are dropped then (they are in the log)."""

_log = structlog.get_logger("star.gateway.feedback")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FeedbackSink:
    """Takes feedback. For use from one event loop."""

    def __init__(self, metrics: Metrics, instance: str, now: Callable[[], datetime] = _utc_now) -> None:
        """Make a sink; `instance` tells this process's objects from those of every other (pod name and start time)."""
        self._metrics = metrics
        self._instance = instance
        self._now = now
        self._waiting: deque[bytes] = deque()
        self._full = asyncio.Event()
        self._batches = 0
        self._store: ObjectStore | None = None
        self._prefix: str | None = None

    def configure(self, store: Store, prefix: S3Uri | None) -> None:
        """Set where batches go; None keeps feedback in the log alone."""
        self._store = None if prefix is None else ObjectStore(store)
        self._prefix = prefix

    @property
    def durable(self) -> bool:
        """Tell whether feedback is written to the store."""
        return self._prefix is not None

    def take(self, feedback: Feedback) -> None:
        """Log and count one event, and put it into the next batch."""
        now = self._now()
        record = {"time": now.isoformat(), **feedback.model_dump(mode="json", exclude_none=True)}
        # structlog's own first argument is called `event`, as is the field of the record.
        _log.info("feedback", feedback=record)
        self._metrics.feedback.labels(feedback.event.value).inc()
        if self._prefix is None:
            return
        self._waiting.append(canonical_json(record) + b"\n")
        self._trim()
        if len(self._waiting) >= FLUSH_EVENTS:
            self._full.set()

    async def flush_for_ever(self) -> None:
        """Write a batch when there are enough events or enough time has passed. Ends by cancellation."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):  # wait_for loses a cancellation that comes with the event
                    await self._full.wait()
            self._full.clear()
            if not await self.flush():
                await asyncio.sleep(FLUSH_SECONDS / 10)

    async def flush(self) -> bool:
        """Write what is waiting as one object. Returns False, and keeps the events, when the store does not take it.

        Delivery is at least once: a batch whose writing was cut off is written again under another name.
        """
        if not self._waiting or self._store is None or self._prefix is None:
            return True
        events = list(self._waiting)
        self._waiting.clear()
        uri = f"{self._prefix}/date={self._now():%Y-%m-%d}/{self._instance}-{self._batches:06d}.jsonl"
        self._batches += 1  # before writing: a name is never used twice, whatever becomes of this try
        try:
            await asyncio.to_thread(self._store.put_bytes, uri, b"".join(events))
        except JobFailure as failure:
            _log.warning("feedback batch kept for the next try", reason=failure.reason, message=failure.message)
            self._put_back(events)
            return False
        except asyncio.CancelledError:
            self._put_back(events)
            raise
        return True

    def _put_back(self, events: list[bytes]) -> None:
        self._waiting.extendleft(reversed(events))
        self._trim()

    def _trim(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self._metrics.feedback_lost.inc()
