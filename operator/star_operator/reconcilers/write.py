"""The one status write of a pass, and the Event that follows it."""

from star_operator.api.meta import Status
from star_operator.core.objects import KubeObject, without_empty_maps
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import post_event
from star_operator.policy.conditions import READY, find

QUIET = {ConditionReason.STEP_DONE, ConditionReason.SERVER_STARTING}


async def write_status(cluster: Cluster, body: KubeObject, status: Status, now: str) -> None:
    """Write the status if it differs from what the resource has; tell people when its reason changed."""
    new = without_empty_maps(status.to_json_dict())
    old = without_empty_maps(body.get("status") or {})
    if new == {key: value for key, value in old.items() if key in new} and not set(old) - set(new):
        return
    meta = body["metadata"]
    await cluster.apply_status(
        {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {key: meta[key] for key in ("name", "namespace") if key in meta},
            "status": new,
        }
    )
    ready = find(status.conditions, READY)
    before = next((c.get("reason") for c in old.get("conditions", []) if c.get("type") == READY), None)
    if ready is not None and ready.reason != before and ready.reason not in QUIET:
        await post_event(cluster, body, ready.reason, ready.message, now)
