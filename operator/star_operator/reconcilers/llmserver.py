"""vLLM servers: groups that lost a pod start anew, and shared servers that nobody uses any more are removed."""

from datetime import timedelta

import structlog

from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.kube.events import post_event
from star_operator.kube.resources import SERVICE
from star_operator.kube.servers import Hands, mark_idle
from star_operator.kube.serverview import group_pods
from star_operator.metrics import GROUP_RESTARTS
from star_operator.policy.llmgroup import pods_to_delete
from star_operator.reconcilers.context import Context

log = structlog.get_logger(__name__)

GROUP_GRACE_SECONDS = 10
"""What is left of a group has nothing to finish: without its peers no answer can be completed."""


class LLMServerReconciler:
    """Reconciles the anchors of servers."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> None:
        """Mend the server while it is used; delete it once it has been idle for long enough."""
        anchor = await self._context.cluster.get(SERVICE, key.namespace, key.name)
        if anchor is None:
            return
        hands = Hands.of(anchor)
        if hands.users:
            await self._restart_broken_groups(key, anchor)
            return
        if (since := hands.idle_since) is None:
            await mark_idle(self._context.cluster, anchor, timestamp(self._context.now()))
            return  # the write has it looked at again
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

    async def _restart_broken_groups(self, key: Key, anchor: KubeObject) -> None:
        stale = pods_to_delete(await group_pods(self._context.cluster, key.namespace, key.name))
        for group in sorted({pod.group for pod in stale}):
            names = ", ".join(pod.name for pod in stale if pod.group == group)
            text = f"replica {group} of server {key.name} lost a pod: {names} start anew with it"
            log.warning("group restarted", namespace=key.namespace, server=key.name, pods=names)
            GROUP_RESTARTS.inc()
            await post_event(self._context.cluster, anchor, "GroupRestarted", text, timestamp(self._context.now()))
        for pod in stale:
            await self._context.cluster.delete_pod(
                key.namespace, pod.name, uid=pod.uid, grace_seconds=GROUP_GRACE_SECONDS
            )
