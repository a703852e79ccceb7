"""The runs of a schedule: what has become of those that it recorded, and how new ones are made.

Only what is recorded is looked at, by name: however many pipelines bear a schedule's label, they cost it nothing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import RetrainSchedule, RunRecord
from star_operator.api.starpipeline import StarPipeline
from star_operator.builders.retrainschedule import owners, run, run_name, schedule_labels, spec_digest
from star_operator.core.errors import InvalidSpec, Refused, Retryable
from star_operator.core.objects import KubeObject
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import of_seconds, to_seconds
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.conditions import READY, find
from star_operator.policy.schedule.proof import Found, look, proven, share
from star_operator.policy.schedule.requests import Ended, outdated
from star_operator.policy.schedule.rows import Outcome
from star_operator.policy.schedule.types import Run, Start
from star_operator.policy.status import FINISHED

PIPELINE = STAR_TYPES["StarPipeline"]
AT_ONCE = 64
"""API calls side by side: runs are on their way before the first of them has its own reconciler busy."""
EXISTS = "AlreadyExists"
_OBJECT = re.compile(r'Invalid value: (?:(?:"object"|object|\{[^:]*\}): )?')
"""What the API server says of a rule about a whole block, besides the rule's own sentence."""
Place = tuple[str, str]
"""Namespace and name."""
Note = Callable[[Sequence[RunRecord]], Awaitable[None]]
"""Writes records down."""


@dataclass
class Seen:
    """The runs that are there."""

    bodies: dict[Place, KubeObject] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By `namespace/name`."""
    overdue: list[Run] = field(default_factory=list)
    """Those that have held their place for too long."""
    stuck: list[Run] = field(default_factory=list)
    """Those that may go on and have not heard of it."""
    freed: bool = False
    """One of them has given its place back in this look."""


@dataclass
class Made:
    """What became of the runs that were to be made."""

    runs: list[Run] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    faults: dict[str, tuple[ConditionReason, str]] = field(default_factory=dict)
    """Why there is none, by namespace."""


class ScheduleRuns:
    """Looks at runs, and makes them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def look(self, schedule: RetrainSchedule, now: int) -> Seen:
        """Look at the recorded runs, also of namespaces that take no part any more."""
        records, seen = schedule.status.runs or (), Seen()
        bodies = await self.bodies(schedule.metadata.name, records)
        for record in records:
            name = run_name(schedule.metadata.name, to_seconds(record.tick))
            body = bodies.get((record.namespace, name))
            found = _found(body, exact=not record.uid) if body is not None else None
            mine = proven(record, found)
            if mine is None or found is None or body is None:
                continue
            one = look(schedule.spec, mine, name, found, now)
            seen.bodies[record.namespace, name] = body
            seen.runs.append(one.run)
            seen.records.append(one.record)
            seen.overdue += [one.run] if one.overdue else []
            seen.stuck += [one.run] if one.stuck else []
            seen.freed = seen.freed or one.freed
            seen.outcomes[f"{record.namespace}/{name}"] = _outcome(body)
        return seen

    async def bodies(self, schedule: str, records: Iterable[RunRecord]) -> dict[Place, KubeObject]:
        """Return what stands under the names of a schedule's runs; those of one time have one name everywhere."""
        where: dict[str, list[str]] = {}
        for record in records:
            name = run_name(schedule, to_seconds(record.tick))
            where.setdefault(name, []).append(record.namespace)
        found: dict[Place, KubeObject] = {}

        async def read(name: str, namespaces: list[str]) -> None:
            if len(namespaces) > 1:
                listed = await self._cluster.list_objects(PIPELINE, None, fields={"metadata.name": name})
            else:
                body = await self._cluster.get(PIPELINE, namespaces[0], name)
                listed = [body] if body is not None else []
            found.update({(body["metadata"]["namespace"], name): body for body in listed})

        await side_by_side(partial(read, name, namespaces) for name, namespaces in where.items())
        return found

    async def make(
        self, schedule: RetrainSchedule, starts: Sequence[Start], specs: Mapping[str, dict[str, Any]], note: Note
    ) -> Made:
        """Make runs: find out whether they could be, write down that they will be, make them, and record their UIDs.

        None is made where one cannot be: its namespace takes nobody's place, and the others are decided once more.
        """
        wishes = {one: run(schedule, one.namespace, one.tick, specs[one.namespace]) for one in starts}
        made = Made()
        await side_by_side(partial(self._rehearse, schedule, wish, made) for wish in wishes.values())
        if made.faults or not starts:
            return made
        wanted = {one: _record(one, wish) for one, wish in wishes.items()}
        await note(list(wanted.values()))
        create = partial(self._create, schedule, made)
        await side_by_side(partial(create, one, wanted[one], wish) for one, wish in wishes.items())
        return made

    async def _rehearse(self, schedule: RetrainSchedule, wish: KubeObject, made: Made) -> None:
        meta = wish["metadata"]
        try:
            await self._cluster.create(wish, dry_run=True)
        except (InvalidSpec, Refused) as error:
            made.faults[meta["namespace"]] = _refusal(schedule, error)
        except Retryable as error:
            if error.reason != EXISTS:
                raise
            made.faults[meta["namespace"]] = _taken(meta["name"])

    async def _create(
        self, schedule: RetrainSchedule, made: Made, start: Start, record: RunRecord, wish: KubeObject
    ) -> None:
        namespace, name = start.namespace, wish["metadata"]["name"]
        try:
            body: KubeObject | None = await self._cluster.create(wish)
        except (InvalidSpec, Refused) as error:
            made.faults[namespace] = _refusal(schedule, error)
            return
        except Retryable as error:
            if error.reason != EXISTS:
                raise
            body = await self._cluster.live.get(PIPELINE, namespace, name)  # a call that was made twice finds its own
        mine = proven(record, _found(body, exact=True) if body is not None else None)
        if mine is None:
            made.faults[namespace] = _taken(name)
            return
        made.records.append(mine)
        made.runs.append(Run(namespace, name, start.tick, start.gpus))

    async def cancel(self, runs: Iterable[Run], seen: Seen) -> None:
        """End runs that have been seen."""
        for one in runs:
            uid = seen.bodies[one.namespace, one.name]["metadata"]["uid"]
            await self._cluster.merge(PIPELINE, one.namespace, one.name, {"spec": {"cancel": True}}, uid=uid)

    async def tidy_up(self, schedule: RetrainSchedule, seen: Seen, tenants: Collection[str]) -> None:
        """Delete what the history limits let go, and make labels and owners what they are to be."""
        labels = schedule_labels(schedule)
        wish = owners(schedule)
        uids = [owner["uid"] for owner in wish]
        for (namespace, name), body in seen.bodies.items():
            meta = body["metadata"]
            owned = [owner["uid"] for owner in meta.get("ownerReferences", [])] == uids
            if not owned or not labels.items() <= meta.get("labels", {}).items():
                patch = {"metadata": {"ownerReferences": wish or None, "labels": labels}}
                await self._cluster.merge(PIPELINE, namespace, name, patch, uid=meta["uid"])
        ended, most = _ended(schedule, seen, tenants), share(len(tenants))
        if outdated(schedule.spec, ended, most):
            for one in outdated(schedule.spec, await self._referred(ended, seen), most):
                await self._cluster.delete(PIPELINE, one.namespace, one.name)

    async def _referred(self, ended: Sequence[Ended], seen: Seen) -> list[Ended]:
        """Return the same, with those marked whose resources a StarDeployment names."""
        named: dict[str, set[str]] = {}
        for body in await self._cluster.list_objects(STAR_TYPES["StarDeployment"], None):
            spec, names = body["spec"], named.setdefault(body["metadata"]["namespace"], set())
            names.update(filter(None, (spec.get(role, {}).get("name") for role in ("dataset", "verbalization"))))
            names.update(filter(None, (spec.get("checkpoint", {}).get("checkpoint"),)))

        def is_named(one: Ended) -> bool:
            rows = seen.bodies[one.namespace, one.name].get("status", {}).get("stages", [])
            return bool({row.get("resource") for row in rows} & named.get(one.namespace, set()))

        return [Ended(one.namespace, one.name, one.tick, one.succeeded, is_named(one)) for one in ended]


