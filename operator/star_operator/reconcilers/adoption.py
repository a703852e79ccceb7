"""The records of a schedule whose status is of an older version, or of another cluster: made up for, once.

Versions before the records knew a run by its row in the schedule's status (its name and its GPUs), where no tenant can
write. What that row names is taken over when the status has no records at all, and never where one alone is missing.

A restore from a backup gives everything another UID, also the schedule: its records' UIDs are then taken anew from what
stands under the runs' names. (Restore the pipelines before an operator runs: a run that comes later is none any more.)
"""

from functools import partial

from star_operator.api.retrainschedule import RetrainSchedule, RunRecord, TenantStatus
from star_operator.builders.retrainschedule import parts_of, run_name
from star_operator.core.labels import TICK_ANNOTATION
from star_operator.core.objects import KubeObject
from star_operator.core.times import of_seconds, to_seconds
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.schedruns import PIPELINE, ScheduleRuns, side_by_side
from star_operator.reconcilers.write import write_status


async def with_records(cluster: Cluster, schedule: RetrainSchedule, body: KubeObject, now: str) -> RetrainSchedule:
    """Return the schedule with the records of its runs; what had to be made up for is written down, also in `body`."""
    status, uid = schedule.status, schedule.metadata.uid
    records = status.runs
    if records is None:
        records = await _adopted(cluster, schedule, now)
    elif status.of_uid not in ("", uid):
        records = await _restored(cluster, schedule, records)
    status = status.model_copy(update={"runs": records, "of_uid": uid})
    if records and schedule.status != status:
        await write_status(cluster, body, status, now)
        body["status"] = status.to_json_dict()
    return schedule.model_copy(update={"status": status})


async def _adopted(cluster: Cluster, schedule: RetrainSchedule, now: str) -> tuple[RunRecord, ...]:
    """Return records of the runs that the rows name."""
    found: list[RunRecord] = []

    async def adopt(row: TenantStatus) -> None:
        body = await cluster.get(PIPELINE, row.namespace, row.run)
        tick = _tick(schedule.metadata.name, row.run, body) if body is not None else None
        if body is not None and tick is not None:
            uid = body["metadata"]["uid"]
            found.append(RunRecord(namespace=row.namespace, tick=of_seconds(tick), uid=uid, gpus=row.gpus, since=now))

    await side_by_side(partial(adopt, row) for row in schedule.status.tenants if row.run)
    return tuple(sorted(found, key=lambda one: (one.namespace, one.tick)))


def _tick(schedule: str, name: str, body: KubeObject) -> int | None:
    """Return the time that a run's name says, or, where a hash hides it, its annotation; None where neither fits."""
    parts = parts_of(name)
    if parts is not None:
        return parts[1] if parts[0] == schedule else None
    try:
        tick = to_seconds(body["metadata"].get("annotations", {}).get(TICK_ANNOTATION, ""))
    except ValueError:
        return None
    return tick if run_name(schedule, tick) == name else None


async def _restored(
    cluster: Cluster, schedule: RetrainSchedule, records: tuple[RunRecord, ...]
) -> tuple[RunRecord, ...]:
    """Return the records with the UIDs of what stands under their names now."""
    name = schedule.metadata.name
    bodies = await ScheduleRuns(cluster).bodies(name, records)

    def anew(record: RunRecord) -> RunRecord:
        body = bodies.get((record.namespace, run_name(name, to_seconds(record.tick))))
        return record.model_copy(update={"uid": body["metadata"]["uid"]}) if body is not None and record.uid else record

    return tuple(map(anew, records))
