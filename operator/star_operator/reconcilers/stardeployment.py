"""One pass over a StarDeployment: measure the checkpoint, hold it against the gates, verify it, then serve it.

A revision is a checkpoint by digest. The one that serves goes on serving until another one has passed its gates and is
ready: what fails its gates starts no serving pod and takes no traffic.
"""

from dataclasses import dataclass, replace
from typing import Any

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource
from star_operator.api.meta import Phase
from star_operator.api.stardeployment import RevisionStatus, ServedStatus, StarDeployment, StarDeploymentStatus
from star_operator.builders.gateway import config_annotation, gateway_selector, gateway_url, owner_of, service_name
from star_operator.builders.keys import deployment_keys
from star_operator.builders.stardeployment import (
    Revision,
    revision_of,
    server_name,
    server_selector,
    serving_objects,
)
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.labels import LABEL_SERVER, resource_labels
from star_operator.core.objects import KubeObject, is_owned
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import timestamp
from star_operator.core.views import ServerView, Trouble
from star_operator.kube.keys import ensure_secret
from star_operator.kube.pods import annotate_pods, why_not_started
from star_operator.kube.refused import refused_of_deployment
from star_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, STAR_TYPES, STATEFUL_SET
from star_operator.kube.secrets import SECRET_REASONS, require_store_secret
from star_operator.kube.servers import view_server
from star_operator.policy.idle import is_idle, with_idle
from star_operator.policy.online import with_online
from star_operator.policy.rollout import EVERYTHING, shares
from star_operator.policy.served import NOTHING, Serving, counted, longest_gap
from star_operator.policy.status import Moment, told
from star_operator.policy.trouble import explain, secret_uses
from star_operator.reconcilers.candidate import begun_with, candidate
from star_operator.reconcilers.children import apply_child, end_measuring
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.gate import Gate, gate
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.pinning import pinned_inputs
from star_operator.reconcilers.write import write_status

SERVER_TYPES = (DEPLOYMENT, STATEFUL_SET, SERVICE, CONFIG_MAP)


@dataclass(frozen=True)
class Served:
    """What a pass has applied."""

    resource: StarDeployment
    at: Moment
    revisions: list[Revision]
    gate: Gate
    gateways: list[KubeObject]
    """The gateway's pods."""
    gone: str = ""
    """What it goes on without, as a sentence."""


@dataclass(frozen=True)
class Serve:
    """What is to be served."""

    wanted: Revision | None
    """None where nobody knows what the spec names: what serves goes on."""
    inputs: Inputs
    gate: Gate
    gone: str = ""
    """What the spec names and is not there any more."""


@dataclass(frozen=True)
class Seen:
    """What has become of it."""

    status: StarDeploymentStatus
    """With all counts, its condition still that of the last pass."""
    servers: list[ServerView]
    """Of each revision."""
    gateways_ready: int
    gateway_refused: Trouble | None
    """Why the gateway lacks pods."""


@dataclass(frozen=True)
class Awaited:
    """A part that is not ready yet."""

    name: str
    """As the message calls it."""
    reason: ConditionReason
    """Of the condition, as long as the part only takes its time."""
    trouble: Trouble | None
    """What its pods wait for."""
    compute: str = "spec.server.compute"
    """The field whose `resources` its pods have."""


