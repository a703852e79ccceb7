"""One pass over a RetrainSchedule: look at tenants and runs -> decide -> write down what is about to be made -> start,
cancel, tidy up -> one more status write."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import MAX_TENANTS, RetrainSchedule, RetrainScheduleStatus, RunRecord
from star_operator.builders.retrainschedule import gpus_needed, pipeline_spec
from star_operator.core.errors import InvalidSpec, Refused
from star_operator.core.labels import BACKFILL_ANNOTATION, RUN_NOW_ANNOTATION
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import of_seconds, parse_timestamp, timestamp
from star_operator.kube.events import post_event
from star_operator.kube.resources import NAMESPACE, STAR_TYPES
from star_operator.policy.schedule import decide as policy
from star_operator.policy.schedule.clock import clock
from star_operator.policy.schedule.proof import bounded, resumed
from star_operator.policy.schedule.requests import back_fill, run_now
from star_operator.policy.schedule.rows import counted, noted, remembered, rows
from star_operator.policy.schedule.types import Decision, Memory, Run, Tenant
from star_operator.policy.status import Moment, told
from star_operator.reconcilers.adoption import with_records
from star_operator.reconcilers.context import Context
from star_operator.reconcilers.parse import parse_or_tell
from star_operator.reconcilers.schedruns import ScheduleRuns, Seen, side_by_side
from star_operator.reconcilers.tenants import Tenants, Wanted
from star_operator.reconcilers.triggers import Triggers
from star_operator.reconcilers.write import write_status

UNTOLD = frozenset({ConditionReason.NOT_DUE, ConditionReason.SUCCEEDED, ""})
"""Reasons of a row that make no Event in the tenant's namespace."""


