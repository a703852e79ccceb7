"""The operator's process: `star-operator --settings /etc/star-operator/settings.yaml`.

It leads (by a Lease) or waits to lead. While it leads, kopf watches and workers reconcile. When it loses the lease it
waits to lead again; when it loses any of its parts it ends, to be restarted by the kubelet.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import yaml
from aiohttp import web
from pydantic import ValidationError

from star_operator.app import App
from star_operator.builders.network import namespace_policies
from star_operator.connections import GuardedSite
from star_operator.core.errors import StarError
from star_operator.core.keys import KeyRing
from star_operator.core.queue import WorkQueue
from star_operator.core.settings import Settings
from star_operator.handlers.intake import Intake
from star_operator.kube.cache import Cache
from star_operator.kube.cached import CachedCluster
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import indexed
from star_operator.kube.keys import load_key_ring
from star_operator.kube.lease import LeaderLease
from star_operator.kube.tokens import TokenReviewer
from star_operator.kube.walls import Walls
from star_operator.metrics import LEADER
from star_operator.reconcilers.context import Context
from star_operator.server import Door, health_app, progress_app
from star_operator.watches import keep_watching, watch_with_kopf

log = structlog.get_logger("star_operator")

ROOT_KEY_PAUSE_SECONDS = 5.0


def main() -> None:
    """Run the operator until it is told to stop."""
    parser = argparse.ArgumentParser(prog="star-operator", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings file (the chart's ConfigMap)")
    parser.add_argument("--kubeconfig", help="kubeconfig; the pod's service account when left out")
    parser.add_argument("--namespace", default=os.environ.get("POD_NAMESPACE", "star-system"), help="of the Lease")
    parser.add_argument("--lease", default="star-operator", help="name of the Lease: the release's")
    parser.add_argument("--health-port", type=int, default=8080)
    parser.add_argument("--progress-port", type=int, default=8081)
    arguments = parser.parse_args()
    _configure_logging()
    try:
        settings = Settings.model_validate(yaml.safe_load(arguments.settings.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        sys.exit(f"star-operator: {arguments.settings} is not a settings file: {error}")
    sys.exit(asyncio.run(_run(arguments, settings)))


@dataclass
class Replica:
    """What a replica's ports speak of. It has a context, with all that it is told, only while it leads."""

    lease: LeaderLease
    keys: KeyRing | None = None
    context: Context | None = None
    app: App | None = None

    def trouble(self) -> str | None:
        """Say what a restart would mend."""
        return self.app.trouble() if self.app is not None else None

    def unready(self) -> str | None:
        """Say what it does not do yet. Who stands by is ready to lead."""
        return None if self.app is None or self.app.synced.is_set() else "the first listing is not done"

    def listening(self) -> Context | None:
        """Return where reports are kept; None while another replica leads."""
        return self.context if self.lease.is_held() else None


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    cluster = await Cluster.connect(arguments.kubeconfig, settings.watch_namespaces)
    replica = Replica(LeaderLease(cluster, arguments.namespace, arguments.lease, _identity()))
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        await _serve(stack, health_app(replica.trouble, replica.unready), arguments.health_port)
        await _serve(stack, progress_app(replica.listening, Door(TokenReviewer(cluster))), arguments.progress_port)
        stack.push_async_callback(replica.lease.give_up)
        if not await _or_stop(_load_keys(replica, cluster, arguments.namespace, f"{arguments.lease}-keys"), stop):
            return 0
        while await _or_stop(replica.lease.acquire(), stop):
            if (broken := await _lead(replica, cluster, settings, stop)) or stop.is_set():
                return 1 if broken else 0
        return 0


async def _lead(replica: Replica, cluster: Cluster, settings: Settings, stop: asyncio.Event) -> bool:
    """Watch and work until told to stop, or until the lease is lost. Returns whether a part of this ended by itself.

    Nothing of it outlives the term: whoever leads again begins with an empty memory, and lists everything.
    """
    queue, cache = WorkQueue(time.monotonic), Cache(indexed)
    intake = Intake(queue, cache)
    fenced = cluster.fenced(replica.lease.seconds_left)
    assert replica.keys is not None  # nobody leads without
    walls = Walls(partial(namespace_policies, settings=settings), settings.resync_seconds)
    replica.context = Context(CachedCluster(fenced, cache, walls), settings, queue, replica.keys)
    replica.app = App(replica.context, intake, cache)
    watch = partial(watch_with_kopf, namespaces=settings.watch_namespaces)
    LEADER.set(1)
    kept, stopped = asyncio.create_task(replica.lease.keep()), asyncio.create_task(stop.wait())
    works = [asyncio.create_task(replica.app.run()), asyncio.create_task(keep_watching(intake, watch))]
    parts: list[asyncio.Task[Any]] = [kept, stopped, *works]
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    LEADER.set(0)
    broken = [part for part in works if part.done()]
    for part in broken:
        error = part.exception() if not part.cancelled() else None
        log.error("part of the operator ended", error=str(error or ""), exc_info=error)
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
    replica.context = replica.app = None
    return bool(broken)


async def _load_keys(replica: Replica, cluster: Cluster, namespace: str, name: str) -> None:
    """Read, or make, the root of all keys, however long the API server takes to allow it."""
    while True:
        try:
            replica.keys = await load_key_ring(cluster, namespace, name)
            return
        except StarError as error:
            log.warning("no root key yet", secret=name, namespace=namespace, message=error.message)
        await asyncio.sleep(ROOT_KEY_PAUSE_SECONDS)


def _identity() -> str:
    """Return a name that no other replica has: a pod's, or one of this process alone."""
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


async def _serve(stack: contextlib.AsyncExitStack, application: web.Application, port: int) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await GuardedSite(runner, port).start()


async def _or_stop(waited: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(waited), asyncio.create_task(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finished: bool = tasks[0].done()
    for task in tasks:
        task.cancel()
    return finished


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
