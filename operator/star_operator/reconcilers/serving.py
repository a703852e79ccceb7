"""What a StarDeployment serves is applied, and what it does not serve any more is deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.gateway import config_annotation, gateway_selector, owner_of, service_name
from star_operator.builders.keys import deployment_keys
from star_operator.builders.llmserver import moves_without_a_gap
from star_operator.builders.stardeployment import Revision, server_name, serving_objects
from star_operator.builders.step import Inputs
from star_operator.core.labels import LABEL_SERVER, UPDATE_ANNOTATION, resource_labels
from star_operator.core.objects import KubeObject, is_owned
from star_operator.core.views import ServerView, Trouble
from star_operator.kube.cluster import Cluster
from star_operator.kube.keys import ensure_secret
from star_operator.kube.pods import annotate_pods, why_not_started
from star_operator.kube.refused import refused_of_deployment
from star_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, STATEFUL_SET
from star_operator.kube.secrets import require_store_secret
from star_operator.policy.builds import NO_TURN, Standing, Turn
from star_operator.policy.gates import Gate
from star_operator.policy.rollout import Shares
from star_operator.policy.serving import Front, complete
from star_operator.policy.status import Moment
from star_operator.reconcilers.builds import Server, server_of
from star_operator.reconcilers.children import apply_child
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.turns import take_turn

SERVER_TYPES = (DEPLOYMENT, STATEFUL_SET, SERVICE, CONFIG_MAP)


@dataclass(frozen=True)
class Wish:
    """What is to be served."""

    wanted: Revision | None
    """None where nobody knows what the spec names: what serves goes on."""
    inputs: Inputs
    gate: Gate
    gone: str = ""
    """What the spec names and is not there any more."""


@dataclass(frozen=True)
class Plan:
    """What runs from this pass on."""

    revisions: tuple[Revision, ...]
    """With their shares, the newest last; none where nothing is served."""
    shares: Shares
    full: int
    """Ready servers that carry all of the traffic."""
    views: Mapping[str, ServerView]
    """Of each revision's servers, as the pass found them."""
    hold: bool = False
    """Whether the gateway has requests wait for a server."""


async def serve(
    context: Context, one: tuple[StarDeployment, KubeObject], at: Moment, wish: Wish, plan: Plan
) -> tuple[Turn, Front]:
    """Apply what a deployment (and its body) serves, and look at its gateway.

    Servers of an earlier build stay as they are until it is their turn. The gateway does not wait: its pods are
    replaced without a gap, and read a configuration that this operator writes.
    """
    resource, body = one
    if not plan.revisions:
        return NO_TURN, Front()
    cluster, namespace = context.cluster, resource.metadata.namespace
    if not resource.status.serving_digest:  # what serves goes on without; what starts would wait
        store = context.settings.store
        for secret in dict.fromkeys((store.secret_name, store.serving_secret)):
            await require_store_secret(cluster, namespace, secret)
    objects = serving_objects(resource, plan.revisions, wish.inputs, context.settings, hold=plan.hold)
    await ensure_secret(cluster, deployment_keys(owner_of(resource)))
    servers = await _servers(cluster, resource, objects)
    turn = await take_turn(context, resource, _standing(resource, plan, servers))
    stuck = {server_name(resource, one): plan.views[one.name].trouble is not None for one in plan.revisions}
    made = {one.name: await one.to_apply(cluster, turn=turn.now, stuck=stuck[one.name]) for one in servers}
    for obj in objects:
        server = obj["metadata"]["labels"].get(LABEL_SERVER)
        for part in [obj] if server is None else made.pop(server, []):
            await apply_child(cluster, body, part, at.now)
    await _clear(cluster, resource, objects)
    annotation = config_annotation(resource, objects)
    pods = await annotate_pods(cluster, namespace, gateway_selector(resource), annotation)
    return turn, await _front(cluster, resource, pods)


async def _servers(cluster: Cluster, resource: StarDeployment, objects: Sequence[KubeObject]) -> list[Server]:
    names = dict.fromkeys(obj["metadata"]["labels"].get(LABEL_SERVER) for obj in objects)
    parts = [[obj for obj in objects if obj["metadata"]["labels"].get(LABEL_SERVER) == name] for name in names if name]
    return [await server_of(cluster, part, resource.metadata.uid) for part in parts]


def _standing(resource: StarDeployment, plan: Plan, servers: Sequence[Server]) -> Standing:
    replicas = resource.spec.server.replicas
    alone = len(plan.revisions) == 1 and not plan.shares.replaces
    return Standing(
        behind=any(server.is_behind for server in servers),
        moves=not all(server.is_whole for server in servers),
        whole=alone and all(complete(plan.views[one.name], replicas) for one in plan.revisions),
        gapless=all(moves_without_a_gap(one.plan, replicas) for one in plan.revisions),
        running=replicas > 0 and not resource.spec.suspend,
        wish=resource.metadata.annotations.get(UPDATE_ANNOTATION, ""),
    )


async def _clear(cluster: Cluster, resource: StarDeployment, objects: Sequence[KubeObject]) -> None:
    """Remove what is left of a revision that has gone, or of a multi-node server's copies."""
    keep = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    namespace, labels = resource.metadata.namespace, resource_labels(resource.kind, resource.metadata.name)
    for rtype in SERVER_TYPES:
        for obj in await cluster.list_objects(rtype, namespace, labels):
            name = obj["metadata"]["name"]
            ours = LABEL_SERVER in obj["metadata"]["labels"] and is_owned(obj, resource.metadata.uid)
            if ours and (rtype.kind, name) not in keep:
                await cluster.delete(rtype, namespace, name, uid=obj["metadata"]["uid"])


async def _front(cluster: Cluster, resource: StarDeployment, pods: list[KubeObject]) -> Front:
    gateway = await cluster.get(DEPLOYMENT, resource.metadata.namespace, service_name(resource)) or {}
    ready: int = gateway.get("status", {}).get("readyReplicas", 0)
    wanted: int = gateway.get("spec", {}).get("replicas", 1)
    trouble: Trouble | None = refused_of_deployment(gateway) if gateway else None
    if trouble is None and ready < wanted:
        trouble = await why_not_started(cluster, pods)
    return Front(ready, wanted, trouble)
