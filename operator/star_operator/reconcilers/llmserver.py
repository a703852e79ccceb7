"""Shared vLLM servers that nobody uses any more: kept for a while, then removed."""

from datetime import timedelta

import structlog

from star_operator.core.errors import Retryable
from star_operator.core.queue import Key
from star_operator.kube.resources import SERVICE
from star_operator.kube.servers import idle_since
from star_operator.reconcilers.context import Context, parse_timestamp

log = structlog.get_logger(__name__)


class LLMServerReconciler:
    """Reconciles the anchors of shared servers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> None:
        """Delete the server if it has been idle for long enough; look again later if not yet."""
        anchor = await self._context.cluster.get(SERVICE, key.namespace, key.name)
        if anchor is None:
            return
        since = idle_since(anchor)
        if since is None:
            return
        keep = timedelta(seconds=self._context.settings.llm_idle_seconds)
        left = (parse_timestamp(since) + keep - self._context.now()).total_seconds()
        if left > 0:
            self._context.queue.add_after(key, left)
            return
        version = anchor["metadata"]["resourceVersion"]
        try:
            await self._context.cluster.delete(SERVICE, key.namespace, key.name, version=version)
            log.info("idle server removed", namespace=key.namespace, server=key.name)
        except Retryable:
            self._context.queue.add_after(key, 1.0)  # it changed since it was read: a user may have come
