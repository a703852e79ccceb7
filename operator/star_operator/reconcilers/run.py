"""One pass over a run-to-completion resource: look -> decide -> act -> write status once.

Every kind that runs to completion goes through here; `reconcilers/<kind>.py` says what differs (its inputs, its steps
and what its success brings about).
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from star_contracts.artifact import ArtifactRef
from star_contracts.result import JobResult
from star_operator.api.common import RunSpec
from star_operator.api.meta import Phase, Resource, Status
from star_operator.builders.job import step_job
from star_operator.builders.keys import server_keys, step_keys
from star_operator.builders.llmserver import server_objects
from star_operator.builders.lookup import look_up, look_up_name, looked_for
from star_operator.builders.names import user_reference
from star_operator.builders.step import Inputs, Owner, Step
from star_operator.core.errors import InvalidSpec, Refused, Waiting
from star_operator.core.objects import KubeObject
from star_operator.core.progress import Place
from star_operator.core.queue import Key
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.core.settings import Settings
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.core.views import JobView, RunView, ServerView
from star_operator.kube import servers
from star_operator.kube.cluster import Cluster
from star_operator.kube.keys import ensure_secret
from star_operator.kube.namesakes import require_no_strangers
from star_operator.kube.namespaces import let_go, require_living
from star_operator.kube.observe import observe_jobs, observe_run
from star_operator.kube.resources import JOB, STAR_TYPES
from star_operator.kube.secrets import require_store_secret
from star_operator.policy import run as policy
from star_operator.policy import status as state
from star_operator.policy.trouble import explain_run, explain_server, secret_uses
from star_operator.reconcilers.attempts import forget_attempt
from star_operator.reconcilers.builds import acquire
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context
from star_operator.reconcilers.models import pinned, with_commits
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.pinning import pinned_inputs, recalled_inputs
from star_operator.reconcilers.write import write_status

ResourceT = TypeVar("ResourceT", bound=Resource[Any, Any])
SIDE_CAR_GRACE_SECONDS = 30
"""Time for a container that somebody added to end, once `main` has."""


async def _nothing(cluster: Cluster, resource: Any, status: Any) -> Status:
    """Bring nothing about: the artifact in status is all there is."""
    found: Status = status
    return found


@dataclass(frozen=True)
class RunKind(Generic[ResourceT]):
    """What is particular about a kind that runs to completion."""

    model: type[ResourceT]
    steps: tuple[str, ...]
    plan: Callable[[str, ResourceT, Inputs, dict[str, ArtifactRef], Settings], Step]
    inputs: Callable[[Cluster, ResourceT], Awaitable[Inputs]]
    headline: Callable[[dict[str, float]], str]
    succeeded: Callable[[Cluster, ResourceT, Any], Awaitable[Status]] = _nothing
    """Idempotent; runs before the success is written, so that a crash in between repeats it. Returns the status with
    what it has brought about."""


@dataclass(frozen=True)
class Pass(Generic[ResourceT]):
    """What one pass looks at."""

    resource: ResourceT
    body: KubeObject
    """The resource as it was read, or written last."""
    owner: Owner
    at: state.Moment
    step: str
    plan: Step | None
    view: RunView
    inputs: Inputs
    """What it works on; nothing while that is not there."""


class RunReconciler(Generic[ResourceT]):
    """Reconciles all resources of one run-to-completion kind."""

    def __init__(self, kind: RunKind[ResourceT], context: Context) -> None:
        self._kind = kind
        self._context = context

    async def reconcile(self, key: Key) -> None:
        """Look at one resource and bring it one decision further."""
        body = await self._context.cluster.get(STAR_TYPES[key.kind], key.namespace, key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        at = state.Moment(timestamp(self._context.now()), body["metadata"].get("generation", 0))
        resource = await parse_or_tell(self._context.cluster, self._kind.model, body, at)
        if resource is None:
            return
        if state.is_finished(resource.status):
            await write_status(self._context.cluster, body, state.seen_again(resource.status, at), at.now)
            await self._after(resource)
            return
        try:
            status = await self._advance(resource, body, at)
        except Refused as refused:
            pinned_by_now = self._kind.model.parse_status(body)
            status = state.told(pinned_by_now, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._context.cluster, body, status, at.now)
            raise
        await write_status(self._context.cluster, body, status, at.now)
        if state.is_finished(status):
            await self._release(resource, at)
            meta = resource.metadata
            self._context.progress.forget(Place(resource.kind, meta.namespace, meta.name, meta.uid))
            self._context.wake_waiting(key.namespace)

    async def _advance(self, resource: ResourceT, body: KubeObject, at: state.Moment) -> Status:
        remembered: Status = resource.status
        status = state.started(remembered, at)
        name = state.current_step(status, self._kind.steps)
        if name is None:
            return await self._complete(resource, status, at)
        meta = resource.metadata
        owner = Owner(resource.kind, meta.namespace, meta.name, meta.uid)
        view = await observe_run(self._context.cluster, owner.kind, owner.namespace, owner.name, owner.uid)
        await self._end(meta.namespace, [job for job in view.jobs if state.is_done(status, job.step)])
        inputs = recalled_inputs(status)
        try:
            if inputs is None:
                inputs = await self._kind.inputs(self._context.cluster, resource)
            begun = bool(view.jobs or status.steps) and not status.models
            commits = await pinned(inputs, status.models, resource.spec, self._context.settings, begun=begun)
            if commits != status.models:  # written down before anything is made of it: a later look may find another
                status = status.model_copy(update={"models": commits})
                return state.told(status, at, Phase.RUNNING, ConditionReason.STARTING, f"step {name} is starting")
            plan: Step | None = self._plan(resource, status, name, with_commits(inputs, commits))
            assert plan is not None
            if _may_look(status, view, name) and (look := look_up(plan, resource.spec, self._context.settings)):
                name, plan = look.name, look
        except Waiting as waiting:
            key = Key(owner.kind, owner.namespace, owner.name)
            self._context.waiting[meta.namespace].add(key)
            if waiting.reason is ConditionReason.HUB_UNREACHABLE:
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
            if _may_look(status, view, name) and view.job(status.attempt, look_up_name(name)) is not None:
                name = look_up_name(name)
            if view.job(status.attempt, name) is None:
                return state.told(status, at, Phase.WAITING, waiting.reason, waiting.message)
            plan, inputs = None, inputs or Inputs()
        except InvalidSpec as error:
            return _failed(status, at, error.reason, error.message)
        try:
            await let_go(self._context.cluster, meta.namespace, view)
            seen = Pass(resource, body, owner, at, name, plan, view, inputs)
            decision = policy.decide(resource.spec, await self._view_step(seen, status))
            return await self._act(decision, seen, status)
        except Waiting as waiting:
            self._context.queue.add_after(Key(owner.kind, owner.namespace, owner.name), UNWATCHED_SECONDS)
            return state.told(status, at, Phase.WAITING, waiting.reason, waiting.message)
        except InvalidSpec as error:
            return _failed(status, at, error.reason, error.message)

    def _plan(self, resource: ResourceT, status: Status, name: str, inputs: Inputs) -> Step:
        done = {
            step.name: ArtifactRef(uri=step.artifact.uri, digest=step.artifact.digest)
            for step in status.steps
            if step.artifact is not None
        }
        return self._kind.plan(name, resource, inputs, done, self._context.settings)

    async def _view_step(self, seen: Pass[ResourceT], status: Status) -> policy.StepView:
        namespace, uses = seen.owner.namespace, secret_uses(seen.resource.spec, self._context.settings)
        step = policy.StepView(
            name=seen.step,
            attempt=status.attempt,
            has_artifact=seen.plan is None or seen.plan.has_artifact,
            looks=looked_for(seen.step) is not None,
            remembered=state.find_step(status, seen.step),
            compute=seen.plan.compute if seen.plan is not None else None,
            view=explain_run(seen.view, namespace, uses),
        )
        views = [explain_server(server, namespace, uses) for server in await self._use_servers(seen, step)]
        return replace(step, servers=tuple(views))

    async def _use_servers(self, seen: Pass[ResourceT], step: policy.StepView) -> list[ServerView]:
        """Acquire the step's servers, and look at them, once a pod has asked for them.

        Whoever has one keeps using all: a pod that starts anew, and does not ask yet, must not cost a server that is
        loading; nor must an operator that ended between acquiring one server and the next.
        """
        plans = seen.plan.servers if seen.plan is not None and step.is_running else ()
        cluster, namespace, names = self._context.cluster, seen.owner.namespace, [plan.name for plan in plans]
        if not step.asks_for_servers and not await servers.uses_any(cluster, namespace, names, seen.owner.uid):
            return []
        user, settings, keys = user_reference(seen.owner), self._context.settings, self._context.keys
        return [await acquire(cluster, plan, server_keys(namespace, plan, keys), user, settings) for plan in plans]

    async def _act(self, decision: policy.Decision, seen: Pass[ResourceT], status: Status) -> Status:
        at = seen.at
        run: RunSpec = seen.resource.spec
        match decision:
            case policy.Hold(phase, reason, message):
                if phase in (Phase.SUSPENDED, Phase.QUEUED):
                    await self._release_step(seen)
                self._look_again_while_pods_start(seen, status.attempt)
                place = Place(seen.owner.kind, seen.owner.namespace, seen.owner.name, seen.owner.uid)
                reported = self._context.progress.of(place, status.attempt, seen.step)
                return state.told(state.with_progress(status, seen.step, reported), at, phase, reason, message)
            case policy.Start():
                await self._require(seen, status.attempt, run)
                status = status.model_copy(update={"inputs": status.inputs or pinned_inputs(seen.inputs)})
                text = f"step {seen.step} is starting"
                status = state.told(status, at, Phase.RUNNING, ConditionReason.STARTING, text)
                if status.inputs:  # written down before anything is made of them: a later look may find others
                    await write_status(self._context.cluster, seen.body, status, at.now)
                await self._start(seen, status.attempt, run)
                return status
            case policy.SetSuspended(suspended):
                await self._suspend(seen, status.attempt, suspended)
                text = "spec.suspend is " + str(suspended).lower()
                if suspended:
                    return state.told(status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text)
                return state.told(status, at, Phase.RUNNING, ConditionReason.RUNNING, text)
            case policy.SetDeadline(seconds):
                await self._set_deadline(seen, status.attempt, seconds)
                return status
            case policy.Finish(result):
                # What a look-up has found is the artifact of the step that it was for.
                done = (looked_for(seen.step) if result.artifact is not None else None) or seen.step
                return await self._finish_step(seen, state.step_done(status, done, _warned(result, seen.plan)))
            case policy.Retry(reason, message):
                return self._schedule_retry(seen, status, reason, message)
            case policy.EndPods(pods):
                for pod in pods:
                    await self._context.cluster.delete_pod(
                        seen.owner.namespace, pod.name, uid=pod.uid, grace_seconds=SIDE_CAR_GRACE_SECONDS
                    )
                return status
            case policy.ClearAttempt():
                await self._clear(seen, status.attempt)
                return status
            case policy.NextAttempt():
                return self._next_attempt(seen, status)
            case policy.Fail(reason, message):
                return _failed(status, at, reason, message)

    async def _require(self, seen: Pass[ResourceT], attempt: int, run: RunSpec) -> None:
        """Raise Waiting or InvalidSpec unless the step can be started."""
        assert seen.plan is not None
        owner = seen.owner
        await require_no_strangers(self._context.cluster, owner.kind, owner.namespace, owner.name, seen.view)
        await require_living(self._context.cluster, owner.namespace)
        secret = self._context.settings.store.secret_name
        await require_store_secret(self._context.cluster, seen.owner.namespace, secret)
        for plan in seen.plan.servers:  # one that cannot be built is refused now, and not when a pod asks for it
            server_objects(seen.owner.namespace, plan, [], self._context.settings)
        if seen.plan.looks_for is not None:  # and so is a step that cannot, before anybody looks for what it made
            step_job(seen.owner, seen.plan.looks_for, attempt, self._context.settings, run)

    async def _start(self, seen: Pass[ResourceT], attempt: int, run: RunSpec) -> None:
        assert seen.plan is not None
        told, *others = step_job(seen.owner, seen.plan, attempt, self._context.settings, run)
        keys = step_keys(seen.owner, seen.plan, attempt, self._context.keys)
        if keys is not None:
            await ensure_secret(self._context.cluster, keys)
        await self._context.cluster.apply(told)
        if attempt > 1:  # before the Job: who dies in between starts it again, and comes by here
            group = len(others) > 1
            await forget_attempt(self._context.cluster, seen.owner, attempt - 1, seen.step, group=group)
        for obj in others:
            await self._context.cluster.apply(obj)

    async def _suspend(self, seen: Pass[ResourceT], attempt: int, suspended: bool) -> None:
        job = seen.view.job(attempt, seen.step)
        assert job is not None
        patch = {"spec": {"suspend": suspended}}
        await self._context.cluster.merge(JOB, seen.owner.namespace, job.name, patch, uid=job.uid or None)

    async def _set_deadline(self, seen: Pass[ResourceT], attempt: int, seconds: int | None) -> None:
        """Let the Job run for longer or shorter: unlike its template, this of a Job may change while it runs."""
        job = seen.view.job(attempt, seen.step)
        assert job is not None
        patch = {"spec": {"activeDeadlineSeconds": seconds}}
        await self._context.cluster.merge(JOB, seen.owner.namespace, job.name, patch, uid=job.uid or None)

    def _look_again_while_pods_start(self, seen: Pass[ResourceT], attempt: int) -> None:
        """What keeps a pod from being made or mounted, or a Job in its queue, is told where nobody watches."""
        job, pods = seen.view.job(attempt, seen.step), seen.view.pods_of(attempt, seen.step)
        if job is None or (job.suspended and not job.queue):
            return
        silent = any(pod.phase == "Pending" and pod.trouble is None for pod in pods)
        if silent or (job.trouble is None and len(pods) < job.completions):
            key = Key(seen.owner.kind, seen.owner.namespace, seen.owner.name)
            self._context.queue.add_after(key, UNWATCHED_SECONDS)

    async def _finish_step(self, seen: Pass[ResourceT], status: Status) -> Status:
        await self._release_step(seen)
        if state.current_step(status, self._kind.steps) is None:
            return await self._complete(seen.resource, status, seen.at)
        return state.told(status, seen.at, Phase.RUNNING, ConditionReason.STEP_DONE, f"step {seen.step} is done")

    async def _complete(self, resource: ResourceT, status: Status, at: state.Moment) -> Status:
        done = state.run_done(status, at)
        done = done.model_copy(update={"headline": self._kind.headline(done.metrics)})
        try:
            done = await self._kind.succeeded(self._context.cluster, resource, done)
        except InvalidSpec as error:
            return _failed(status, at, error.reason, error.message)
        reused = all(step.reused for step in done.steps)
        text = "artifact of equal work reused" if reused else "artifact stored"
        record: str = getattr(done, "checkpoint", "")
        if record not in ("", resource.metadata.name):
            text = f"{text}; it is Checkpoint {record}, as Checkpoint {resource.metadata.name} records another model"
        return state.told(done, at, Phase.SUCCEEDED, ConditionReason.SUCCEEDED, text)

    def _schedule_retry(self, seen: Pass[ResourceT], status: Status, reason: AnyReason, message: str) -> Status:
        delay = policy.retry_delay(status.attempt)
        due = timestamp(self._context.now() + timedelta(seconds=delay))
        text = f"attempt {status.attempt} failed: {message}; next attempt at {due}"
        failed = state.step_failed(status, seen.step).model_copy(update={"retry_at": due})
        return state.told(failed, seen.at, Phase.WAITING, reason, text)

    def _next_attempt(self, seen: Pass[ResourceT], status: Status) -> Status:
        key = Key(seen.owner.kind, seen.owner.namespace, seen.owner.name)
        due = parse_timestamp(status.retry_at) if status.retry_at else self._context.now()
        left = (due - self._context.now()).total_seconds()
        if left > 0:
            self._context.queue.add_after(key, left)
            return status
        return state.next_attempt(status, seen.step).model_copy(update={"retry_at": None})

    async def _clear(self, seen: Pass[ResourceT], attempt: int) -> None:
        for job in seen.view.jobs:
            if job.attempt == attempt and not job.deleting:
                await self._delete(seen.owner.namespace, job)

    async def _end(self, namespace: str, jobs: Iterable[JobView]) -> None:
        """Delete Jobs that still run although what they were for is decided, and written down.

        Those that have ended stay, with their pods' logs to look at.
        """
        for job in jobs:
            if not (job.failed or job.complete or job.deleting):
                await self._delete(namespace, job)

    async def _delete(self, namespace: str, job: JobView) -> None:
        await self._context.cluster.delete(JOB, namespace, job.name, uid=job.uid or None, foreground=True)

    async def _release_step(self, seen: Pass[ResourceT]) -> None:
        if seen.plan is None or seen.plan.servers:
            await self._release(seen.resource, seen.at)

    async def _release(self, resource: ResourceT, at: state.Moment) -> None:
        namespace = resource.metadata.namespace
        idle = await servers.release(self._context.cluster, namespace, resource.metadata.uid, at.now)
        for name in idle:
            self._context.queue.add_after(Key("LLMServer", namespace, name), self._context.settings.llm_idle_seconds)

    async def _after(self, resource: ResourceT) -> None:
        """Look after a resource that has ended: free its servers, and remove its Jobs when their time is over."""
        at = state.Moment(timestamp(self._context.now()), resource.metadata.generation)
        await self._release(resource, at)
        meta = resource.metadata
        jobs = await observe_jobs(self._context.cluster, resource.kind, meta.namespace, meta.name, meta.uid)
        await self._end(meta.namespace, jobs)
        ttl, ended = resource.spec.ttl_seconds_after_finished, resource.status.completion_time
        if ttl is None or ended is None:
            return
        left = (parse_timestamp(ended) + timedelta(seconds=ttl) - self._context.now()).total_seconds()
        if left > 0:
            self._context.queue.add_after(Key(resource.kind, meta.namespace, meta.name), left)
            return
        for job in jobs:
            await self._context.cluster.delete(JOB, meta.namespace, job.name, uid=job.uid or None)


def _may_look(status: Status, view: RunView, name: str) -> bool:
    """Say whether a step has not been begun, and nobody has looked yet whether its work is done."""
    begun = state.find_step(status, name) is not None or view.job(status.attempt, name) is not None
    return not begun and not state.is_done(status, look_up_name(name))


def _warned(result: JobResult, plan: Step | None) -> JobResult:
    """Return a step's result with what its plan has to say; one that was reused was made with other means."""
    if plan is None or result.reused:
        return result
    return result.model_copy(update={"warnings": (*result.warnings, *plan.warnings)})


def _failed(status: Status, at: state.Moment, reason: AnyReason, message: str) -> Status:
    ended = status.model_copy(update={"completion_time": at.now, "retry_at": None})
    return state.told(ended, at, Phase.FAILED, reason, message)
