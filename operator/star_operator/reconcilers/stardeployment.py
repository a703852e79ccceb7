"""One pass over a StarDeployment: measure the checkpoint, hold it against the gates, verify it, then serve it.

A revision is a checkpoint by digest. The one that serves goes on serving until another one has passed its gates and is
ready: what fails its gates starts no serving pod and takes no traffic.

    look     what is wanted (candidate, gate), and which servers are ready
    decide   who runs with which share (policy/rollout), and what is said of it (policy/serving)
    act      apply what runs, delete what does not any more (reconcilers/serving), write the status once
"""

from dataclasses import replace
from typing import Any

from star_operator.api.meta import Phase
from star_operator.api.stardeployment import ServedStatus, StarDeployment, StarDeploymentStatus
from star_operator.builders.gateway import gateway_url
from star_operator.builders.stardeployment import (
    revision_of,
    server_name,
    server_selector,
)
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.times import timestamp
from star_operator.core.views import Trouble
from star_operator.kube.resources import STAR_TYPES
from star_operator.kube.secrets import SECRET_REASONS
from star_operator.kube.serverview import view_server
from star_operator.policy.builds import with_outdated
from star_operator.policy.gates import Gate, Verdict
from star_operator.policy.idle import is_idle, with_idle
from star_operator.policy.online import with_online
from star_operator.policy.rollout import Servers, Shares, full_count, shares
from star_operator.policy.served import NOTHING, Serving, counted, longest_gap
from star_operator.policy.serving import Front, Scene, Share, Told, complete, held_back, served
from star_operator.policy.status import Moment, told
from star_operator.policy.trouble import explain, secret_uses
from star_operator.reconcilers.candidate import begun_with, candidate
from star_operator.reconcilers.children import end_measuring
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.gate import gate
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.pinning import pinned_inputs
from star_operator.reconcilers.revisions import judged, named, recorded, rows
from star_operator.reconcilers.serving import Plan, Wish, serve
from star_operator.reconcilers.turns import give_back
from star_operator.reconcilers.write import write_status


