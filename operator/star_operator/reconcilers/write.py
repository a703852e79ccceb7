"""The one status write of a pass, and the Event that follows it."""

from star_operator.api.meta import Status
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import post_event
from star_operator.policy.conditions import READY, find

QUIET = {ConditionReason.STARTING, ConditionReason.STEP_DONE, ConditionReason.SERVER_STARTING}


async def write_status(cluster: Cluster, body: KubeObject, status: Status, now: str) -> None:
    """Write the status if it differs from what the resource has; tell people when its reason changed.

    It is of this very resource: one of its name that was made anew meanwhile does not get it.
    """
    new = status.to_json_dict()
    old = body.get("status") or {}
    if new == {key: value for key, value in old.items() if key in new} and not set(old) - set(new):
        return
    meta = body["metadata"]
    await cluster.apply_status(
        {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {key: meta[key] for key in ("name", "namespace", "uid") if key in meta},
            "status": new,
        }
    )
    ready = find(status.conditions, READY)
    before = next((c.get("reason") for c in old.get("conditions", []) if c.get("type") == READY), None)
    if ready is not None and ready.reason != before and ready.reason not in QUIET:
        await post_event(cluster, body, ready.reason, ready.message, now)
