"""Whether the API server refuses approvals and overrides in another one's name: only then are they believed."""

import structlog

from star_operator.api.approvals import binds, is_whole
from star_operator.core.errors import Refused
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import ADMISSION_BINDING, ADMISSION_POLICY

log = structlog.get_logger(__name__)


async def guarded_since(cluster: Cluster) -> str | None:
    """Return since when the policy is there, whole, and bound everywhere (RFC 3339); None where it is not.

    What was written before has been written unguarded. Who may not look believes nothing.
    """
    try:
        policies = await cluster.list_objects(ADMISSION_POLICY, None)
        bindings = await cluster.list_objects(ADMISSION_BINDING, None)
    except Refused as refused:
        log.warning("cannot see whether approvals are guarded", message=refused.message)
        return None
    whole = [one["metadata"] for one in policies if is_whole(one.get("spec") or {}) and _stays(one)]
    live = [one for one in bindings if _stays(one)]
    since = [
        max(policy.get("creationTimestamp", ""), binding["metadata"].get("creationTimestamp", ""))
        for binding in live
        for policy in whole
        if binds(binding.get("spec") or {}, policy["name"])
    ]
    return min(since, default=None)


def _stays(one: KubeObject) -> bool:
    return "deletionTimestamp" not in one["metadata"]
