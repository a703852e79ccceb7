"""Servers and the builds they are of: what of one is applied now, and what stays as it runs (`policy/builds.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from star_operator.builders.builds import WORKLOADS, kept
from star_operator.builders.llmserver import server_objects
from star_operator.builders.step import ServerPlan
from star_operator.core.labels import LABEL_SERVER
from star_operator.core.objects import KubeObject
from star_operator.core.settings import Settings
from star_operator.core.views import ServerView
from star_operator.kube.cluster import Cluster
from star_operator.kube.keys import ensure_secret
from star_operator.kube.resources import NETWORK_POLICY as POLICY
from star_operator.kube.servers import join
from star_operator.kube.serverview import Workload, missing, view_server, view_workloads
from star_operator.policy.builds import Change, Unit, moving


@dataclass(frozen=True)
class Server:
    """A server that runs, or is to run."""

    objects: Sequence[KubeObject]
    """As it would be made today, in the order to apply them."""
    workloads: Sequence[Workload]

    @property
    def units(self) -> list[Unit]:
        """Return what of it moves as one."""
        names = dict.fromkeys(workload.unit for workload in self.workloads)
        return [_unit(name, [one for one in self.workloads if one.unit == name]) for name in names]

    @property
    def is_behind(self) -> bool:
        """Say whether an upgrade would make something else of it."""
        return any(unit.change is Change.BUILD for unit in self.units)

    @property
    def is_whole(self) -> bool:
        """Say whether all of its pods are ready, and of their last template."""
        return all(unit.whole for unit in self.units)

    @property
    def name(self) -> str:
        """Return its name."""
        found: str = self.objects[0]["metadata"]["labels"][LABEL_SERVER]
        return found

    async def to_apply(self, cluster: Cluster, *, turn: bool, stuck: bool) -> list[KubeObject]:
        """Return what to apply: as it would be made today what moves, or is so already; the rest as it runs.

        `turn` and `stuck` are those of `policy.builds.moving`. Files and Services go with the first workload. What runs
        as an earlier version made it has the policy of then, or none: its users do not say that they use it.
        """
        moved = moving(self.units, turn=turn, stuck=stuck)
        stays = {one.unit for one in self.workloads if _change([one]) is not Change.NOTHING} - moved
        others = [obj for obj in self.objects if obj["kind"] not in WORKLOADS]
        if stays >= {one.unit for one in self.workloads}:
            others = await missing(cluster, [obj for obj in others if obj["kind"] != POLICY.kind])
        made = [
            kept(one.live, one.wanted) if one.unit in stays and one.live is not None else one.wanted
            for one in self.workloads
        ]
        return [*others, *made]


async def server_of(cluster: Cluster, objects: Sequence[KubeObject], owner: str) -> Server:
    """Look at a server; `owner` is the UID that its objects belong to."""
    return Server(objects, await view_workloads(cluster, objects, owner))


async def acquire(
    cluster: Cluster, plan: ServerPlan, keys: KubeObject, user: KubeObject, settings: Settings
) -> ServerView:
    """Have a user use a shared server, which is started where it does not run, and look at it.

    `keys` is the Secret with its key (`builders.keys.server_keys`). The server keeps its build while it is used, unless
    it does not come up. Raises Retryable when it is removed meanwhile.
    """
    namespace: str = keys["metadata"]["namespace"]
    objects = server_objects(namespace, plan, [], settings)
    anchor_today = next(obj for obj in objects if obj["kind"] == "Service" and obj["metadata"]["name"] == plan.name)
    anchor, was_idle = await join(cluster, anchor_today, user)
    owner = {"apiVersion": "v1", "kind": "Service", "name": plan.name, "uid": anchor["metadata"]["uid"]}
    await ensure_secret(cluster, _owned(keys, owner))
    owned = [obj if obj is anchor_today else _owned(obj, owner) for obj in objects]
    server, view = await server_of(cluster, owned, owner["uid"]), await view_server(cluster, namespace, plan.name)
    for obj in await server.to_apply(cluster, turn=was_idle, stuck=view.trouble is not None):
        await cluster.apply(obj)
    return view


def _owned(obj: KubeObject, owner: KubeObject) -> KubeObject:
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


def _unit(name: str, workloads: Sequence[Workload]) -> Unit:
    return Unit(
        name=name,
        change=_change(workloads),
        wanted=sum(one.wanted["spec"]["replicas"] for one in workloads),
        answers=any(one.answers for one in workloads),
        whole=all(one.is_whole for one in workloads),
    )


def _change(workloads: Sequence[Workload]) -> Change:
    there = [one for one in workloads if one.live is not None]
    if not all(one.is_asked_for for one in there):
        return Change.ASKED
    return Change.NOTHING if all(one.is_new for one in there) else Change.BUILD