class StarDeploymentReconciler:
    """Reconciles StarDeployments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def reconcile(self, key: Key) -> None:
        """Look at one deployment and bring it closer to its spec."""
        body = await self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        resource = await parse_or_tell(self._cluster, StarDeployment, body, at)
        if resource is None:
            return
        unseen = resource.status.model_copy(update={"served": self._counted(resource.status, NOTHING)})
        try:
            status = await self._advance(resource, body, at)
        except Waiting as waiting:
            self._context.waiting[key.namespace].add(key)
            if waiting.reason in SECRET_REASONS:
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
            status = told(unseen, at, Phase.WAITING, waiting.reason, waiting.message)
        except InvalidSpec as error:
            status = told(unseen, at, Phase.FAILED, error.reason, error.message)
        except Refused as refused:
            status = told(unseen, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, status, at.now)
            raise
        meta, now = resource.metadata, self._context.now()
        sums = self._context.online.sums(meta.namespace, meta.name, meta.uid, now.timestamp())
        status = with_online(status, sums, now)
        await write_status(self._cluster, body, status, at.now)

    def _counted(self, status: StarDeploymentStatus, serving: Serving) -> tuple[ServedStatus, ...]:
        gap = longest_gap(self._context.settings.resync_seconds)
        return counted(status.served, serving, self._context.now(), gap)

    async def _advance(self, resource: StarDeployment, body: KubeObject, at: Moment) -> StarDeploymentStatus:
        namespace, spec = resource.metadata.namespace, resource.spec
        key = Key(resource.kind, namespace, resource.metadata.name)
        try:
            one = await candidate(self._cluster, resource)
            wanted = replace(revision_of(resource, one.model), checkpoint=spec.checkpoint.checkpoint or "")
        except (Waiting, InvalidSpec) as missing:
            inputs = await begun_with(self._cluster, resource)
            if inputs is None:
                raise
            self._context.waiting[namespace].add(key)  # what serves is looked after all the same
            served = await self._serve(resource, body, at, Serve(None, inputs, Gate("Running", missing.message)))
            phase = Phase.FAILED if isinstance(missing, InvalidSpec) else Phase.WAITING
            seen = await self._observe(served)
            return told(seen.status, at, phase, missing.reason, missing.message + _still(served))
        if one.gone:
            self._context.waiting[namespace].add(key)
        found = await gate(self._context, resource, wanted, one.inputs, gone=bool(one.gone))
        await end_measuring(self._cluster, resource, wanted.artifact.digest)
        served = await self._serve(resource, body, at, Serve(wanted, one.inputs, found, one.gone))
        seen = await self._observe(served)
        if found.verdict != "Passed":
            return self._held_back(served, seen, wanted)
        return await self._rollout(served, seen)

    async def _serve(self, resource: StarDeployment, body: KubeObject, at: Moment, what: "Serve") -> "Served":
        """Apply what serves, and remove what does not any more."""
        namespace, spec = resource.metadata.namespace, resource.spec
        revisions = await self._revisions(resource, what.wanted, what.gate)
        if revisions and not resource.status.serving_digest:  # what serves goes on without; what starts would wait
            store = self._context.settings.store
            for secret in dict.fromkeys((store.secret_name, store.serving_secret)):
                await require_store_secret(self._cluster, namespace, secret)
        idle = await self._is_idle(resource, revisions)
        gateways: list[KubeObject] = []
        if revisions:
            objects = serving_objects(resource, revisions, what.inputs, self._context.settings, hold=idle)
            await ensure_secret(self._cluster, deployment_keys(owner_of(resource)))
            for obj in objects:
                await apply_child(self._cluster, body, obj, at.now)
            gateways = await self._clear(resource, objects)
        conditions = with_idle(resource.status.conditions, idle, spec, at.generation, at.now)
        update: dict[str, Any] = {"conditions": conditions}
        if revisions and what.wanted is not None and not what.gone:
            update["inputs"] = pinned_inputs(what.inputs)
        resource = resource.model_copy(update={"status": resource.status.model_copy(update=update)})
        return Served(resource, at, revisions, what.gate, gateways, what.gone)

    async def _revisions(self, resource: StarDeployment, wanted: Revision | None, gate: Gate) -> list[Revision]:
        """Return what is to run: what serves, until what is wanted has passed its gates and taken over."""
        known = {one.name: one for one in resource.status.revisions}
        namespace, now = resource.metadata.namespace, self._context.now()
        if gate.verdict == "Passed" and wanted is not None:
            target = wanted.name
            # Scaled to nothing, a revision takes over without a server: there is none before it either.
            none = resource.spec.server.replicas == 0
            ready = none or (await view_server(self._cluster, namespace, server_name(resource, wanted))).ready
        elif serving := [one.name for one in known.values() if one.weight]:
            target, ready = serving[0], True  # whatever its server does, nothing else has passed
        else:
            return []
        found = shares(resource.spec.rollout, tuple(known.values()), target, ready=ready, now=now)
        if found.until is not None:
            key = Key(resource.kind, namespace, resource.metadata.name)
            self._context.queue.add_after(key, (found.until - now).total_seconds())
        return [
            replace(wanted, weight=weight)
            if wanted is not None and name == wanted.name
            else _recorded(resource, known[name], weight)
            for name, weight in found.weights.items()
        ]

    async def _is_idle(self, resource: StarDeployment, revisions: list[Revision]) -> bool:
        names = [server_name(resource, one) for one in revisions if one.weight]
        views = [await view_server(self._cluster, resource.metadata.namespace, name) for name in names]
        return is_idle(resource.spec, resource.status.conditions, ready=any(view.ready for view in views))

    async def _clear(self, resource: StarDeployment, objects: list[KubeObject]) -> list[KubeObject]:
        """Remove what is not among the objects that have been applied, and return the gateway's pods."""
        keep = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
        namespace, labels = resource.metadata.namespace, resource_labels(resource.kind, resource.metadata.name)
        for rtype in SERVER_TYPES:
            for obj in await self._cluster.list_objects(rtype, namespace, labels):
                name = obj["metadata"]["name"]
                # What is left of a revision that has gone, or of a multi-node server's copies.
                ours = LABEL_SERVER in obj["metadata"]["labels"] and is_owned(obj, resource.metadata.uid)
                if ours and (rtype.kind, name) not in keep:
                    await self._cluster.delete(rtype, namespace, name, uid=obj["metadata"]["uid"])
        annotation = config_annotation(resource, objects)
        return await annotate_pods(self._cluster, namespace, gateway_selector(resource), annotation)

    async def _observe(self, served: Served) -> Seen:
        resource, revisions = served.resource, served.revisions
        namespace = resource.metadata.namespace
        views = [await view_server(self._cluster, namespace, server_name(resource, one)) for one in revisions]
        gateway = await self._cluster.get(DEPLOYMENT, namespace, service_name(resource)) if revisions else None
        front: int = (gateway or {}).get("status", {}).get("readyReplicas", 0)
        pairs = list(zip(revisions, views, strict=True))
        none = resource.spec.server.replicas == 0
        live = next((one for one, view in pairs if one.weight > 0 and (view.ready or none)), None)
        newest = revisions[-1] if served.gate.verdict == "Passed" else None
        weights = {
            one.artifact.digest: one.weight for one, view in pairs if view.ready and view.trouble is None and front
        }
        serving = Serving(weights, resource.status.metrics) if not resource.spec.suspend else NOTHING
        update = {
            "served": _named(self._counted(resource.status, serving), revisions),
            "revisions": tuple(
                _describe(one, served.gate if one is newest else None, view.ready_replicas, _since(served, one))
                for one, view in pairs
            ),
            "serving_digest": live.artifact.digest if live is not None and front else "",
            "replicas": sum(view.replicas for view in views),
            "ready_replicas": sum(view.ready_replicas for one, view in pairs if one.weight > 0),
            "selector": ",".join(f"{name}={value}" for name, value in server_selector(resource).items()),
            "url": gateway_url(resource, self._context.settings) if revisions else "",
            "headline": served.gate.headline,
        }
        return Seen(resource.status.model_copy(update=update), views, front, refused_of_deployment(gateway))

    def _held_back(self, served: Served, seen: Seen, wanted: Revision) -> StarDeploymentStatus:
        """Say what keeps the wanted revision from being served."""
        gate, at = served.gate, served.at
        listed = {one.name: one for one in seen.status.revisions}
        candidate = listed.pop(wanted.name, None)
        if candidate is None:
            idle = replace(wanted, weight=0)
            candidate = _describe(idle, gate, 0, _since(served, idle))
        else:  # it serves already, or did a moment ago, and the gates have changed since
            candidate = candidate.model_copy(update={"gate": gate.verdict, "evaluation": gate.evaluation})
        status = seen.status.model_copy(update={"revisions": (candidate, *listed.values())})
        still = _still(served)
        if gate.verdict == "Running":
            running = gate.reason or ConditionReason.GATE_RUNNING
            return told(status, at, Phase.RUNNING, running, gate.message + still)
        why = gate.reason or ConditionReason.GATE_FAILED
        return told(status, at, Phase.GATED, why, f"revision {wanted.name}: {gate.message}{still}")

    async def _rollout(self, served: Served, seen: Seen) -> StarDeploymentStatus:
        """Say how far the wanted revision is."""
        status, at, gate = seen.status, served.at, served.gate
        if served.resource.spec.suspend:
            return told(
                status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, "spec.suspend is true: nothing is served"
            )
        newest = served.revisions[-1]
        none = served.resource.spec.server.replicas == 0
        needed = (view for one, view in zip(served.revisions, seen.servers, strict=True) if one.weight or one is newest)
        waiting = None if none else next((view for view in needed if not view.ready), None)
        if waiting is not None:
            return self._starting(
                status, served, Awaited(f"server {waiting.name}", ConditionReason.SERVER_STARTING, waiting.trouble)
            )
        if not seen.gateways_ready:
            trouble = seen.gateway_refused or await why_not_started(self._cluster, served.gateways)
            return self._starting(
                status, served, Awaited("the gateway", ConditionReason.GATEWAY_STARTING, trouble, "spec.gateway")
            )
        if newest.weight < EVERYTHING:
            others = f"revision {_serving(served.revisions).name} the others"
            text = f"revision {newest.name} answers {newest.weight}% of the users, {others} (gates: {gate.message})"
            return told(status, at, Phase.RUNNING, ConditionReason.ROLLING_OUT, text)
        if none:
            seconds = served.resource.spec.gateway.deadline_seconds
            text = f"server.replicas is 0: requests to {status.url} wait for a server, for up to {seconds} s"
            return told(status, at, Phase.READY, ConditionReason.SCALED_TO_ZERO, text)
        lacks = next((why for why in (*(view.trouble for view in seen.servers), seen.gateway_refused) if why), None)
        but = f"; not all of it: {lacks.message}" if lacks else ""
        without = f"; it goes on as it began: {served.gone}" if served.gone else ""
        text = f"revision {newest.name} serves at {status.url} ({gate.message}){but}{without}"
        return told(status, at, Phase.READY, ConditionReason.SERVING, text)

    def _starting(self, status: StarDeploymentStatus, served: Served, part: Awaited) -> StarDeploymentStatus:
        """Say what is starting, or what it waits for."""
        meta = served.resource.metadata
        uses = secret_uses(served.resource.spec, self._context.settings)
        why = explain(part.trouble, meta.namespace, uses, part.compute)
        if why is None:
            self._context.queue.add_after(Key(served.resource.kind, meta.namespace, meta.name), UNWATCHED_SECONDS)
        still = _still(served) if status.serving_digest else ""
        if why is not None and why.waits:
            text = f"{part.name} waits: {why.message} (gates: {served.gate.message}){still}"
            return told(status, served.at, Phase.WAITING, why.reason, text)
        text = f"{part.name}: {why.message if why else 'starting'} (gates: {served.gate.message}){still}"
        return told(status, served.at, Phase.RUNNING, part.reason, text)


