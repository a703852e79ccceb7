"""How recommendations are taken: counts by revision over a rolling window, of what was shown and what was chosen.

A recommendation is remembered by its request id, with its first places; feedback that names it tells at which place the
item stood. Feedback may come to another gateway process than the one that answered: then the place that the client
names (`rank`, with `revision`) counts, and feedback that names none is left out. A recommendation is chosen from once,
by the first click, like or purchase. All is bounded; what a process had counted goes with it.
"""

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import structlog

from star_contracts.online import (
    MAX_REVISIONS,
    RANKS,
    REPORT_SECONDS,
    WINDOW_SECONDS,
    OnlineCounts,
    OnlineReport,
    OnlineTarget,
)
from star_contracts.progress import LATER, TOKEN_PATH, pause_seconds
from star_jobs.serve.models import Feedback, FeedbackEvent, Recommendation

CHOSEN = frozenset({FeedbackEvent.CLICK, FeedbackEvent.LIKE, FeedbackEvent.PURCHASE})
MAX_REMEMBERED = 20_000
"""Recommendations that feedback is matched with; the oldest are forgotten."""
CLAIMS_PER_RECOMMENDATION = 8
"""Feedback on recommendations of other processes counts up to so many times what this one has answered: clients name
them, and may invent them."""
BUCKET_SECONDS = 1800
_SHOWN = max(RANKS)
_TIMEOUT_SECONDS = 5.0
_TRIES = 4
"""So often a report is sent to an operator that does not take it yet: of its replicas one takes reports."""

_log = structlog.get_logger("star.gateway.online")


@dataclass(slots=True)
class _Shown:
    """A recommendation that was answered."""

    revision: str
    first: tuple[int, ...]
    """Hashes of the items at its first places."""
    chosen: bool = False


@dataclass(slots=True)
class _Bucket:
    """What was counted within half an hour."""

    begun: float
    counts: dict[str, OnlineCounts] = field(default_factory=dict)
    claims: Counter[str] = field(default_factory=Counter)
    """Of those that were chosen from, by revision: what other processes had answered, as clients say."""


class Online:
    """Counts recommendations and what is chosen of them. For use from one event loop."""

    def __init__(self, revisions: Callable[[], Collection[str]], now: Callable[[], float] = time.time) -> None:
        """Make a counter; `revisions` are those that there are, as feedback may name any."""
        self._revisions, self._now = revisions, now
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._claimed: OrderedDict[int, None] = OrderedDict()
        """Hashes of the request ids of recommendations that this process does not know."""
        self._buckets: deque[_Bucket] = deque()

    def shown(self, recommendation: Recommendation) -> None:
        """A recommendation was answered."""
        first = tuple(hash(one.item_id) for one in recommendation.ranking[:_SHOWN])
        self._shown.pop(recommendation.request_id, None)
        self._shown[recommendation.request_id] = _Shown(recommendation.revision, first)
        if len(self._shown) > MAX_REMEMBERED:
            self._shown.popitem(last=False)
        self._count(recommendation.revision, OnlineCounts(recommendations=1))

    def take(self, feedback: Feedback) -> None:
        """A user did something with an item of a recommendation."""
        if feedback.event not in CHOSEN:
            return
        one = self._shown.get(feedback.request_id)
        if one is None:
            self._take_claimed(feedback)
        elif not one.chosen:
            item = hash(feedback.item_id)
            one.chosen = True
            self._choose(one.revision, one.first.index(item) + 1 if item in one.first else _SHOWN + 1)

    def _take_claimed(self, feedback: Feedback) -> None:
        """Of one answered by another process, or long ago: the client's word counts, once, within what is plausible."""
        revision, rank, key = feedback.revision, feedback.rank, hash(feedback.request_id)
        if rank is None or revision is None or revision not in self._revisions() or key in self._claimed:
            return
        self._forget()
        answered = sum(bucket.counts[revision].recommendations for bucket in self._buckets if revision in bucket.counts)
        if sum(bucket.claims[revision] for bucket in self._buckets) >= CLAIMS_PER_RECOMMENDATION * max(1, answered):
            return
        self._claimed[key] = None
        if len(self._claimed) > MAX_REMEMBERED:
            self._claimed.popitem(last=False)
        self._choose(revision, rank)
        self._buckets[-1].claims[revision] += 1

    def _choose(self, revision: str, rank: int) -> None:
        hits = {f"hits{most}": int(rank <= most) for most in RANKS}
        self._count(revision, OnlineCounts(chosen=1, **hits))

    def counts(self) -> dict[str, OnlineCounts]:
        """Return what the window holds, by revision: those counted last, where there are many."""
        self._forget()
        found: dict[str, OnlineCounts] = {}
        for bucket in reversed(self._buckets):
            for revision, counts in bucket.counts.items():
                if revision in found or len(found) < MAX_REVISIONS:
                    found[revision] = found.get(revision, OnlineCounts()).plus(counts)
        return found

    def _count(self, revision: str, counts: OnlineCounts) -> None:
        now = self._now()
        if not self._buckets or now - self._buckets[-1].begun >= BUCKET_SECONDS:
            self._forget()
            self._buckets.append(_Bucket(now))
        into = self._buckets[-1].counts
        into[revision] = into.get(revision, OnlineCounts()).plus(counts)

    def _forget(self) -> None:
        while self._buckets and self._now() - self._buckets[0].begun >= WINDOW_SECONDS:
            self._buckets.popleft()


async def report_for_ever(
    online: Online, instance: str, target: Callable[[], OnlineTarget | None], token: Path = Path(TOKEN_PATH)
) -> None:
    """Send what is counted, every so often, once there is anything. A report that is lost is followed by the next.

    Ends by cancellation.
    """
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            where, counts = target(), online.counts()
            if where is not None and counts:
                await send(client, OnlineReport(target=where, instance=instance, revisions=counts), token)


async def send(client: httpx.AsyncClient, report: OnlineReport, token: Path) -> None:
    """Send one report. Never raises."""
    with contextlib.suppress(OSError, ValueError, httpx.HTTPError, httpx.InvalidURL):
        headers = {"Content-Type": "application/json", **await asyncio.to_thread(_authorization, token)}
        content = report.model_dump_json(by_alias=True)
        for _ in range(_TRIES):
            answer = await client.post(report.target.url, content=content, headers=headers)
            if answer.status_code not in LATER:
                break
            await asyncio.sleep(pause_seconds(answer.headers.get("Retry-After")))
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            _log.warning("online figures not taken", status=answer.status_code, answer=answer.text[:200])


def _authorization(token: Path) -> dict[str, str]:
    """Return the header, from the file as it is now: the kubelet rotates it."""
    return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}
