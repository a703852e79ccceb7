"""A Promotion's Jobs: the one that commits, and those that look at its pull request or close it."""

import json
from datetime import timedelta

from pydantic import ValidationError

from star_contracts.base import sha256_digest
from star_contracts.promotion import GitFile
from star_contracts.promotion import PromotionSpec as Orders
from star_contracts.result import ErrorClass, JobResult
from star_operator.api.common import RunSpec
from star_operator.api.meta import Phase
from star_operator.api.promotion import Promotion, PromotionStatus
from star_operator.builders.promotion import (
    CLOSE,
    FOLLOW,
    ORDERS_FILE,
    PROMOTE,
    Proofs,
    deadline_seconds,
    orders,
    orders_digest,
    orders_map,
    orders_name,
    promotion_job,
)
from star_operator.core.labels import SUPERSEDED_ANNOTATION
from star_operator.core.objects import is_owned
from star_operator.core.queue import Key
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.core.views import PodView, RunView
from star_operator.kube.namesakes import require_no_strangers
from star_operator.kube.namespaces import let_go, require_living
from star_operator.kube.observe import observe_run
from star_operator.kube.resources import CONFIG_MAP, JOB
from star_operator.kube.secrets import require_store_secret
from star_operator.policy import promotion as policy
from star_operator.policy import run as runs
from star_operator.policy import status as state
from star_operator.policy.conditions import READY, find
from star_operator.policy.status import Moment, told
from star_operator.policy.trouble import SecretUse, explain_run, secret_uses
from star_operator.reconcilers.context import UNWATCHED_SECONDS, Context

CREDENTIALS = (GitFile.USERNAME, GitFile.PASSWORD)
SIDE_CAR_GRACE_SECONDS = 30
DECIDED_SECONDS = 60
"""How long a decision holds until its Job is made; after that it is decided once more."""


