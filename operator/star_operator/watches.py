"""kopf's watches, kept going: what ends them ends nothing else.

An ERROR event, or a LIST that is refused, ends kopf's operator and cancels all other tasks of its event loop. That is
trouble of the API server, which a restart of this process does not mend. So kopf runs in a thread with a loop of its
own, and is started anew after a pause; each start lists everything, so that nothing is missed.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from star_operator.handlers.events import registered
from star_operator.handlers.intake import Intake
from star_operator.kube.cluster import PAGE

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

    def event(self, event: Any) -> None:
        """An object came, changed or went, or is listed at the start of its watch."""
        self._loop.call_soon_threadsafe(self._intake.event, event)


class NothingCompared(kopf.DiffBaseStorage):
    """Has kopf compare no object with what it was: that costs as much as all else, and no handler asks for it."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """Return what matters of an object: nothing."""
        return {}

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return what mattered of it before."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def watch_with_kopf(relay: Relay, stop: threading.Event, namespaces: tuple[str, ...] = ()) -> None:
    """Run kopf, in these namespaces or in all: watches only. Its state, peering, events and finalizers are not used."""
    options = kopf.OperatorSettings()
    options.posting.enabled = False
    options.scanning.disabled = True
    options.peering.standalone = True
    options.watching.server_timeout = 300
    options.watching.client_timeout = 330
    options.watching.chunk_size = PAGE
    options.persistence.diffbase_storage = NothingCompared()
    registry = registered(options)
    kopf.on.login(registry=registry)(_login)

    async def until_stopped() -> None:
        try:
            await kopf.operator(
                registry=registry,
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


def _login(**kwargs: Any) -> Any:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
