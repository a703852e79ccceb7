"""kopf's watches, kept going: what ends them ends nothing else.

An ERROR event, or a LIST that is refused, ends kopf's operator and cancels all other tasks of its event loop. That is
trouble of the API server, which a restart of this process does not mend. So kopf runs in a thread with a loop of its
own, and is started anew after a pause; each start lists everything, so that nothing is missed.
"""

import asyncio
import importlib
import pkgutil
import threading
import time
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from star_operator import handlers
from star_operator.api.meta import Resource
from star_operator.handlers.intake import REGISTRY, Intake

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LONG_ENOUGH_SECONDS = 60.0
"""Watches that lived for this long start with the shortest pause again."""

Watch = Callable[["Relay", threading.Event], None]
"""Watch until the event is set; an exception tells why it ended before. Runs in a thread."""


class Relay:
    """Hands events over to the intake, in the event loop that it belongs to."""

    def __init__(self, intake: Intake, loop: asyncio.AbstractEventLoop) -> None:
        self._intake = intake
        self._loop = loop

    def __copy__(self) -> "Relay":
        """Stay one object: kopf copies its memo for every resource."""
        return self

    def resource_event(self, kind: type[Resource[Any, Any]], event: Any) -> None:
        """A resource of ours changed, or is listed at the start."""
        self._loop.call_soon_threadsafe(self._intake.resource_event, kind, event)

    def namespace_event(self, event: Any) -> None:
        """A namespace came, went or changed."""
        self._loop.call_soon_threadsafe(self._intake.namespace_event, event)

    def child_event(self, event: Any) -> None:
        """A child changed."""
        self._loop.call_soon_threadsafe(self._intake.child_event, event)


def watch_with_kopf(relay: Relay, stop: threading.Event, namespaces: tuple[str, ...] = ()) -> None:
    """Run kopf, in these namespaces or in all: watches only. Its state, peering, events and finalizers are not used."""
    options = kopf.OperatorSettings()
    options.posting.enabled = False
    options.scanning.disabled = True
    options.peering.standalone = True
    options.watching.server_timeout = 300
    options.watching.client_timeout = 330

    async def until_stopped() -> None:
        try:
            await kopf.operator(
                registry=REGISTRY,
                settings=options,
                clusterwide=not namespaces,
                namespaces=namespaces,
                standalone=True,
                memo=relay,
                stop_flag=stop,
            )
        finally:
            stop.set()  # the loop's end waits for the thread in which kopf waits for this

    asyncio.run(until_stopped())


async def keep_watching(intake: Intake, watch: Watch = watch_with_kopf, pause: float = PAUSE_SECONDS) -> None:
    """Watch for ever; what ends a watch is logged, and after a pause that grows all of them are started anew."""
    relay, wait = Relay(intake, asyncio.get_running_loop()), pause
    while True:
        stop, started, why = threading.Event(), time.monotonic(), "they stopped by themselves"
        try:
            await asyncio.to_thread(watch, relay, stop)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            stop.set()
        if time.monotonic() - started > LONG_ENOUGH_SECONDS:
            wait = pause
        log.warning("the watches ended; they are started anew", error=why, delay=wait)
        await asyncio.sleep(wait)
        wait = min(2 * wait, LONGEST_PAUSE_SECONDS)


def register_handlers() -> None:
    """Make the handlers known to kopf, once a process."""
    for module in pkgutil.iter_modules(handlers.__path__):
        importlib.import_module(f"{handlers.__name__}.{module.name}")
    kopf.on.login(registry=REGISTRY)(_login)


def _login(**kwargs: Any) -> Any:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