class PromotionJobs:
    """Makes them, reads what they answered, and says what follows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster

    async def go_on(self, promotion: Promotion, at: Moment) -> PromotionStatus:
        """Return the status after one more look at the Job. Raises Waiting, InvalidSpec, Refused."""
        meta, status = promotion.metadata, promotion.status
        view = await observe_run(self._cluster, promotion.kind, meta.namespace, meta.name, meta.uid)
        if not view.jobs:
            await require_no_strangers(self._cluster, promotion.kind, meta.namespace, meta.name, view)
        await let_go(self._cluster, meta.namespace, view)
        credentials = SecretUse("spec.git.secretRef", promotion.spec.git.secret_ref.name, CREDENTIALS)
        view = explain_run(view, meta.namespace, (credentials, *secret_uses(promotion.spec, self._context.settings)))
        left = any(one.step == PROMOTE for one in view.jobs) or any(one.step == PROMOTE for one in view.pods)
        if status.pull_request is None and (left or not promotion.spec.cancel):
            return await self._promote(promotion, status, view, at)
        return await self._follow(promotion, status, view, at)

    async def _promote(
        self, promotion: Promotion, status: PromotionStatus, view: RunView, at: Moment
    ) -> PromotionStatus:
        spec, key = promotion.spec, key_of(promotion)
        told_to = await self._orders(promotion, PROMOTE)
        if told_to is None and not any(job.step == PROMOTE for job in view.jobs):
            # somebody deleted what stood there before the Job was made: decide once more
            return status.model_copy(update={"begun": None})
        step = runs.StepView(
            name=PROMOTE,
            attempt=status.attempt,
            has_artifact=True,
            looks=True,
            remembered=state.find_step(status, PROMOTE),
            view=view,
        )
        seconds = deadline_seconds(spec)
        suspend = spec.suspend and not spec.cancel
        match runs.decide(RunSpec(suspend=suspend, retries=spec.retries, active_deadline_seconds=seconds), step):
            case runs.Start():
                if _is_old(status.begun, at.now):  # no Job came of it: decide once more
                    return status.model_copy(update={"begun": None})
                reads = told_to is not None and told_to.store is not None
                await self.require(promotion, reads_store=reads)
                await self._make(promotion, PROMOTE, status.attempt, status.orders, reads_store=reads)
                return told(status, at, Phase.RUNNING, ConditionReason.COMMITTING, "the commit is being made")
            case runs.Hold(Phase.SUSPENDED, reason, message) if step.job is None:
                return told(status.model_copy(update={"begun": None}), at, Phase.SUSPENDED, reason, message)
            case runs.Hold(phase, reason, message):
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
                running = reason is ConditionReason.RUNNING
                text = "the commit is being made" if running else message
                return told(status, at, phase, ConditionReason.COMMITTING if running else reason, text)
            case runs.SetSuspended():  # what holds may change meanwhile: the Job goes, and it is decided once more
                gone = state.step_failed(status, PROMOTE).model_copy(update={"retry_at": None})
                text = "spec.suspend is true: its Job is taken away; set it to false to decide once more"
                return told(gone, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text)
            case runs.Finish(result):
                return self._finished(promotion, status, result, at)
            case runs.Retry(reason, message):
                return self._retry(promotion, status, reason, message, at)
            case runs.EndPods(pods):
                for pod in pods:
                    await self._cluster.delete_pod(
                        key.namespace, pod.name, uid=pod.uid, grace_seconds=SIDE_CAR_GRACE_SECONDS
                    )
                return status
            case runs.ClearAttempt():
                await self._clear(view, status.attempt, key.namespace)
                return status
            case runs.NextAttempt():
                return self._next_attempt(promotion, status, at)
            case runs.Fail(reason, message):
                certain = status.attempt == 1 and any(_is_terminal(pod) for pod in step.pods)
                return failed(status, at, reason, message if certain else f"{message}; {unknown(promotion)}")
            case runs.SetDeadline():  # it never changes
                return status

    def _finished(
        self, promotion: Promotion, status: PromotionStatus, result: JobResult, at: Moment
    ) -> PromotionStatus:
        """Return the status after a Job that ended well."""
        if result.promotion is None:
            text = "the Job ended well and did not say what it did; read its pod's log"
            return failed(status, at, ConditionReason.RESULT_LOST, text)
        status = policy.with_outcome(status, result.promotion)
        branch, closing = promotion.spec.target.branch, promotion.spec.cancel
        step = policy.answered(status, result.promotion, branch=branch, closing=closing)
        if step.follow:
            due = self._context.now() + timedelta(seconds=promotion.spec.poll_seconds)
            self._context.queue.add_after(key_of(promotion), float(promotion.spec.poll_seconds))
            update = {"polls": status.polls + 1, "next_poll": timestamp(due)}
            return told(status.model_copy(update=update), at, step.phase, step.reason, step.message)
        ended = status.model_copy(update={"completion_time": at.now, "next_poll": None})
        return told(ended, at, step.phase, step.reason, step.message)

    def _retry(
        self, promotion: Promotion, status: PromotionStatus, reason: AnyReason, message: str, at: Moment
    ) -> PromotionStatus:
        if promotion.spec.cancel:  # once it is gone, it is looked whether it has committed
            return told(state.step_failed(status, PROMOTE), at, Phase.RUNNING, reason, _CANCELLING)
        delay = runs.retry_delay(status.attempt)
        due = timestamp(self._context.now() + timedelta(seconds=delay))
        self._context.queue.add_after(key_of(promotion), delay)
        failed = state.step_failed(status, PROMOTE).model_copy(update={"retry_at": due})
        text = f"attempt {status.attempt} failed: {message}; next attempt at {due}"
        return told(failed, at, Phase.WAITING, reason, text)

    def _next_attempt(self, promotion: Promotion, status: PromotionStatus, at: Moment) -> PromotionStatus:
        left = (parse_timestamp(status.retry_at or at.now) - self._context.now()).total_seconds()
        if left > 0:
            self._context.queue.add_after(key_of(promotion), left)
            return status
        return state.next_attempt(status, PROMOTE).model_copy(update={"retry_at": None, "begun": None})

    async def _follow(
        self, promotion: Promotion, status: PromotionStatus, view: RunView, at: Moment
    ) -> PromotionStatus:
        """Look at the pull request when it is time to, or close it."""
        spec, key = promotion.spec, key_of(promotion)
        step = CLOSE if spec.cancel else FOLLOW
        for job in view.jobs:  # what has been read, and what is not wanted any more
            if (job.step, job.attempt) != (step, status.polls) and job.step != PROMOTE and not job.deleting:
                await self._cluster.delete(JOB, key.namespace, job.name, foreground=True)
        if spec.suspend and not spec.cancel:
            text = "spec.suspend is true: the pull request is not looked at; set it to false to go on"
            return told(status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text)
        seen = runs.StepView(step, status.polls, has_artifact=True, looks=True, remembered=None, view=view)
        if seen.job is None:
            left = (parse_timestamp(status.next_poll or at.now) - self._context.now()).total_seconds()
            if left > 0 and step == FOLLOW:
                self._context.queue.add_after(key, left)
                return _waits(status, at)
            await require_living(self._cluster, key.namespace)
            wish = orders(promotion, status, step, Proofs(), self._context.settings)
            await self._cluster.apply(orders_map(promotion, wish, step, self._context.settings))
            await self._make(promotion, step, status.polls, orders_digest(wish), reads_store=False)
            return _waits(status, at) if step == FOLLOW else _closing(status, at)
        run = RunSpec(retries=0, active_deadline_seconds=deadline_seconds(spec))
        match runs.decide(run, seen):
            case runs.Finish(result):
                return self._finished(promotion, status, result, at)
            case runs.Fail(reason, message) | runs.Retry(reason, message) if status.pull_request is None:
                text = f"spec.cancel is true; {unknown(promotion)} ({reason}: {message})"
                return failed(status, at, ConditionReason.CANCELLED, text)
            case runs.Fail(reason, message) | runs.Retry(reason, message):
                due = self._context.now() + timedelta(seconds=spec.poll_seconds)
                self._context.queue.add_after(key, float(spec.poll_seconds))
                again = status.model_copy(update={"polls": status.polls + 1, "next_poll": timestamp(due)})
                text = f"the pull request could not be looked at: {message}; tried again at {timestamp(due)}"
                return told(again, at, Phase.WAITING, reason, text)
            case runs.Hold(Phase.WAITING, reason, message):
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
                return told(status, at, Phase.WAITING, reason, message)
            case _:
                self._context.queue.add_after(key, UNWATCHED_SECONDS)
                return _waits(status, at) if step == FOLLOW else _closing(status, at)

    async def _make(self, promotion: Promotion, step: str, number: int, digest: str, *, reads_store: bool) -> None:
        settings = self._context.settings
        job = promotion_job(promotion, step, number, settings, digest=digest, reads_store=reads_store)
        await self._cluster.apply(job)

    async def _orders(self, promotion: Promotion, step: str) -> Orders | None:
        """Return what the Job is told; None where nothing stands there that could be read, or others' orders do."""
        body = await self._cluster.get(CONFIG_MAP, promotion.metadata.namespace, orders_name(promotion, step))
        if body is not None and not is_owned(body, promotion.metadata.uid):
            body = None
        try:
            text = body["data"][ORDERS_FILE] if body is not None else ""
            exchanged = promotion.status.orders not in ("", sha256_digest(text.encode()))
            return None if exchanged else Orders.model_validate(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError, ValidationError):
            return None

    async def _clear(self, view: RunView, attempt: int, namespace: str) -> None:
        for job in view.jobs:
            if job.attempt == attempt and not job.deleting:
                await self._cluster.delete(JOB, namespace, job.name, uid=job.uid or None, foreground=True)

    async def require(self, promotion: Promotion, *, reads_store: bool) -> None:
        """Raise Waiting unless a Job could work here."""
        namespace = promotion.metadata.namespace
        await require_living(self._cluster, namespace)
        if reads_store:
            await require_store_secret(self._cluster, namespace, self._context.settings.store.secret_name)


