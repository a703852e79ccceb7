"""The operator's process: `star-operator --settings /etc/star-operator/settings.yaml`.

It leads (by a Lease) or waits to lead; while it leads, kopf watches, workers reconcile, and the process ends - to be
restarted by the kubelet - when it loses its lease or any of its parts.
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
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
import yaml
from aiohttp import web
from pydantic import ValidationError

from star_operator.app import App
from star_operator.core.queue import WorkQueue
from star_operator.core.settings import Settings
from star_operator.handlers.intake import Intake
from star_operator.kube.cache import Cache
from star_operator.kube.cached import CachedCluster
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import indexed
from star_operator.kube.lease import LeaderLease
from star_operator.kube.tokens import TokenReviewer
from star_operator.metrics import LEADER
from star_operator.reconcilers.context import Context
from star_operator.server import health_app, progress_app
from star_operator.watches import keep_watching

log = structlog.get_logger("star_operator")


def main() -> None:
    """Run the operator until it is told to stop."""
    parser = argparse.ArgumentParser(prog="star-operator", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings file (the chart's ConfigMap)")
    parser.add_argument("--kubeconfig", help="kubeconfig; the pod's service account when left out")
    parser.add_argument("--namespace", default=os.environ.get("POD_NAMESPACE", "star-system"), help="of the Lease")
    parser.add_argument("--health-port", type=int, default=8080)
    parser.add_argument("--progress-port", type=int, default=8081)
    arguments = parser.parse_args()
    _configure_logging()
    try:
        settings = Settings.model_validate(yaml.safe_load(arguments.settings.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        sys.exit(f"star-operator: {arguments.settings} is not a settings file: {error}")
    sys.exit(asyncio.run(_run(arguments, settings)))


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    cluster, cache = await Cluster.connect(arguments.kubeconfig), Cache(indexed)
    queue = WorkQueue(time.monotonic)
    intake = Intake(queue, cache)
    context = Context(CachedCluster(cluster, cache), settings, queue)
    app = App(context, intake, cache)
    lease = LeaderLease(cluster, arguments.namespace, "star-operator", f"{socket.gethostname()}-{os.getpid()}")
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)

    def unready() -> str | None:
        return None if app.synced.is_set() or not lease.is_held() else "the first listing is not done"

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        await _serve(stack, health_app(app.trouble, unready), arguments.health_port)
        await _serve(stack, progress_app(context, TokenReviewer(cluster)), arguments.progress_port)
        if not await _or_stop(lease.acquire(), stop):
            return 0
        LEADER.set(1)
        stack.push_async_callback(lease.give_up)
        parts = [
            asyncio.create_task(work) for work in (lease.keep(stop.set), app.run(), keep_watching(intake), stop.wait())
        ]
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        *_, stopped = parts
        broken = [part for part in parts if part.done() and part is not stopped]
        for part in broken:
            error = part.exception() if not part.cancelled() else None
            log.error("part of the operator ended", error=str(error or ""), exc_info=error)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        return 1 if broken else 0


async def _serve(stack: contextlib.AsyncExitStack, application: web.Application, port: int) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, port=port).start()


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
