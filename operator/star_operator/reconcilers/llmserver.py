"""Shared vLLM servers that nobody uses any more: kept for a while, then removed."""

from datetime import timedelta

import structlog

from star_operator.core.errors import Retryable
from star_operator.core.queue import Key
from star_operator.kube.servers import find_workload, idle_since
from star_operator.reconcilers.context import Context, parse_timestamp

log = structlog.get_logger(__name__)


class LLMServerReconciler:
    """Reconciles the Deployments and StatefulSets of shared servers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> None:
        """Delete the server if it has been idle for long enough; look again later if not yet."""
        found = await find_workload(self._context.cluster, key.namespace, key.name)
        if found is None:
            return
        rtype, workload = found
        since = idle_since(workload)
        if since is None:
            return
        keep = timedelta(seconds=self._context.settings.llm_idle_seconds)
        left = (parse_timestamp(since) + keep - self._context.now()).total_seconds()
        if left > 0:
            self._context.queue.add_after(key, left)
            return
        version = workload["metadata"]["resourceVersion"]
        try:
            await self._context.cluster.delete(rtype, key.namespace, key.name, version=version)
            log.info("idle server removed", namespace=key.namespace, server=key.name)
        except Retryable:
            self._context.queue.add_after(key, 1.0)  # it changed since it was read: a user may have come