def _recorded(resource: StarDeployment, revision: RevisionStatus, weight: int) -> Revision:
    """Return a revision that the last status tells of."""
    artifact = ArtifactRef(uri=revision.uri, digest=revision.digest)
    found = revision_of(resource, ModelSource(artifact=artifact), weight)
    return replace(found, checkpoint=revision.checkpoint)


def _named(rows: tuple[ServedStatus, ...], revisions: list[Revision]) -> tuple[ServedStatus, ...]:
    """Return the history with what its rows serve: a roll-back needs no record of it."""
    known = {one.artifact.digest: one for one in revisions}
    return tuple(
        row.model_copy(update={"uri": one.artifact.uri, "checkpoint": one.checkpoint})
        if (one := known.get(row.digest)) is not None
        else row
        for row in rows
    )


def _serving(revisions: list[Revision]) -> Revision:
    """Return the revision that has had traffic for longest; there is one wherever anything is served."""
    return next(one for one in revisions if one.weight)


def _still(served: Served) -> str:
    return (
        f"; revision {_serving(served.revisions).name} goes on serving" if served.revisions else "; nothing is served"
    )


def _since(served: Served, revision: Revision) -> str:
    """Return since when a revision has its weight."""
    before = (one for one in served.resource.status.revisions if one.name == revision.name)
    return next((one.since for one in before if one.weight == revision.weight and one.since), served.at.now)


def _describe(revision: Revision, gate: Gate | None, ready: int, since: str) -> RevisionStatus:
    return RevisionStatus(
        name=revision.name,
        uri=revision.artifact.uri,
        checkpoint=revision.checkpoint,
        digest=revision.artifact.digest,
        gate=gate.verdict if gate is not None else "Passed",
        evaluation=gate.evaluation if gate is not None else "",
        ready_replicas=ready,
        weight=revision.weight,
        since=since,
    )
