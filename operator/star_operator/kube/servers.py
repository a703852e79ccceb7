"""Shared vLLM servers: who uses one is recorded in its Service's ownerReferences, one field owner a user.

The Service is the server's anchor: everything else of the server is owned by it and goes with it. Acquiring adds the
user's reference by server-side apply, releasing applies an empty list by the same field owner, which removes just that
entry. A server without users is idle: it is marked with the time, kept for a while, and then deleted at the
resourceVersion it was seen with, so that a user who comes in between wins. If all users are deleted, the garbage
collector removes it.
"""

from collections.abc import Sequence

from star_contracts.names import GROUP
from star_contracts.result import ErrorClass, JobError
from star_operator.core.errors import InvalidSpec, Retryable
from star_operator.core.labels import LABEL_COMPONENT, LABEL_GROUP, LABEL_SERVER, LEADER
from star_operator.core.objects import KubeObject
from star_operator.core.views import GroupMember, ServerView
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import OWNER
from star_operator.kube.keys import ensure_secret
from star_operator.kube.observe import pod_view
from star_operator.kube.pods import why_not_started
from star_operator.kube.refused import refused_of_workloads
from star_operator.kube.resources import POD, SECRET, SERVICE
from star_operator.kube.trouble import MAIN, parse_result

IDLE_SINCE = f"{GROUP}/idle-since"


def _field_owner(uid: str) -> str:
    return f"star-user-{uid}"


async def acquire(cluster: Cluster, objects: list[KubeObject], name: str, user: KubeObject) -> None:
    """Apply the objects of server `name`, its anchor first, and record the user (an owner reference).

    Raises Retryable when the server was removed meanwhile, because it had been idle for long enough.
    """
    anchor_object = next(obj for obj in objects if obj["kind"] == "Service" and obj["metadata"]["name"] == name)
    anchor = await cluster.apply(anchor_object)
    if user["uid"] not in _users(anchor):
        await _wake(cluster, anchor)
        try:
            await _set_reference(cluster, anchor, user["uid"], [user])
        except InvalidSpec as error:  # gone: the apply would have created a Service without ports, and was refused
            raise _removed(name) from error
    owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": anchor["metadata"]["uid"]}
    for obj in objects:
        if obj is not anchor_object:
            owned = {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}
            await (ensure_secret(cluster, owned) if obj["kind"] == SECRET.kind else cluster.apply(owned))


async def uses_any(cluster: Cluster, namespace: str, names: Sequence[str], uid: str) -> bool:
    """Say whether the user has acquired any of these servers."""
    anchors = [await cluster.get(SERVICE, namespace, name) for name in names]
    return any(anchor is not None and uid in _users(anchor) for anchor in anchors)


async def _wake(cluster: Cluster, anchor: KubeObject) -> None:
    """Take the idle mark off. That changes the Service, so that its removal at the version seen before fails."""
    meta = anchor["metadata"]
    if IDLE_SINCE not in meta.get("annotations", {}):
        return
    patch = {"metadata": {"annotations": {IDLE_SINCE: None}}}
    if await cluster.merge(SERVICE, meta["namespace"], meta["name"], patch, uid=meta["uid"]) is None:
        raise _removed(meta["name"])


def _removed(name: str) -> Retryable:
    return Retryable("ServerRemoved", f"LLM server {name} was removed as idle just now; it is made anew")


async def release(cluster: Cluster, namespace: str, uid: str, now: str) -> list[str]:
    """Take the user off every server it uses, and return the names of those that nobody uses any more."""
    idle = []
    for anchor in await cluster.list_by(SERVICE, namespace, OWNER, uid):
        if anchor["metadata"].get("labels", {}).get("app.kubernetes.io/name") != "vllm":
            continue  # of the user's own pods, and no server's
        try:
            left = await _set_reference(cluster, anchor, uid, [])
        except InvalidSpec:
            continue  # gone since the listing: an apply would have created it, and was refused
        if not _users(left):
            name = anchor["metadata"]["name"]
            mark = {"metadata": {"annotations": {IDLE_SINCE: now}}}
            await cluster.merge(SERVICE, namespace, name, mark, uid=anchor["metadata"]["uid"])
            idle.append(name)
    return idle


def idle_since(anchor: KubeObject) -> str | None:
    """Return when the server's last user left; None while it has users."""
    if _users(anchor):
        return None
    since: str | None = anchor["metadata"].get("annotations", {}).get(IDLE_SINCE)
    return since


async def view_server(cluster: Cluster, namespace: str, name: str) -> ServerView:
    """Look at a server's pods. It is ready when one of its leaders answers its readiness probe."""
    pods = await cluster.list_objects(POD, namespace, {LABEL_SERVER: name})
    leaders = [pod for pod in pods if pod["metadata"]["labels"].get(LABEL_COMPONENT) == LEADER]
    ready, replicas = sum(pod_view(pod).ready for pod in leaders), len(leaders)
    refused = await refused_of_workloads(cluster, namespace, {LABEL_SERVER: name})
    if ready:
        return ServerView(name, ready=True, ready_replicas=ready, replicas=replicas, trouble=refused)
    live = sorted(pods, key=lambda pod: pod.get("status", {}).get("phase") == "Failed")  # what failed is replaced
    trouble = refused or await why_not_started(cluster, live)
    fatal = next((error for pod in pods if (error := _fatal_error(pod)) is not None), None)
    return ServerView(name, ready=False, replicas=replicas, trouble=trouble, fatal=fatal)


async def group_pods(cluster: Cluster, namespace: str, name: str) -> tuple[GroupMember, ...]:
    """Look at the pods of a multi-node server; none for a server of single pods."""
    pods = await cluster.list_objects(POD, namespace, {LABEL_SERVER: name})
    return tuple(_member(pod) for pod in pods if LABEL_GROUP in pod["metadata"]["labels"])


def _member(pod: KubeObject) -> GroupMember:
    meta, status = pod["metadata"], pod.get("status", {})
    main: KubeObject = next((c for c in status.get("containerStatuses", []) if c["name"] == MAIN), {})
    ready: KubeObject = next(
        (c for c in status.get("conditions", []) if c["type"] == "Ready" and c["status"] == "True"), {}
    )
    return GroupMember(
        name=meta["name"],
        uid=meta["uid"],
        group=meta["labels"][LABEL_GROUP],
        started=(main.get("state", {}).get("running") or {}).get("startedAt"),
        ready_since=ready.get("lastTransitionTime"),
        deleting="deletionTimestamp" in meta,
    )


def _fatal_error(pod: KubeObject) -> JobError | None:
    """Return the terminal error of the container that fetches the weights."""
    for container in pod.get("status", {}).get("initContainerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            result = parse_result((state.get("terminated") or {}).get("message", ""))
            if result and result.error and result.error.error_class is ErrorClass.TERMINAL:
                return result.error
    return None


def _users(anchor: KubeObject) -> set[str]:
    return {reference["uid"] for reference in anchor["metadata"].get("ownerReferences", [])}


async def _set_reference(cluster: Cluster, anchor: KubeObject, uid: str, references: list[KubeObject]) -> KubeObject:
    meta = anchor["metadata"]
    metadata = {"name": meta["name"], "namespace": meta["namespace"], "ownerReferences": references}
    patch = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    return await cluster.apply(patch, manager=_field_owner(uid))
