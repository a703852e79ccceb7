"""One pass over a namespace: decide what is let go -> have it marked in the store -> delete it from the cluster.

A sweep Job marks first. Once it has ended well, the resources whose artifacts it marked are deleted, each at the
version at which it was decided about: one that was pinned meanwhile stays. What is marked is deleted by a later sweep,
which is told what is kept by then. All that is remembered between passes lies in the store's marks and in the sweep's
ConfigMap.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from star_contracts.names import LABEL_KIND
from star_contracts.result import JobResult
from star_contracts.retention import SweepSpec
from star_operator.api.kinds import BY_KIND
from star_operator.builders.retention import NAME, SWEEP_FILE, sweep_objects
from star_operator.core.errors import Retryable, Waiting
from star_operator.core.labels import OURS, RETENTION, SWEEP, SWEPT_ANNOTATION
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.core.views import RunView
from star_operator.kube.cluster import Cluster
from star_operator.kube.events import post_event
from star_operator.kube.namespaces import require_living
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import CONFIG_MAP, JOB, STAR_TYPES
from star_operator.kube.secrets import require_store_secret
from star_operator.policy.errand import Ended, GoingOn, look
from star_operator.policy.holdings import PIPELINE, URI, Thing, Told, is_namespaced, thing, told
from star_operator.policy.retention import Decision, decide, finished_jobs
from star_operator.policy.sweeping import Going, Order, going, in_use, sweep_spec
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.errand import end_side_cars

log = structlog.get_logger(__name__)
RETRY_SECONDS = 600.0
"""How soon a sweep that failed is tried again, and one that cannot be started."""


def key_of(namespace: str) -> Key:
    """Return the key under which a namespace's retention is looked at."""
    return Key("Retention", namespace, SWEEP)


@dataclass(frozen=True)
class Look:
    """A namespace, as seen."""

    bodies: Sequence[KubeObject]
    things: Sequence[Thing]
    told: Sequence[Told]


async def look_at(cluster: Cluster, namespace: str) -> Look:
    """Look at what pods are told, after that at pipelines, and after that at what they made: no list is of one moment.

    In this order a run whose pod found an artifact before its ConfigMap was listed has it in its status, or goes on;
    and a stage of a pipeline that has ended is seen as it was by then, or later.
    """
    maps = await cluster.list_objects(CONFIG_MAP, namespace, OURS)
    bodies = await _bodies(cluster, namespace)
    others = [one for one in maps if one["metadata"].get("labels", {}).get(LABEL_KIND) != RETENTION]
    return Look(bodies, [thing(body) for body in bodies], [told(one) for one in others])


async def _bodies(cluster: Cluster, namespace: str) -> list[KubeObject]:
    bodies: list[KubeObject] = []
    for kind in reversed(BY_KIND):
        bodies += await cluster.list_objects(STAR_TYPES[kind], namespace if is_namespaced(kind) else None)
    return bodies


