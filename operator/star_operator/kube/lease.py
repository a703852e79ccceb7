"""Leader election by a Lease (coordination.k8s.io/v1): one operator acts, the others stand by.

kopf's peering is not a lease: two replicas of equal priority freeze. Here a replica acts only while its lease is
younger than the lease's duration by its own clock, and the process ends when it cannot renew in time (fencing).
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from star_operator.core.errors import Retryable, StarError
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import LEASE

log = structlog.get_logger(__name__)

DURATION = timedelta(seconds=15)
RENEW_EVERY = 5.0
FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class LeaderLease:
    """One replica's claim to lead."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._renewed: datetime | None = None

    def is_held(self) -> bool:
        """Say whether this replica may act now."""
        return self._renewed is not None and datetime.now(UTC) - self._renewed < DURATION

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        while not await self._try():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(RENEW_EVERY)
        log.info("leading", identity=self._identity)

    async def keep(self, lost: Callable[[], None]) -> None:
        """Renew for ever; call `lost` and return when the lease could not be renewed in time."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            await self._try()
            if not self.is_held():
                log.error("lease lost; another replica may lead now", identity=self._identity)
                lost()
                return

    async def give_up(self) -> None:
        """Let the next replica lead at once."""
        if self.is_held():
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                await self._cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        self._renewed = None

    async def _try(self) -> bool:
        now = datetime.now(UTC)
        try:
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
            if lease is None:
                await self._cluster.create(self._claim(now, None))
            elif self._may_take(lease, now):
                await self._cluster.replace(self._claim(now, lease))
            else:
                return False
        except Retryable as error:
            log.warning("lease not renewed", reason=error.reason)
            return False
        except StarError as error:
            log.error("lease refused", reason=error.reason, message=error.message)
            return False
        self._renewed = now
        return True

    def _may_take(self, lease: KubeObject, now: datetime) -> bool:
        spec = lease["spec"]
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        renewed = datetime.strptime(spec["renewTime"], FORMAT).replace(tzinfo=UTC)
        return now - renewed > timedelta(seconds=spec.get("leaseDurationSeconds", DURATION.seconds))

    def _claim(self, now: datetime, old: KubeObject | None) -> KubeObject:
        metadata = old["metadata"] if old else {"name": self._name, "namespace": self._namespace}
        spec = old["spec"] if old else {}
        taken_over = spec.get("holderIdentity") != self._identity
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION.seconds,
                "acquireTime": now.strftime(FORMAT) if taken_over else spec["acquireTime"],
                "renewTime": now.strftime(FORMAT),
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if old and taken_over else 0),
            },
        }
