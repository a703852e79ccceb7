"""Kubernetes Events for people: deduplicated by resource, reason and message, and never the cause of a failure."""

import hashlib
from collections.abc import Collection

import structlog

from star_operator.api.remedies import WELL
from star_operator.core.errors import Retryable, StarError
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import EVENT

log = structlog.get_logger(__name__)


async def warnings_about(
    cluster: Cluster, namespace: str, uid: str, reasons: Collection[str] | None = None, but: Collection[str] = ()
) -> list[str]:
    """Return the messages of the warnings about an object, of these reasons or all `but` some, the latest one last."""
    fields = {"involvedObject.uid": uid, "type": "Warning"}
    found = [
        event
        for event in await cluster.list_objects(EVENT, namespace, fields=fields)
        if event["reason"] not in but and (reasons is None or event["reason"] in reasons)
    ]
    found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [event.get("message", "") for event in found]


EXISTS = "AlreadyExists"
DEFAULT = "default"
"""Where Events about objects of the cluster are (core/v1 Event, validation)."""


async def post_event(
    cluster: Cluster, about: KubeObject, reason: str, message: str, now: str, *, within: str | None = None
) -> None:
    """Record that something happened to a resource; the same thing again counts the first event up.

    `within` puts an Event about a Namespace into it, where those can read it who may read nothing else.
    """
    meta = about["metadata"]
    warning = reason not in WELL.remedies
    digest = hashlib.sha256(f"{meta['uid']}\0{reason}\0{message}".encode()).hexdigest()[:16]
    inside = meta.get("namespace") or within
    name, namespace = f"{meta['name'][:200]}.{digest}", inside or DEFAULT
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            **({"namespace": inside} if inside else {}),
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
        "reason": reason,
        "message": message[:1024],
        "type": "Warning" if warning else "Normal",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "star-operator"},
    }
    try:
        await _post(cluster, event)
    except StarError as error:
        log.warning("event not posted", resource=meta["name"], reason=error.reason)


async def _post(cluster: Cluster, event: KubeObject) -> None:
    """Create an Event, which is nearly always a new one, or count the one that is there up."""
    meta = event["metadata"]
    try:
        await cluster.create(event)
    except Retryable as error:
        if error.reason != EXISTS:
            raise
        old = await cluster.get(EVENT, meta["namespace"], meta["name"]) or {}
        again = {"count": int(old.get("count", 1)) + 1, "lastTimestamp": event["lastTimestamp"]}
        await cluster.merge(EVENT, meta["namespace"], meta["name"], again)