class RetrainScheduleReconciler:
    """Reconciles RetrainSchedules."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = context.cluster
        self._tenants = Tenants(context.cluster)
        self._runs = ScheduleRuns(context.cluster)
        self._triggers = Triggers(context)

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
        now = int(moment.timestamp())
        try:
            schedule = await with_records(self._cluster, schedule, body, at.now)
            some = await self._tenants.of(schedule)
            seen = await self._runs.look(schedule, now)
        except Refused as refused:  # nothing has been started or written down yet
            unseen = told(schedule.status, at, Phase.WAITING, refused.reason, refused.message)
            await write_status(self._cluster, body, unseen, at.now)
            raise
        before, this = schedule.status, _Pass(schedule, body, at, now, seen, some)
        request = await self._take_down(this)
        try:
            status, going_on = await self._advance(this)
        except InvalidSpec as error:
            status, going_on = await self._look_after(this, error)
        status = status.model_copy(update={"request": request})
        await write_status(self._cluster, body, status, at.now)
        if status.request:
            taken_off = {"metadata": {"annotations": {RUN_NOW_ANNOTATION: None, BACKFILL_ANNOTATION: None}}}
            await self._cluster.merge(rtype, "", key.name, taken_off)
        for one in going_on:
            self._context.queue.add(Key("StarPipeline", one.namespace, one.name))
        if this.seen.freed:
            self._context.queue.add_after(key, 1)  # the place that was given back is another's from now on
        elif status.next_look_time is not None:
            wake = (parse_timestamp(status.next_look_time) - moment).total_seconds()
            if wake > 0:  # it stays as it is while the schedule cannot be followed
                self._context.queue.add_after(key, wake)
        await self._tell(schedule, before, status, at.now)

    async def _advance(self, this: "_Pass") -> tuple[RetrainScheduleStatus, list[Run]]:
        """Return the status, and the runs that may go on.

        Raises InvalidSpec for a schedule that cannot be followed.
        """
        spec, uid = this.schedule.spec, this.schedule.metadata.uid
        clock(spec.schedule, spec.time_zone)  # raises, before anything is made
        schedule, now, seen = this.schedule, this.now, this.seen
        some, memory = this.tenants[:MAX_TENANTS], remembered(schedule.status)
        basic = Wanted(pipeline_spec(schedule, {}))
        basic = replace(basic, gpus=gpus_needed(schedule, basic.spec))
        due = policy.due(spec, uid, memory, some, seen.runs, now)
        wanted = await self._tenants.wanted(schedule, due, basic)
        news = await self._triggers.news(schedule, some, due, wanted, seen, now)
        some = [wanted[one.namespace].fill(one) if one.namespace in wanted else one for one in news.tenants]
        decision = await self._carry_out(this, memory, some, wanted)
        await self._runs.cancel([*decision.cancels, *seen.overdue])
        await self._runs.tidy_up(schedule, seen, this.names)
        await self._triggers.tidy_up(news.probes, decision.memory)
        status = rows(schedule.status, decision, some, seen.runs, seen.outcomes, news.under)
        status = status.model_copy(update={"runs": this.records(decision.resumes)})
        return _summed_up(this, status, basic.gpus), [*decision.resumes, *seen.stuck]

    async def _look_after(self, this: "_Pass", error: InvalidSpec) -> tuple[RetrainScheduleStatus, list[Run]]:
        """Start nothing, and let what runs go on, end and be tidied up. What is remembered of the times stays."""
        schedule, seen = this.schedule, this.seen
        resumes = policy.going_on(schedule.spec, seen.runs, this.now)
        await self._runs.cancel(seen.overdue)
        await self._runs.tidy_up(schedule, seen, this.names)
        back = set(resumes)
        runs = [replace(run, holds=True) if run in back else run for run in seen.runs]
        status = counted(schedule.status, runs).model_copy(update={"runs": this.records(resumes)})
        return told(status, this.at, Phase.WAITING, error.reason, error.message), [*resumes, *seen.stuck]

    async def _take_down(self, this: "_Pass") -> str:
        """Write down what an annotation asks for, once: it stands in status until the annotation is gone."""
        schedule, names, now = this.schedule, this.names, this.now
        memory, annotations = remembered(schedule.status), schedule.metadata.annotations
        found = [(key, annotations[key]) for key in (RUN_NOW_ANNOTATION, BACKFILL_ANNOTATION) if key in annotations]
        request = "; ".join(f"{key}={value}" for key, value in found)[:1024]
        if not request or request == schedule.status.request:
            return request
        try:
            for key, value in found:
                if key == RUN_NOW_ANNOTATION:
                    memory = run_now(memory, value, names, now)
                else:
                    one = clock(schedule.spec.schedule, schedule.spec.time_zone)
                    memory = back_fill(memory, value, names, one, now)
        except InvalidSpec as error:
            await post_event(self._cluster, this.body, error.reason, error.message, this.at.now)
        status = noted(schedule.status, memory, names, request)
        await write_status(self._cluster, this.body, status, this.at.now)
        this.body["status"] = status.to_json_dict()
        this.schedule = schedule.model_copy(update={"status": status})
        return request

    async def _carry_out(self, one: "_Pass", memory: Memory, some: list[Tenant], wanted: dict[str, Wanted]) -> Decision:
        """Decide and start. Who cannot have a run takes nobody's place: it is decided once more without."""
        schedule, seen = one.schedule, one.seen

        async def note(records: Sequence[RunRecord]) -> None:
            """Write down, before anything is made, what is about to be, and who has given its place back."""
            status = schedule.status.model_copy(update={"runs": (*seen.records, *records)})
            await write_status(self._cluster, one.body, status, one.at.now)
            one.body["status"] = status.to_json_dict()

        while True:
            decision = policy.decide(schedule.spec, schedule.metadata.uid, memory, some, seen.runs, one.now)
            specs = {start.namespace: wanted[start.namespace].spec for start in decision.starts}
            made = await self._runs.make(schedule, decision.starts, specs, note)
            seen.runs += made.runs
            seen.records += [record.model_copy(update={"since": of_seconds(one.now)}) for record in made.records]
            if not made.faults:
                back = set(decision.resumes)
                seen.runs = [replace(run, holds=True, resumes=None) if run in back else run for run in seen.runs]
                return decision
            some = [_at_fault(tenant, made.faults) for tenant in some]

    async def _tell(
        self, schedule: RetrainSchedule, before: RetrainScheduleStatus, status: RetrainScheduleStatus, now: str
    ) -> None:
        """Tell the tenants of whom there is something new, in their own namespaces."""
        old = {row.namespace: (row.reason, row.run) for row in before.tenants}
        news = [row for row in status.tenants if old.get(row.namespace) != (row.reason, row.run)]

        async def tell(namespace: str, reason: str, message: str) -> None:
            about = self._tenants.bodies.get(namespace) or await self._cluster.get(NAMESPACE, "", namespace)
            if about is not None:
                text = f"RetrainSchedule {schedule.metadata.name}: {message}"
                await post_event(self._cluster, about, reason, text, now, within=namespace)

        news = [row for row in news if row.reason not in UNTOLD]
        await side_by_side(partial(tell, row.namespace, row.reason, row.message) for row in news)