class StarDeploymentReconciler:
    """Reconciles StarDeployments."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def reconcile(self, key: Key) -> None:
        """Look at one deployment and bring it closer to its spec."""
        body = await self._cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._context.updating.discard(key)
            return
        at = Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        resource = await parse_or_tell(self._cluster, StarDeployment, body, at)
        if resource is None:
            return
        try:
            status = await self._advance(resource, body, at)
        except Waiting as waiting:
            self._context.waiting[key.namespace].add(key)
            if waiting.reason in SECRET_REASONS:
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
            status = told(self._unseen(resource), at, Phase.WAITING, waiting.reason, waiting.message)
        except InvalidSpec as error:
            status = told(self._unseen(resource), at, Phase.FAILED, error.reason, error.message)
        except Refused as refused:
            status = told(self._unseen(resource), at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, status, at.now)
            raise
        meta, now = resource.metadata, self._context.now()
        sums = self._context.online.sums(meta.namespace, meta.name, meta.uid, now.timestamp())
        status = with_online(status, sums, now)
        await write_status(self._cluster, body, status, at.now)

    async def _advance(self, resource: StarDeployment, body: KubeObject, at: Moment) -> StarDeploymentStatus:
        missing: Waiting | InvalidSpec | None = None
        try:
            wish = await self._wish(resource)
        except (Waiting, InvalidSpec) as error:
            inputs = await begun_with(self._cluster, resource)
            if inputs is None:
                raise
            self._wait(resource)  # what serves is looked after all the same
            wish, missing = Wish(None, inputs, Gate(Verdict.RUNNING, error.message)), error
        plan = await self._plan(resource, wish)
        idle = _is_idle(resource, plan)
        turn, front = await serve(self._context, (resource, body), at, wish, replace(plan, hold=idle))
        scene = self._scene(resource, plan, front, wish.gone)
        status = self._seen(resource, at, wish, plan, scene)
        conditions = with_idle(status.conditions, idle, resource.spec, at.generation, at.now)
        conditions = with_outdated(conditions, turn, at.generation, at.now)
        said = self._said(resource, wish, scene, missing)
        if said.silent:
            self._look_again(resource, UNWATCHED_SECONDS)
        text = f"{said.message}; {turn.message}" if turn.now and turn.message else said.message
        return told(status.model_copy(update={"conditions": conditions}), at, said.phase, said.reason, text)

    # Look.

    async def _wish(self, resource: StarDeployment) -> Wish:
        """Return what is wanted, and what its gates say. Raises Waiting and InvalidSpec where nobody knows."""
        one = await candidate(self._cluster, resource)
        wanted = replace(revision_of(resource, one.model), checkpoint=resource.spec.checkpoint.checkpoint or "")
        if one.gone:
            self._wait(resource)
        found = await gate(self._context, resource, wanted, one.inputs, gone=bool(one.gone))
        await end_measuring(self._cluster, resource, wanted.artifact.digest)
        return Wish(wanted, one.inputs, found, one.gone)

    # Decide.

    async def _plan(self, resource: StarDeployment, wish: Wish) -> Plan:
        """Decide what is to run: what serves, until what is wanted has passed its gates and taken over."""
        known = {one.name: recorded(resource, one) for one in resource.status.revisions}
        passed = wish.wanted if wish.gate.passed else None
        serving = next((one.name for one in resource.status.revisions if one.weight), None)
        target = passed.name if passed is not None else serving
        if target is None:
            return Plan((), Shares({}), resource.spec.server.replicas, {})
        runs = {**known, **({wish.wanted.name: wish.wanted} if wish.wanted is not None else {})}
        namespace = resource.metadata.namespace
        views = {name: await view_server(self._cluster, namespace, server_name(resource, runs[name])) for name in runs}
        ready = {name: view.ready_replicas for name, view in views.items()}
        copies = resource.spec.server.replicas
        most = max(resource.status.revisions, key=lambda one: one.weight, default=None)
        full = full_count(resource.status.full_replicas, copies, ready[most.name] if most is not None else 0)
        # Whatever its server does, nothing else has passed.
        servers = Servers(ready if passed is not None else {target: copies}, full, copies)
        now = self._context.now()
        found = shares(resource.spec.rollout, resource.status.revisions, target, servers, now)
        if found.until is not None:
            self._look_again(resource, (found.until - now).total_seconds())
        revisions = tuple(replace(runs[name], weight=weight) for name, weight in found.weights.items())
        return Plan(revisions, found, full, views)

    # Tell.

    def _scene(self, resource: StarDeployment, plan: Plan, front: Front, gone: str) -> Scene:
        return Scene(
            shares=tuple(Share(one.name, one.weight, plan.views[one.name]) for one in plan.revisions),
            replicas=resource.spec.server.replicas,
            front=front,
            replaces=plan.shares.replaces,
            suspended=resource.spec.suspend,
            url=gateway_url(resource, self._context.settings) if plan.revisions else "",
            hold_seconds=resource.spec.gateway.deadline_seconds,
            gone=gone,
        )

    def _said(self, resource: StarDeployment, wish: Wish, scene: Scene, missing: Waiting | InvalidSpec | None) -> Told:
        if missing is not None:
            phase = Phase.FAILED if isinstance(missing, InvalidSpec) else Phase.WAITING
            return Told(phase, missing.reason, missing.message + scene.still)
        assert wish.wanted is not None
        if not wish.gate.passed:
            return held_back(scene, wish.gate, wish.wanted.name)
        uses = secret_uses(resource.spec, self._context.settings)

        def in_our_words(trouble: Trouble | None, compute: str) -> Trouble | None:
            return explain(trouble, resource.metadata.namespace, uses, compute)

        return served(scene, wish.gate, in_our_words)

    def _seen(self, resource: StarDeployment, at: Moment, wish: Wish, plan: Plan, scene: Scene) -> StarDeploymentStatus:
        """Return the status with what was decided and seen, its conditions still those of the last pass."""
        before, spec = resource.status, resource.spec
        live = next((one for one in scene.shares if one.weight and (one.server.ready or not scene.replicas)), None)
        digests = {one.name: one.artifact.digest for one in plan.revisions}
        weights = {
            digests[one.name]: one.weight
            for one in scene.shares
            if scene.answers and complete(one.server, scene.replicas)
        }
        serving = Serving(weights, before.metrics) if not spec.suspend else NOTHING
        running = [(one, plan.views[one.name]) for one in plan.revisions]
        found = rows(resource, running, plan.shares, at.now)
        update: dict[str, Any] = {
            "served": named(self._counted(before, serving), plan.revisions),
            "revisions": found if wish.wanted is None else judged(resource, found, wish.wanted, wish.gate, at.now),
            "serving_digest": digests[live.name] if live is not None and scene.answers else "",
            "full_replicas": plan.full,
            "replicas": sum(one.server.replicas for one in scene.shares),
            "ready_replicas": sum(one.server.ready_replicas for one in scene.shares if one.weight),
            "selector": ",".join(f"{name}={value}" for name, value in server_selector(resource).items()),
            "url": scene.url,
            "headline": wish.gate.headline,
        }
        if plan.revisions and wish.wanted is not None and not wish.gone:
            update["inputs"] = pinned_inputs(wish.inputs)
        return before.model_copy(update=update)

    def _unseen(self, resource: StarDeployment) -> StarDeploymentStatus:
        """Return the status of what could not be looked at."""
        status = give_back(self._context, resource)
        return status.model_copy(update={"served": self._counted(status, NOTHING)})

    def _counted(self, status: StarDeploymentStatus, serving: Serving) -> tuple[ServedStatus, ...]:
        gap = longest_gap(self._context.settings.resync_seconds)
        return counted(status.served, serving, self._context.now(), gap)

    def _look_again(self, resource: StarDeployment, seconds: float) -> None:
        self._context.queue.add_after(_key(resource), seconds)

    def _wait(self, resource: StarDeployment) -> None:
        """Have it looked at when something of its namespace ends."""
        self._context.waiting[resource.metadata.namespace].add(_key(resource))


def _key(resource: StarDeployment) -> Key:
    return Key(resource.kind, resource.metadata.namespace, resource.metadata.name)


def _is_idle(resource: StarDeployment, plan: Plan) -> bool:
    ready = any(plan.views[one.name].ready for one in plan.revisions if one.weight)
    return is_idle(resource.spec, resource.status.conditions, ready=ready)