class RetentionReconciler:
    """Looks after what is kept, a namespace at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def reconcile(self, key: Key) -> None:
        """Look at one namespace and bring it one step further."""
        namespace, settings, now = key.namespace, self._context.settings, self._context.now()
        if not settings.retention.enabled:
            return
        view = await observe_run(self._cluster, RETENTION, namespace, SWEEP)
        await end_side_cars(self._cluster, namespace, view, NAME, SWEEP)
        if isinstance(look(view, NAME, SWEEP), GoingOn):
            return
        last = await self._cluster.get(CONFIG_MAP, namespace, NAME)
        due = view.jobs or _is_due(_state_of(last).get("due"), now)
        remembers = self._cluster.live is not self._cluster  # else a glimpse costs as much as a look
        if remembers and not due and await self._has_nothing_to_mark(namespace):
            self._look_again(namespace, last, now)
            return
        seen = await look_at(self._cluster.live, namespace)
        decision = decide(seen.things, in_use(seen.things, seen.told), settings.retention)
        leaving = going(decision, seen.things, seen.told, f"{settings.store.uri}/{namespace}")
        if view.jobs:
            await self._end(namespace, view, leaving, _spec_of(last), seen)
            return
        await self._remove_jobs(namespace, seen, decision)
        for one in leaving:
            if not one.prefixes:
                await self._delete(namespace, one)
        await self._begin(namespace, seen, decision, [one for one in leaving if one.prefixes], last)
        self._look_again(namespace, last, now)

    async def _has_nothing_to_mark(self, namespace: str) -> bool:
        """Say whether nothing would be let go, were no pod told of anything; then old Jobs are all there is to remove.

        That is seen without asking the API server for what there is at this very moment.
        """
        bodies = await _bodies(self._cluster, namespace)
        seen = Look(bodies, [thing(body) for body in bodies], ())
        decision = decide(seen.things, in_use(seen.things, ()), self._context.settings.retention)
        if going(decision, seen.things, (), f"{self._context.settings.store.uri}/{namespace}"):
            return False
        await self._remove_jobs(namespace, seen, decision)
        return True

    async def _begin(
        self, namespace: str, seen: Look, decision: Decision, leaving: Sequence[Going], last: KubeObject | None
    ) -> None:
        """Start a sweep where there is anything to mark, or a mark is due."""
        now, settings, state = self._context.now(), self._context.settings, _state_of(last)
        if not leaving and not _is_due(state.get("due"), now):
            return
        if state.get("failed") and not _is_due(state["due"], now):
            return
        try:
            await require_living(self._cluster, namespace)
            await require_store_secret(self._cluster, namespace, settings.store.secret_name)
        except Waiting as waiting:
            log.info("no sweep", namespace=namespace, reason=waiting.reason, message=waiting.message)
            self._context.queue.add_after(key_of(namespace), RETRY_SECONDS)
            return
        root = f"{settings.store.uri}/{namespace}"
        order = Order(settings.store.connection, root, seen.things, seen.told, await self._foreign(namespace, root))
        spec = sweep_spec(order, decision, leaving, _spec_of(last), now)
        for obj in sweep_objects(namespace, spec, settings):
            await self._cluster.apply(obj)

    async def _foreign(self, namespace: str, root: str) -> frozenset[str]:
        """Return the prefixes of this namespace that resources of others name."""
        found: set[str] = set()
        for kind in BY_KIND:
            for body in await self._cluster.list_objects(STAR_TYPES[kind], None):
                if body["metadata"].get("namespace") != namespace:
                    found |= set(URI.findall(json.dumps([body.get("spec"), body.get("status")])))
        return frozenset(uri for uri in found if uri.startswith(f"{root}/"))

    async def _end(
        self, namespace: str, view: RunView, leaving: Sequence[Going], spec: SweepSpec | None, seen: Look
    ) -> None:
        """Delete what a sweep that ended well has marked, write down when the next one is due, and clear it away."""
        now = self._context.now()
        result = next((pod.result for pod in view.pods if pod.result is not None and pod.result.error is None), None)
        if isinstance(look(view, NAME, SWEEP), Ended):
            for one in leaving:
                if one.is_marked(spec):
                    await self._delete(namespace, one)
            state = _ended(result, now)
        else:
            state = {"failed": _why(view), "due": timestamp(now + timedelta(seconds=RETRY_SECONDS))}
            await self._tell(seen, state["failed"])
        annotation = {SWEPT_ANNOTATION: json.dumps(state, sort_keys=True)}
        await self._cluster.merge(CONFIG_MAP, namespace, NAME, {"metadata": {"annotations": annotation}})
        for job in view.jobs:
            await self._cluster.delete(JOB, namespace, job.name, foreground=True)
        self._context.queue.add_after(key_of(namespace), 1.0)

    async def _delete(self, namespace: str, one: Going) -> None:
        found, rtype = one.let_go.thing, STAR_TYPES[one.let_go.thing.kind]
        try:
            await self._cluster.delete(rtype, namespace, found.name, version=found.version)
        except Retryable as changed:  # it was pinned, or taken up, since it was looked at
            log.info("left alone", namespace=namespace, what=found.title, why=changed.message)
            self._context.queue.add_after(key_of(namespace), 1.0)
        else:
            log.info("let go", namespace=namespace, what=found.title, why=one.let_go.why)

    async def _remove_jobs(self, namespace: str, seen: Look, decision: Decision) -> None:
        """Delete Jobs, with their pods' logs, of what pipelines and gates made and has ended long ago."""
        now, by_uid = self._context.now(), {body["metadata"]["uid"]: body for body in seen.bodies}
        ended = {one.uid for one in seen.things if one.ended and one.uid in decision.made}
        ago: dict[str, float] = {}
        uids: dict[str, str] = {}
        for job in await self._cluster.list_objects(JOB, namespace, OURS):
            owner = next((one["uid"] for one in job["metadata"].get("ownerReferences", ()) if one["uid"] in ended), "")
            at = _ended_at(job)
            if owner and at and by_uid[owner]["spec"].get("ttlSecondsAfterFinished") is None:
                ago[job["metadata"]["name"]] = (now - parse_timestamp(at)).total_seconds()
                uids[job["metadata"]["name"]] = job["metadata"]["uid"]
        for name in finished_jobs(ago, self._context.settings.retention.finished_job_seconds):
            await self._cluster.delete(JOB, namespace, name, uid=uids[name])

    async def _tell(self, seen: Look, message: str) -> None:
        """Tell people of a sweep that failed, at the newest pipeline."""
        log.warning("sweep failed", message=message)
        pipelines = [body for body in seen.bodies if body["kind"] == PIPELINE]
        if pipelines:
            newest = max(pipelines, key=lambda body: body["metadata"].get("creationTimestamp", ""))
            await post_event(self._cluster, newest, "SweepFailed", message, timestamp(self._context.now()))

    def _look_again(self, namespace: str, last: KubeObject | None, now: datetime) -> None:
        due = _state_of(last).get("due")
        if due:
            left = (parse_timestamp(due) - now).total_seconds()
            self._context.queue.add_after(key_of(namespace), max(left, 1.0))


