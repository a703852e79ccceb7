"""A namespace's NetworkPolicies stand before any pod of ours does: whoever makes what has pods comes by here."""

import time
from collections.abc import Callable, Sequence

from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import DEPLOYMENT, JOB, STATEFUL_SET

MAKES_PODS = frozenset({JOB.kind, DEPLOYMENT.kind, STATEFUL_SET.kind})


class Walls:
    """Applies a namespace's policies before its first pods, and now and then again: somebody may have changed them."""

    def __init__(self, policies: Callable[[str], Sequence[KubeObject]], seconds: float) -> None:
        self._policies = policies
        self._seconds = seconds
        self._until: dict[str, float] = {}

    async def stand(self, cluster: Cluster, obj: KubeObject) -> None:
        """Have the policies there before an object that has pods is made. Raises as `Cluster.apply` does."""
        namespace = obj["metadata"].get("namespace", "")
        if obj["kind"] not in MAKES_PODS or time.monotonic() < self._until.get(namespace, 0.0):
            return
        for policy in self._policies(namespace):
            await cluster.apply(policy)
        self._until[namespace] = time.monotonic() + self._seconds