@dataclass
class _Pass:
    """One look at a schedule."""

    schedule: RetrainSchedule
    body: KubeObject
    at: Moment
    now: int
    seen: Seen
    tenants: list[Tenant]
    """Also those that are too many."""

    @property
    def names(self) -> set[str]:
        """Namespaces that take part."""
        return {one.namespace for one in self.tenants[:MAX_TENANTS]}

    def records(self, resumes: Collection[Run]) -> tuple[RunRecord, ...]:
        """Return the runs' records, after these have taken their places again."""
        live = {(one.namespace, of_seconds(one.tick)) for one in self.seen.runs if one.live}
        return bounded(resumed(self.seen.records, resumes, self.now), live, self.names)


def _at_fault(tenant: Tenant, faults: Mapping[str, tuple[ConditionReason, str]]) -> Tenant:
    if tenant.namespace not in faults:
        return tenant
    reason, text = faults[tenant.namespace]
    return replace(tenant, fault=text, fault_reason=reason)


def _summed_up(this: _Pass, status: RetrainScheduleStatus, gpus: int) -> RetrainScheduleStatus:
    """Return the status with what is to be said of all; `gpus` are those of a run without overrides."""
    schedule, at, left_out = this.schedule, this.at, this.tenants[MAX_TENANTS:]
    budget = schedule.spec.gpu_budget
    following = f"; the next time is {status.next_schedule_time}" if status.next_schedule_time else ""
    if schedule.spec.suspend:
        text = "spec.suspend is true: nothing is started; set it to false to go on"
        return told(status, at, Phase.SUSPENDED, ConditionReason.SUSPENDED, text, ready=True)
    if left_out:
        first = left_out[0].namespace
        text = f"{len(left_out)} namespaces too many, from {first} on: a schedule has {MAX_TENANTS} at most"
        told_to = f"{text}; divide them among schedules by spec.namespaceSelector"
        return told(status, at, Phase.DEGRADED, ConditionReason.TOO_MANY_TENANTS, told_to)
    if budget is not None and gpus > budget and schedule.spec.overrides is None:
        text = f"a run of spec.pipeline needs {gpus} GPUs at once, and spec.gpuBudget is {budget}"
        told_to = f"{text}: raise it, or make the run smaller"
        return told(status, at, Phase.WAITING, ConditionReason.BUDGET_TOO_SMALL, told_to)
    if not status.tenants:
        text = "no namespace takes part: label one star.recsys.dev/retrain=true, and see spec.namespaceSelector"
        return told(status, at, Phase.READY, ConditionReason.ON_SCHEDULE, f"{text}{following}")
    text = f"{len(status.tenants)} namespaces, {status.running} run, {status.waiting} wait{following}"
    return told(status, at, Phase.READY, ConditionReason.ON_SCHEDULE, text)
