"""One pass over a RetrainSchedule: look at tenants and runs -> decide -> start, cancel, tidy up -> one status write."""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import MAX_TENANTS, RetrainSchedule, RetrainScheduleStatus
from star_operator.builders.retrainschedule import gpus_needed, owners, pipeline_spec, run, run_name
from star_operator.core.errors import InvalidSpec, Refused, Retryable
from star_operator.core.labels import BACKFILL_ANNOTATION, RUN_NOW_ANNOTATION
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.kube.events import post_event
from star_operator.kube.resources import NAMESPACE, STAR_TYPES
from star_operator.policy.schedule import decide as policy
from star_operator.policy.schedule.clock import clock
from star_operator.policy.schedule.requests import back_fill, outdated, run_now
from star_operator.policy.schedule.rows import remembered, rows
from star_operator.policy.schedule.types import Decision, Memory, Run, Start, Tenant
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.tenants import Tenants, Wanted
from star_operator.reconcilers.triggers import Triggers
from star_operator.reconcilers.write import write_status

AT_ONCE = 64
"""API calls side by side: runs are on their way before the first of them has its own reconciler busy."""
EXISTS = "AlreadyExists"
UNTOLD = frozenset({ConditionReason.NOT_DUE, ConditionReason.SUCCEEDED, ""})
"""Reasons of a row that make no Event in the tenant's namespace."""


