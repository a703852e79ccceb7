"""Whether the API server refuses approvals and overrides in another one's name: only then are they believed."""

import structlog

from star_operator.api.approvals import binds, is_whole
from star_operator.core.errors import Refused
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import ADMISSION_BINDING, ADMISSION_POLICY

log = structlog.get_logger(__name__)


async def is_guarded(cluster: Cluster) -> bool:
    """Say whether the policy is there, whole, and bound everywhere. Who may not look believes nothing."""
    try:
        policies = await cluster.list_objects(ADMISSION_POLICY, None)
        bindings = await cluster.list_objects(ADMISSION_BINDING, None)
    except Refused as refused:
        log.warning("cannot see whether approvals are guarded", message=refused.message)
        return False
    whole = [
        one["metadata"]["name"]
        for one in policies
        if is_whole(one.get("spec") or {}) and "deletionTimestamp" not in one["metadata"]
    ]
    live = [one.get("spec") or {} for one in bindings if "deletionTimestamp" not in one["metadata"]]
    return any(binds(spec, name) for spec in live for name in whole)
