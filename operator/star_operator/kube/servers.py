"""Shared vLLM servers: who uses one is recorded in its ownerReferences, one server-side-apply field owner a user.

Acquiring adds the user's reference, releasing applies an empty list by the same field owner, which removes just that
entry. A server without users is idle: it is marked with the time, kept for a while, and then deleted at the
resourceVersion it was seen with, so that a user who comes in between wins. If all users are deleted, the garbage
collector removes it.
"""

from star_contracts.names import GROUP
from star_contracts.result import ErrorClass
from star_operator.core.errors import InvalidSpec
from star_operator.core.objects import KubeObject, identity
from star_operator.core.views import ServerView
from star_operator.kube.cluster import Cluster
from star_operator.kube.observe import parse_result, pod_trouble
from star_operator.kube.resources import BY_GVK, DEPLOYMENT, POD, STATEFUL_SET, ResourceType

LABEL_SERVER = f"{GROUP}/server"
IDLE_SINCE = f"{GROUP}/idle-since"
WORKLOADS = (DEPLOYMENT, STATEFUL_SET)


def _user_manager(uid: str) -> str:
    return f"star-user-{uid}"


async def acquire(cluster: Cluster, objects: list[KubeObject], user: KubeObject) -> None:
    """Apply a server's objects (its workload first, the rest owned by it) and record the user."""
    workload = await cluster.apply(objects[0])
    owner = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
        "uid": workload["metadata"]["uid"],
    }
    for obj in objects[1:]:
        await cluster.apply({**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}})
    if user["uid"] not in _users(workload):
        await _set_reference(cluster, workload, user["uid"], [user])


async def release(cluster: Cluster, namespace: str, uid: str, now: str) -> list[str]:
    """Take the user off every server it uses, and return the names of those that nobody uses any more."""
    idle = []
    for rtype in WORKLOADS:
        for workload in await cluster.list_objects(rtype, namespace, {"app.kubernetes.io/name": "vllm"}):
            if uid not in _users(workload):
                continue
            try:
                left = await _set_reference(cluster, workload, uid, [])
            except InvalidSpec:
                continue  # gone since the listing: an apply would have created it, and was refused
            if not _users(left):
                name = workload["metadata"]["name"]
                mark = {"metadata": {"annotations": {IDLE_SINCE: now}}}
                await cluster.merge(rtype, namespace, name, mark)
                idle.append(name)
    return idle


async def find_workload(cluster: Cluster, namespace: str, name: str) -> tuple[ResourceType, KubeObject] | None:
    """Return a server's Deployment or StatefulSet."""
    for rtype in WORKLOADS:
        workload = await cluster.get(rtype, namespace, name)
        if workload is not None:
            return rtype, workload
    return None


def idle_since(workload: KubeObject) -> str | None:
    """Return when the server's last user left; None while it has users."""
    if _users(workload):
        return None
    since: str | None = workload["metadata"].get("annotations", {}).get(IDLE_SINCE)
    return since


async def view_server(cluster: Cluster, namespace: str, name: str) -> ServerView:
    """Look at a server and its pods."""
    found = await find_workload(cluster, namespace, name)
    if found is None:
        return ServerView(name, ready=False, trouble="not created yet")
    ready = found[1].get("status", {}).get("readyReplicas", 0) > 0
    pods = [] if ready else await cluster.list_objects(POD, namespace, {LABEL_SERVER: name})
    trouble, fatal = "", None
    for pod in pods:
        status = pod.get("status", {})
        trouble = trouble or pod_trouble(status)
        for container in status.get("initContainerStatuses", []):
            for state in (container.get("state", {}), container.get("lastState", {})):
                result = parse_result((state.get("terminated") or {}).get("message", ""))
                if result and result.error and result.error.error_class is ErrorClass.TERMINAL:
                    fatal = result.error
    return ServerView(name, ready=ready, trouble=trouble, fatal=fatal)


def _users(workload: KubeObject) -> set[str]:
    return {reference["uid"] for reference in workload["metadata"].get("ownerReferences", [])}


async def _set_reference(cluster: Cluster, workload: KubeObject, uid: str, references: list[KubeObject]) -> KubeObject:
    api_version, kind, namespace, name = identity(workload)
    assert (api_version, kind) in BY_GVK
    metadata = {"name": name, "namespace": namespace, "ownerReferences": references}
    patch = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return await cluster.apply(patch, manager=_user_manager(uid))
