"""The one status write of a pass, and the Event that tells of it.

The Event comes first: an operator that dies between the two tells it once more, and counts it up, rather than never.
"""

import structlog

from star_operator.api.meta import Status
from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject, without_empty_maps
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster, NotFound
from star_operator.kube.events import post_event
from star_operator.kube.resources import BY_GVK
from star_operator.policy.conditions import READY, find

log = structlog.get_logger(__name__)
QUIET = {ConditionReason.STARTING, ConditionReason.STEP_DONE, ConditionReason.SERVER_STARTING}


async def write_status(cluster: Cluster, body: KubeObject, status: Status, now: str) -> None:
    """Write the status if it differs from what the resource has; tell people when its reason changed.

    `body` then has what was written. A resource that is gone, or whose name is another one's by now, gets nothing.
    """
    new = without_empty_maps(status.to_json_dict())
    old = without_empty_maps(body.get("status") or {})
    if new == {key: value for key, value in old.items() if key in new} and not set(old) - set(new):
        return
    ready = find(status.conditions, READY)
    before = next((c.get("reason") for c in old.get("conditions", []) if c.get("type") == READY), None)
    if ready is not None and ready.reason != before and ready.reason not in QUIET:
        await post_event(cluster, body, ready.reason, ready.message, now)
    written = await _written(cluster, body, new)
    if written is not None:
        body["metadata"] = {**body["metadata"], "resourceVersion": written["metadata"]["resourceVersion"]}
        body["status"] = written.get("status", {})


async def _written(cluster: Cluster, body: KubeObject, new: KubeObject) -> KubeObject | None:
    """Write a status at the version that was looked at; what others than the status' writer have changed is no matter.

    Raises Retryable where another status has been written meanwhile: this one was decided without it.
    """
    meta = body["metadata"]
    try:
        return await cluster.apply_status(_patch(body, meta["resourceVersion"], new))
    except NotFound:
        return None
    except Retryable as conflict:
        if conflict.reason != "Conflict":
            raise
        rtype = BY_GVK[body["apiVersion"], body["kind"]]
        there = await cluster.live.get(rtype, meta.get("namespace", ""), meta["name"])
        if there is None or there["metadata"]["uid"] != meta["uid"]:
            log.info("gone before its status was written", kind=body["kind"], name=meta["name"], uid=meta["uid"])
            return None
        if (there.get("status") or {}) != (body.get("status") or {}):
            raise
        return await cluster.apply_status(_patch(body, there["metadata"]["resourceVersion"], new))


def _patch(body: KubeObject, version: str, status: KubeObject) -> KubeObject:
    meta = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "metadata": {**meta, "resourceVersion": version},
        "status": status,
    }
