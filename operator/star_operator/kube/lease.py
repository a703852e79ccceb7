"""Leader election by a Lease (coordination.k8s.io/v1): one operator acts, the others stand by.

The rule is client-go's (tools/leaderelection): what a Lease says of the time is never compared with a clock. Who stands
by notes when, by its own clock, it last saw the Lease change, and takes it only once it has not changed for its whole
duration; who leads counts from the moment before its last renewal was sent, and has stopped when the renewal deadline
is over, which is earlier. So clocks may differ by any amount, as long as they run at about the same speed.

A Lease fences nothing by itself: the API server asks nobody whether a write comes from the leader. What can be done at
this end is done in `Cluster`: no write is sent after the renewal deadline, and one that is on its way then is given up
with its connection, `DURATION_SECONDS - RENEW_DEADLINE_SECONDS` before anybody else may lead.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from star_operator.core.errors import Retryable, StarError
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import LEASE

log = structlog.get_logger(__name__)

DURATION_SECONDS = 12
"""A Lease that has not changed for so long is free."""
RENEW_DEADLINE_SECONDS = 9.0
"""Who could not renew for so long acts no more."""
RETRY_SECONDS = 2.0
"""The Lease is renewed, or looked at, so often: the next replica leads at the latest 14 s after the last renewal, and
the time of a few API calls."""
FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def local_clock() -> float:
    """Return the seconds of a clock that nobody sets, and that goes on while the machine sleeps (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class _Seen:
    """A Lease as it was seen last, and when it was first seen so."""

    spec: KubeObject
    at: float


class LeaderLease:
    """One replica's claim to lead. `clock` gives seconds, and is the only one that decides anything."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] = local_clock,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed: float | None = None
        self._seen: _Seen | None = None

    def seconds_left(self) -> float:
        """Return for how long this replica may still act; 0 or less when it does not lead."""
        return 0.0 if self._renewed is None else self._renewed + RENEW_DEADLINE_SECONDS - self._clock()

    def is_held(self) -> bool:
        """Say whether this replica may act now."""
        return self.seconds_left() > 0

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        while not await self._try(RENEW_DEADLINE_SECONDS):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(self._pause())
        log.info("leading", identity=self._identity)

    async def keep(self) -> None:
        """Renew for ever; return when the lease could not be renewed in time, or is another's."""
        while True:
            await asyncio.sleep(min(RETRY_SECONDS, max(0.0, self.seconds_left())))
            if self.is_held():
                await self._try(self.seconds_left())
            if not self.is_held():
                log.error("lease lost; another replica may lead soon", identity=self._identity)
                return

    async def give_up(self) -> None:
        """Let the next replica lead at once."""
        left, self._renewed = self.seconds_left(), None
        if left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                lease = await self._cluster.get(LEASE, self._namespace, self._name)
                if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                    freed = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._cluster.replace({**lease, "spec": freed})
        except (StarError, TimeoutError) as error:
            log.warning("lease not given up; the next replica leads when it has run out", error=str(error))

    async def _try(self, seconds: float) -> bool:
        """Take or renew the lease within so many seconds; say whether it is this replica's now."""
        began = self._clock()
        try:
            async with asyncio.timeout(seconds):
                held = await self._take()
        except (Retryable, TimeoutError) as error:
            log.warning("lease not renewed", error=str(error) or "the API server is slow")
            return False
        except StarError as error:
            log.error("lease refused", reason=error.reason, message=error.message)
            return False
        self._renewed = began if held else None
        return held

    async def _take(self) -> bool:
        lease = await self._cluster.get(LEASE, self._namespace, self._name)
        if lease is None:
            await self._cluster.create(self._claim(None))
            return True
        if not self._may_take(lease.get("spec") or {}):
            return False
        await self._cluster.replace(self._claim(lease))
        return True

    def _may_take(self, spec: KubeObject) -> bool:
        if self._seen is None or self._seen.spec != spec:
            self._seen = _Seen(spec, self._clock())
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return self._clock() >= self._free_at(self._seen)

    def _free_at(self, seen: _Seen) -> float:
        return seen.at + float(seen.spec.get("leaseDurationSeconds") or DURATION_SECONDS)

    def _pause(self) -> float:
        """Return how long to stand by: until the next look, or until the lease is free if that is sooner."""
        left = self._free_at(self._seen) - self._clock() if self._seen is not None else RETRY_SECONDS
        return min(RETRY_SECONDS, left) if left > 0 else RETRY_SECONDS

    def _claim(self, old: KubeObject | None) -> KubeObject:
        now = datetime.now(UTC).strftime(FORMAT)  # for people: no replica reads it
        metadata = old["metadata"] if old else {"name": self._name, "namespace": self._namespace}
        spec: dict[str, Any] = (old.get("spec") or {}) if old else {}
        taken_over = spec.get("holderIdentity") != self._identity
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": now if taken_over else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if old and taken_over else 0),
            },
        }