def _spec_of(config_map: KubeObject | None) -> SweepSpec | None:
    try:
        return SweepSpec.model_validate_json(config_map["data"][SWEEP_FILE]) if config_map is not None else None
    except (KeyError, ValidationError):  # somebody emptied it, or it is of another version
        return None


def _state_of(config_map: KubeObject | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(((config_map or {})["metadata"]["annotations"])[SWEPT_ANNOTATION])
    except (KeyError, ValueError, TypeError):
        return {}
    if not isinstance(found, dict):
        return {}
    try:
        due = found.get("due")
        if due is not None:
            parse_timestamp(due)
    except (TypeError, ValueError):  # somebody wrote there
        return {}
    return found


def _is_due(when: str | None, now: datetime) -> bool:
    return bool(when) and parse_timestamp(when or "") <= now


def _ended(result: JobResult | None, now: datetime) -> dict[str, Any]:
    """Return what is remembered of a sweep that ended well. One whose answer is lost is followed by another at once."""
    if result is None:
        return {"due": timestamp(now)}
    seconds = result.metrics.get("nextSeconds")
    due = {} if seconds is None else {"due": timestamp(now + timedelta(seconds=seconds + 1))}
    return {name: int(value) for name, value in result.metrics.items() if name != "nextSeconds"} | due


def _why(view: RunView) -> str:
    errors = [pod.result.error.message for pod in view.pods if pod.result is not None and pod.result.error is not None]
    job = next(iter(view.jobs))
    return f"what is let go could not be deleted from the store: {(errors or [job.message or job.reason])[-1]}"


def _ended_at(job: KubeObject) -> str:
    status = job.get("status", {})
    failed = (one["lastTransitionTime"] for one in status.get("conditions", ()) if one["type"] == "Failed")
    found: str = status.get("completionTime") or next(failed, "")
    return found