def key_of(promotion: Promotion) -> Key:
    """Return the key under which a Promotion is looked at."""
    return Key(promotion.kind, promotion.metadata.namespace, promotion.metadata.name)


def failed(status: PromotionStatus, at: Moment, reason: AnyReason, message: str) -> PromotionStatus:
    """Return the status of a Promotion that has ended without moving anything."""
    ended = status.model_copy(update={"completion_time": at.now, "retry_at": None, "next_poll": None})
    return told(ended, at, Phase.FAILED, reason, message)


def cancelled(promotion: Promotion, status: PromotionStatus, at: Moment) -> PromotionStatus:
    """Return the status of a Promotion that was cancelled before anything was committed."""
    later = promotion.metadata.annotations.get(SUPERSEDED_ANNOTATION)
    if later:
        text = f"Promotion {later}, which was made later, has moved this place on"
        return failed(status, at, ConditionReason.SUPERSEDED, text)
    return failed(status, at, ConditionReason.CANCELLED, "spec.cancel is true: nothing was committed")


_CANCELLING = "spec.cancel is true: it is looked whether a Job of this Promotion has committed"


def unknown(promotion: Promotion) -> str:
    """Return that nobody knows whether something was committed, and how to find out."""
    meta, where = promotion.metadata, promotion.spec.target.branch
    trailer = f"Star-Promotion: {meta.namespace}/{meta.name}/{meta.uid}"
    return f"whether an attempt has committed is not known: look on {where} for a commit with the trailer {trailer}"


def _is_terminal(pod: PodView) -> bool:
    """Say whether a Job has said itself that it made nothing."""
    error = pod.result.error if pod.result is not None else None
    return error is not None and error.error_class is ErrorClass.TERMINAL


def _is_old(begun: str | None, now: str) -> bool:
    """Say whether what was decided then need not hold any more."""
    return begun is not None and (parse_timestamp(now) - parse_timestamp(begun)).total_seconds() > DECIDED_SECONDS


def _waits(status: PromotionStatus, at: Moment) -> PromotionStatus:
    """Return the status of a Promotion whose pull request is open, as it was told last."""
    ready = find(status.conditions, READY)
    if ready is not None and ready.reason == ConditionReason.PULL_REQUEST_OPEN:
        return told(status, at, Phase.WAITING, ConditionReason.PULL_REQUEST_OPEN, ready.message)
    request = status.pull_request
    assert request is not None
    text = f"pull request {request.url or request.number}: waits for somebody to merge or close it"
    return told(status, at, Phase.WAITING, ConditionReason.PULL_REQUEST_OPEN, text)


def _closing(status: PromotionStatus, at: Moment) -> PromotionStatus:
    text = "spec.cancel is true: the pull request is being closed" if status.pull_request is not None else _CANCELLING
    return told(status, at, Phase.RUNNING, ConditionReason.CLOSING_PULL_REQUEST, text)
