"""A look at vLLM servers: their pods, why they are not ready, and what they would be made as today."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from star_contracts.result import ErrorClass, JobError
from star_operator.core.labels import (
    ASKED_ANNOTATION,
    BUILD_ANNOTATION,
    LABEL_COMPONENT,
    LABEL_GROUP,
    LABEL_SERVER,
    LEADER,
)
from star_operator.core.objects import KubeObject, is_owned
from star_operator.core.views import GroupMember, ServerView
from star_operator.kube.cluster import Cluster
from star_operator.kube.observe import pod_view
from star_operator.kube.pods import why_not_started
from star_operator.kube.refused import refused_of_workloads
from star_operator.kube.resources import BY_GVK, DEPLOYMENT, POD, STATEFUL_SET
from star_operator.kube.trouble import MAIN, parse_result

WORKLOADS = (DEPLOYMENT.kind, STATEFUL_SET.kind)


async def view_server(cluster: Cluster, namespace: str, name: str) -> ServerView:
    """Look at a server's pods. It is ready when one of its leaders answers its readiness probe, and is not leaving."""
    pods = await cluster.list_objects(POD, namespace, {LABEL_SERVER: name})
    leaders = [pod_view(pod) for pod in pods if pod["metadata"]["labels"].get(LABEL_COMPONENT) == LEADER]
    ready = sum(pod.ready and not pod.deleting for pod in leaders)
    live = sorted(pods, key=lambda pod: pod.get("status", {}).get("phase") == "Failed")  # what failed is replaced
    trouble = await refused_of_workloads(cluster, namespace, {LABEL_SERVER: name})
    if trouble is None and (not leaders or ready < len(leaders)):
        trouble = await why_not_started(cluster, live)
    view = ServerView(name, ready=ready > 0, ready_replicas=ready, replicas=len(leaders), trouble=trouble)
    if view.ready:
        return view
    return replace(view, fatal=next((error for pod in pods if (error := _fatal_error(pod)) is not None), None))


async def group_pods(cluster: Cluster, namespace: str, name: str) -> tuple[GroupMember, ...]:
    """Look at the pods of a multi-node server; none for a server of single pods."""
    pods = await cluster.list_objects(POD, namespace, {LABEL_SERVER: name})
    return tuple(_member(pod) for pod in pods if LABEL_GROUP in pod["metadata"]["labels"])


@dataclass(frozen=True)
class Workload:
    """A Deployment or StatefulSet of a server: as it would be made today, and as it is."""

    wanted: KubeObject
    live: KubeObject | None
    """None where there is none, or only one of somebody else's."""

    @property
    def unit(self) -> str:
        """Return what it moves with: its copy of a multi-node server, else it moves alone."""
        labels: dict[str, str] = self.wanted["spec"]["template"]["metadata"]["labels"]
        return labels.get(LABEL_GROUP, "")

    @property
    def is_new(self) -> bool:
        """Say whether it would be the same today, or is not there yet."""
        return self.live is None or _said(self.live, BUILD_ANNOTATION) == _said(self.wanted, BUILD_ANNOTATION)

    @property
    def is_asked_for(self) -> bool:
        """Say whether it is what its resource asks for. One that does not say is taken to be."""
        asked = _said(self.live, ASKED_ANNOTATION) if self.live is not None else None
        return asked in (None, _said(self.wanted, ASKED_ANNOTATION))

    @property
    def answers(self) -> bool:
        """Say whether some of its pods are ready."""
        return self.live is not None and bool(self.live.get("status", {}).get("readyReplicas"))

    @property
    def is_whole(self) -> bool:
        """Say whether all pods that it is to have are ready, and of its last template."""
        if self.live is None:
            return False
        wanted, status = self.live["spec"].get("replicas", 1), self.live.get("status", {})
        seen = status.get("observedGeneration", 0) >= self.live["metadata"].get("generation", 0)
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        return bool(seen and counts == [wanted] * 3)


async def view_workloads(cluster: Cluster, objects: Sequence[KubeObject], owner: str) -> list[Workload]:
    """Look at the workloads among the objects of a server; `owner` is the UID that those of ours belong to."""
    wanted = [obj for obj in objects if obj["kind"] in WORKLOADS]
    meta = wanted[0]["metadata"]
    server = {LABEL_SERVER: meta["labels"][LABEL_SERVER]}
    there = {
        (rtype.kind, live["metadata"]["name"]): live
        for rtype in (DEPLOYMENT, STATEFUL_SET)
        for live in await cluster.list_objects(rtype, meta["namespace"], server)
        if is_owned(live, owner)
    }
    return [Workload(obj, there.get((obj["kind"], obj["metadata"]["name"]))) for obj in wanted]


async def missing(cluster: Cluster, objects: Iterable[KubeObject]) -> list[KubeObject]:
    """Return those of the objects that are not there."""
    found = []
    for obj in objects:
        meta = obj["metadata"]
        rtype = BY_GVK[obj["apiVersion"], obj["kind"]]
        if await cluster.get(rtype, meta["namespace"], meta["name"]) is None:
            found.append(obj)
    return found


def _said(workload: KubeObject, annotation: str) -> str | None:
    found: str | None = (workload["metadata"].get("annotations") or {}).get(annotation)
    return found


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