def _found(body: KubeObject, *, exact: bool) -> Found:
    """Reduce a pipeline; the digest of its spec is taken only where it is asked for."""
    meta, spec = body["metadata"], body["spec"]
    try:
        phase = Phase(body.get("status", {}).get("phase", Phase.PENDING))
    except ValueError:
        phase = Phase.PENDING
    return Found(
        meta["uid"],
        spec_digest(body) if exact else "",
        phase,
        suspended=bool(spec.get("suspend")),
        cancelling=bool(spec.get("cancel")),
        deleting="deletionTimestamp" in meta,
    )


def _outcome(body: KubeObject) -> Outcome:
    try:
        status = StarPipeline.parse_status(body)
    except ValidationError:  # of another version; it must not stop the other tenants' runs
        return Outcome(Phase.PENDING, "its status is of another version")
    ready = find(status.conditions, READY)
    return Outcome(status.phase, ready.message if ready is not None else "")


def _record(start: Start, wish: KubeObject) -> RunRecord:
    return RunRecord(
        namespace=start.namespace,
        tick=of_seconds(start.tick),
        spec=spec_digest({**wish, "metadata": {**wish["metadata"], "uid": ""}}),
        gpus=start.gpus,
    )


def _ended(schedule: RetrainSchedule, seen: Seen, tenants: Collection[str]) -> list[Ended]:
    found = []
    for record in seen.records:
        name = run_name(schedule.metadata.name, to_seconds(record.tick))
        body = seen.bodies.get((record.namespace, name))
        if body is None or record.namespace not in tenants:
            continue
        phase = body.get("status", {}).get("phase")
        if phase in FINISHED and "deletionTimestamp" not in body["metadata"]:
            succeeded = phase == Phase.SUCCEEDED
            found.append(Ended(record.namespace, name, to_seconds(record.tick), succeeded=succeeded))
    return found


def _refusal(schedule: RetrainSchedule, error: InvalidSpec | Refused) -> tuple[ConditionReason, str]:
    """Return why the API server refuses a run: for rules of the kind, their sentences alone."""
    if isinstance(error, Refused):
        return ConditionReason.REFUSED, f"the API server refuses the run: {error.message}"
    text = _OBJECT.sub("", error.message.rpartition(" is invalid: ")[2])
    if schedule.spec.overrides is None:
        return ConditionReason.INVALID_OBJECT, f"the API server refuses the run: {text}"
    whose = f"with ConfigMap {schedule.spec.overrides.name}, where there is one, over it"
    return ConditionReason.OVERRIDES_INVALID, f"the pipeline, {whose}, is refused: {text}"


def _taken(name: str) -> tuple[ConditionReason, str]:
    text = f"StarPipeline {name} is in this namespace and is none of the schedule's runs"
    return ConditionReason.NAME_TAKEN, f"{text}: delete it, and the run starts; the next time's has another name"


async def side_by_side(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Make all calls, so many at once, then raise the first error that one of them had."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def through(call: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await call()

    for result in await asyncio.gather(*map(through, calls), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
