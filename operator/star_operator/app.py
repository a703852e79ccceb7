"""The running operator: workers that reconcile what the queue holds, a resync, and the checks behind the probes."""

import asyncio
import itertools
import math
import random
import time
import zlib

import structlog

from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Phase
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.core.errors import InvalidSpec, Refused, Retryable, StarError, Waiting
from star_operator.core.queue import Key
from star_operator.handlers.intake import Intake
from star_operator.kube.cache import Cache
from star_operator.kube.indexes import CACHED, PHASE
from star_operator.kube.resources import NAMESPACE
from star_operator.metrics import QUEUE_DEPTH, RECONCILE_SECONDS, RECONCILES, RESOURCES, WATCH_STALE
from star_operator.policy.holdings import DEPLOYMENT, PIPELINE
from star_operator.policy.status import FINISHED
from star_operator.reconcilers.context import Context, Reconcile
from star_operator.reconcilers.retention import key_of
from star_operator.reconcilers.table import reconcilers

log = structlog.get_logger(__name__)

WATCH_GRACE_SECONDS = 30.0
PASS_TIMEOUT_SECONDS = 300.0
MENDED_SECONDS = 60.0
"""How late it is seen, at most, that somebody has raised a quota or given a right: no event says so."""
STANDING = {DEPLOYMENT, PromotionPolicy.INFO.kind, RetrainSchedule.INFO.kind}
"""Kinds that are never done."""
SETTLED = {*FINISHED, Phase.READY}
"""Phases of the others in which nothing is to be done but what a change asks for, of which a watch tells."""
SELDOM = 12
"""In every so manieth round what has settled is looked at, too, should all else have failed."""


class App:
    """Workers, resync and health."""

    def __init__(self, context: Context, intake: Intake, cache: Cache) -> None:
        self._context = context
        self._intake = intake
        self._cache = cache
        self._reconcilers: dict[str, Reconcile] = reconcilers(context)
        self._behind: set[str] = set()
        """Kinds whose watch had not delivered all of the last listing."""
        self._stale: set[str] = set()
        """Kinds of which that held twice in a row."""
        self._last_round = time.monotonic()
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._context.queue.run_timers())
            tasks.create_task(self._resync())
            for _ in range(self._context.settings.workers):
                tasks.create_task(self._work())

    def trouble(self) -> str | None:
        """Return what is wrong with this process that a restart would mend: not that the API server is in trouble."""
        if self._stale:
            kinds = ", ".join(sorted(self._stale))
            return f"the watch of {kinds} has twice not delivered what a LIST shows for {WATCH_GRACE_SECONDS:.0f} s"
        if time.monotonic() - self._last_round > 3 * self._context.settings.resync_seconds + 60:
            return "the loop that looks at everything now and then has stopped"
        return None

    async def _work(self) -> None:
        while True:
            key = await self._context.queue.get()
            QUEUE_DEPTH.set(len(self._context.queue))
            try:
                await self._reconcile(key)
            finally:
                self._context.queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        started = time.monotonic()
        result = "ok"
        try:
            async with asyncio.timeout(PASS_TIMEOUT_SECONDS):
                await self._reconcilers[key.kind](key)
            self._context.queue.succeeded(key)
        except Waiting:
            result = "waiting"
        except InvalidSpec as error:
            result = "invalid"
            log.error("cannot act on resource", key=str(key), reason=error.reason, message=error.message)
        except (Retryable, TimeoutError) as error:
            result = "retry"
            somebody_mends_it = isinstance(error, Refused)
            delay = self._context.queue.retry(key, at_most=MENDED_SECONDS if somebody_mends_it else math.inf)
            log.warning("tried again later", key=str(key), error=str(error), delay=delay)
        except StarError as error:
            result = "error"
            log.error("pass failed", key=str(key), reason=error.reason, message=error.message)
        except Exception:
            result = "crash"
            delay = self._context.queue.retry(key)
            log.exception("pass crashed", key=str(key), delay=delay)
        RECONCILES.labels(key.kind, result).inc()
        RECONCILE_SECONDS.labels(key.kind).observe(time.monotonic() - started)

    async def _resync(self) -> None:
        """Look at everything now and then, and hold what the watches delivered against a LIST."""
        for number in itertools.count():
            self._last_round = time.monotonic()
            try:
                self._intake.begin_round()
                listed = await self._list_all()
            except StarError as error:
                log.warning("resync failed", reason=error.reason, message=error.message)
                self._behind, self._stale = set(), set()  # who cannot list tells nothing of the watches
                await asyncio.sleep(5)
                continue
            self.synced.set()
            self._look_at_all(number)
            await asyncio.sleep(WATCH_GRACE_SECONDS)
            self._check_watches(listed)
            if not self._behind:
                await asyncio.sleep(self._context.settings.resync_seconds)

    async def _list_all(self) -> dict[str, dict[str, int]]:
        """Return the versions of all there is, by kind and UID, and have the cache know what is gone.

        A kind that is not known yet, or whose watch is behind, is read whole; of the others the names are enough.
        """
        listed: dict[str, dict[str, int]] = {}
        for kind, rtype in CACHED.items():
            if kind == NAMESPACE.kind and self._context.settings.watch_namespaces:
                continue  # its watch would tell of others', too
            whole = kind in self._behind or not self._cache.knows(kind)
            try:
                found = await self._context.cluster.snapshot(rtype, names_only=not whole)
            except Refused as refused:
                if kind != NAMESPACE.kind:
                    raise
                log.warning("namespaces are looked at one by one", message=refused.message)
                continue
            metas = [obj["metadata"] for obj in found.items]
            listed[kind] = {meta["uid"]: int(meta["resourceVersion"]) for meta in metas}
            if whole:
                self._cache.listed(kind, found.items, found.version)
            else:
                self._cache.swept(kind, listed[kind], found.version)
        return listed

    def _look_at_all(self, number: int) -> None:
        """Have what has not ended looked at some time until the next round, and a part of the rest."""
        RESOURCES.clear()
        window = self._context.settings.resync_seconds / 2
        namespaces = set()
        for kind in BY_KIND:
            for entry in self._cache.entries(kind):
                [phase] = entry.values(PHASE)
                RESOURCES.labels(kind, phase).inc()
                if (
                    kind in STANDING
                    or phase not in SETTLED
                    or zlib.crc32(entry.uid.encode()) % SELDOM == number % SELDOM
                ):
                    self._context.queue.add_after(Key(*entry.place), random.uniform(0, window))  # noqa: S311
                if kind in (PIPELINE, DEPLOYMENT):
                    namespaces.add(entry.place.namespace)
        for namespace in namespaces:
            self._context.queue.add_after(key_of(namespace), random.uniform(0, window))  # noqa: S311

    def _check_watches(self, listed: dict[str, dict[str, int]]) -> None:
        behind = {
            kind
            for kind, versions in listed.items()
            if any(not self._intake.has_seen(uid, version) for uid, version in versions.items())
        }
        self._stale, self._behind = behind & self._behind, behind
        for kind in CACHED:
            WATCH_STALE.labels(kind).set(kind in self._stale)
        if behind:
            log.warning("watch behind a LIST", kinds=sorted(behind), twice=sorted(self._stale))