class RetrainScheduleReconciler:
    """Reconciles RetrainSchedules."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster
        self._tenants = Tenants(context.cluster)
        self._triggers = Triggers(context.cluster)

    async def reconcile(self, key: Key) -> None:
        """Look at one schedule and start whose turn it is."""
        rtype = STAR_TYPES[key.kind]
        body = await self._cluster.get(rtype, "", key.name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        moment = self._context.now()
        at = Moment(timestamp(moment), body["metadata"].get("generation", 0))
        schedule = await parse_or_tell(self._cluster, RetrainSchedule, body, at)
        if schedule is None:
            return
        now, before = int(moment.timestamp()), schedule.status
        try:
            status = await self._advance(schedule, body, at, now)
        except InvalidSpec as error:
            status = told(before, at, Phase.WAITING, error.reason, error.message)
        await write_status(self._cluster, body, status, at.now)
        if status.request:
            taken_off = {"metadata": {"annotations": {RUN_NOW_ANNOTATION: None, BACKFILL_ANNOTATION: None}}}
            await self._cluster.merge(rtype, "", key.name, taken_off)
        if status.next_look_time is not None:
            wake = (parse_timestamp(status.next_look_time) - moment).total_seconds()
            self._context.queue.add_after(key, wake)
        await self._tell(schedule, before, status, at.now)

    async def _advance(
        self, schedule: RetrainSchedule, body: KubeObject, at: Moment, now: int
    ) -> RetrainScheduleStatus:
        spec, uid = schedule.spec, schedule.metadata.uid
        clock(spec.schedule, spec.time_zone)  # raises, before anything is asked of the cluster
        namespaces = await self._tenants.of(schedule)
        left_out, some = namespaces[MAX_TENANTS:], namespaces[:MAX_TENANTS]
        seen = await self._tenants.runs(schedule)
        memory, request = await self._requested(schedule, body, {one.namespace for one in some}, at, now)
        basic = Wanted(pipeline_spec(schedule, {}))
        basic = replace(basic, gpus=gpus_needed(schedule, basic.spec))
        if spec.gpu_budget is not None and basic.gpus > spec.gpu_budget and spec.overrides is None:
            text = f"a run of spec.pipeline needs {basic.gpus} GPUs at once, and spec.gpuBudget is {spec.gpu_budget}"
            raise InvalidSpec(ConditionReason.BUDGET_TOO_SMALL, f"{text}: raise it, or make the run smaller")
        due = policy.due(spec, uid, memory, some, seen.runs, now)
        wanted = await self._tenants.wanted(schedule, due, basic)
        news = await self._triggers.news(schedule, some, due, wanted, seen, now)
        some = news.tenants
        some = [wanted[one.namespace].fill(one) if one.namespace in wanted else one for one in some]
        decision, runs = await self._carry_out(schedule, memory, some, wanted, seen.runs, now)
        for cancelled in decision.cancels:
            patch = {"spec": {"cancel": True}}
            await self._cluster.merge(STAR_TYPES["StarPipeline"], cancelled.namespace, cancelled.name, patch)
        await self._tidy_up(schedule, seen.bodies)
        await self._triggers.tidy_up(schedule, decision.memory)
        status = rows(schedule.status, decision, some, runs, seen.outcomes, news.under)
        status = status.model_copy(update={"request": request})
        return _summed_up(schedule, status, [one.namespace for one in left_out], at)

    async def _requested(
        self, schedule: RetrainSchedule, body: KubeObject, names: set[str], at: Moment, now: int
    ) -> tuple[Memory, str]:
        """Take down what an annotation asks for, once: it stands in status until the annotation is gone."""
        memory, annotations = remembered(schedule.status), schedule.metadata.annotations
        found = [(key, annotations[key]) for key in (RUN_NOW_ANNOTATION, BACKFILL_ANNOTATION) if key in annotations]
        request = "; ".join(f"{key}={value}" for key, value in found)[:1024]
        if request == schedule.status.request:
            return memory, request
        try:
            for key, value in found:
                if key == RUN_NOW_ANNOTATION:
                    memory = run_now(memory, value, names, now)
                else:
                    one = clock(schedule.spec.schedule, schedule.spec.time_zone)
                    memory = back_fill(memory, value, names, one, now)
        except InvalidSpec as error:
            await post_event(self._cluster, body, error.reason, error.message, at.now)
        return memory, request

    async def _carry_out(
        self,
        schedule: RetrainSchedule,
        memory: Memory,
        some: list[Tenant],
        wanted: dict[str, Wanted],
        runs: list[Run],
        now: int,
    ) -> tuple[Decision, list[Run]]:
        """Decide and start. Whom the API server refuses a run takes nobody's place: it is decided once more without."""
        while True:
            decision = policy.decide(schedule.spec, schedule.metadata.uid, memory, some, runs, now)
            faults = await self._start(schedule, decision.starts, wanted)
            if not faults:
                return decision, runs + self._made(schedule, decision.starts)
            made = [start for start in decision.starts if start.namespace not in faults]
            runs = runs + self._made(schedule, made)
            some = [replace(one, fault=faults.get(one.namespace, one.fault)) for one in some]

    @staticmethod
    def _made(schedule: RetrainSchedule, starts: Iterable[Start]) -> list[Run]:
        name = schedule.metadata.name
        return [Run(one.namespace, run_name(name, one.tick), one.tick, one.gpus) for one in starts]

    async def _start(
        self, schedule: RetrainSchedule, starts: Iterable[Start], wanted: dict[str, Wanted]
    ) -> dict[str, str]:
        """Make the runs, and return why those that the API server refuses are refused, by namespace.

        A run that is there already was made by an operator that died right after it.
        """
        gate, faults = asyncio.Semaphore(AT_ONCE), {}

        async def make(start: Start) -> None:
            async with gate:
                try:
                    await self._cluster.create(run(schedule, start.namespace, start.tick, wanted[start.namespace].spec))
                except (InvalidSpec, Refused) as error:
                    faults[start.namespace] = f"the API server refuses the run: {error.message}"
                except Retryable as error:
                    if error.reason != EXISTS:
                        raise

        await _side_by_side(make(start) for start in starts)
        return faults

    async def _tidy_up(self, schedule: RetrainSchedule, bodies: list[KubeObject]) -> None:
        """Delete what the history limits let go, and let deletionPolicy reach the runs that are there."""
        rtype, wish = STAR_TYPES["StarPipeline"], owners(schedule)
        uids = [owner["uid"] for owner in wish]
        for body in bodies:
            meta = body["metadata"]
            if [owner["uid"] for owner in meta.get("ownerReferences", [])] != uids:
                patch = {"metadata": {"ownerReferences": wish or None}}
                await self._cluster.merge(rtype, meta["namespace"], meta["name"], patch)
        ended = self._tenants.ended(bodies)
        if outdated(schedule.spec, ended):
            for one in outdated(schedule.spec, await self._tenants.referred(ended, bodies)):
                await self._cluster.delete(rtype, one.namespace, one.name)

    async def _tell(
        self, schedule: RetrainSchedule, before: RetrainScheduleStatus, status: RetrainScheduleStatus, now: str
    ) -> None:
        """Tell the tenants of whom there is something new, in their own namespaces."""
        old = {row.namespace: (row.reason, row.run) for row in before.tenants}
        news = [row for row in status.tenants if old.get(row.namespace) != (row.reason, row.run)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def tell(namespace: str, reason: str, message: str) -> None:
            async with gate:
                about = self._tenants.bodies.get(namespace) or await self._cluster.get(NAMESPACE, "", namespace)
                if about is not None:
                    text = f"RetrainSchedule {schedule.metadata.name}: {message}"
                    await post_event(self._cluster, about, reason, text, now, within=namespace)

        await _side_by_side(tell(row.namespace, row.reason, row.message) for row in news if row.reason not in UNTOLD)


async def _side_by_side(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Make all calls, then raise the first error that one of them had."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _summed_up(
    schedule: RetrainSchedule, status: RetrainScheduleStatus, left_out: list[str], at: Moment
) -> RetrainScheduleStatus:
    following = f"; the next time is {status.next_schedule_time}" if status.next_schedule_time else ""
    if schedule.spec.suspend:
        text = "spec.suspend is true: nothing is started; set it to false to go on"
        return told(status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text, ready=True)
    if left_out:
        text = f"{len(left_out)} namespaces too many, from {left_out[0]} on: a schedule has {MAX_TENANTS} at most"
        told_to = f"{text}; divide them among schedules by spec.namespaceSelector"
        return told(status, at, Phase.DEGRADED, ConditionReason.TOO_MANY_TENANTS, told_to)
    if not status.tenants:
        text = "no namespace takes part: label one star.recsys.dev/retrain=true, and see spec.namespaceSelector"
        return told(status, at, Phase.READY, ConditionReason.ON_SCHEDULE, f"{text}{following}")
    text = f"{len(status.tenants)} namespaces, {status.running} run, {status.waiting} wait{following}"
    return told(status, at, Phase.READY, ConditionReason.ON_SCHEDULE, text)
