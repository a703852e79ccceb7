"""Whose run a StarPipeline is, and what it holds: (record, what stands under its name, now) -> record, run.

Tenants write in their own namespaces: names, labels, annotations, owner references and field managers are theirs to
choose. They write neither a UID, which the API server makes, nor the status of a schedule, which is of the cluster. So
a run is what a record in that status has the UID of, and everything else is somebody's pipeline.

A record is written twice. Before a run is made it has the digest of the spec; after it, the UID that the API server
answered. An operator that dies in between finds a record without a UID: what stands under its name with that very spec
is the run. Should the tenant have made it in that moment, it made what the schedule was about to make, in its place,
within the room that was found for it; nothing else can come of it. With another spec it is not the run.

All times are Unix seconds (int).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import LEAST_RUNS, MAX_RUNS, RetrainScheduleSpec, RunRecord
from star_operator.core.times import of_seconds, to_seconds
from star_operator.policy.schedule.types import Run
from star_operator.policy.status import FINISHED

CANCEL_SECONDS = 600
"""What has not ended so long after it was to be cancelled is the tenant's own affair: it holds nothing any more."""


@dataclass(frozen=True)
class Found:
    """A StarPipeline that stands under a run's name."""

    uid: str
    spec: str
    """Digest of its spec, without what may change."""
    phase: Phase = Phase.PENDING
    suspended: bool = False
    """Its spec says so."""
    cancelling: bool = False
    deleting: bool = False


@dataclass(frozen=True)
class Look:
    """What has become of a run."""

    record: RunRecord
    run: Run
    freed: bool = False
    """It has just given its place back: others have it from the next look on, once that is written down."""
    overdue: bool = False
    """It is to be cancelled."""
    stuck: bool = False
    """Its pipeline is still suspended, although it may go on."""


def proven(record: RunRecord, found: Found | None) -> RunRecord | None:
    """Return the record of a run that is there; None where it is gone, or somebody else's stands in its place."""
    if found is None:
        return None
    if record.uid:
        return record if record.uid == found.uid else None
    if found.spec != record.spec or found.deleting:
        return None
    return record.model_copy(update={"uid": found.uid, "spec": ""})


def look(spec: RetrainScheduleSpec, record: RunRecord, name: str, found: Found, now: int) -> Look:
    """Return what a proven run holds now. A run that is being deleted has ended."""
    tick, cancelling = to_seconds(record.tick), found.cancelling
    ended = found.phase in FINISHED or found.deleting
    since = to_seconds(record.since) if record.since else now
    if ended:
        freed = not record.set_aside
        gpus = record.gpus if freed else 0
        run = Run(record.namespace, name, tick, gpus, live=False, cancelling=cancelling, leaving=freed)
        return Look(record.model_copy(update={"set_aside": True, "since": ""}), run, freed=freed)
    run = Run(record.namespace, name, tick, record.gpus, cancelling=cancelling)
    if found.phase is Phase.SUSPENDED and record.set_aside:
        return _set_aside(record, run, found, now)
    if found.phase is Phase.SUSPENDED and found.suspended:
        given_back = record.model_copy(update={"set_aside": True, "since": ""})
        return Look(given_back, run, freed=True)
    begun = now if record.set_aside else since
    record = record.model_copy(update={"set_aside": False, "since": of_seconds(begun)})
    lapses = begun + spec.active_deadline_seconds
    if now >= lapses + CANCEL_SECONDS:
        return Look(record, replace(run, gpus=0, live=False))
    overdue = now >= lapses
    run = replace(run, lapses=lapses + CANCEL_SECONDS if overdue else lapses)
    stuck = found.phase is Phase.SUSPENDED
    return Look(record, run, overdue=overdue and not cancelling, stuck=stuck)


def _set_aside(record: RunRecord, run: Run, found: Found, now: int) -> Look:
    if found.suspended:
        return Look(record.model_copy(update={"since": ""}), _resting(run, holds=False, resumes=None))
    since = to_seconds(record.since) if record.since else now
    return Look(record.model_copy(update={"since": of_seconds(since)}), _resting(run, holds=False, resumes=since))


def _resting(run: Run, *, holds: bool, resumes: int | None) -> Run:
    return replace(run, holds=holds, resumes=resumes)


def resumed(records: Sequence[RunRecord], runs: Collection[Run], now: int) -> tuple[RunRecord, ...]:
    """Return the records with these runs' places taken again."""
    back = {(run.namespace, run.tick) for run in runs}
    taken = {"set_aside": False, "since": of_seconds(now)}
    return tuple(
        one.model_copy(update=taken) if (one.namespace, to_seconds(one.tick)) in back else one for one in records
    )


def share(tenants: int) -> int:
    """Return how many runs of each namespace are remembered."""
    return max(LEAST_RUNS, MAX_RUNS // max(1, tenants))


def bounded(
    records: Sequence[RunRecord], live: Collection[tuple[str, str]], tenants: Collection[str]
) -> tuple[RunRecord, ...]:
    """Return the records that are kept: of each tenant its share, the newest; elsewhere what has not ended.

    `live` has namespace and tick of the runs that have not ended, which are kept whatever they are.
    """
    most, count = share(len(tenants)), dict[str, int]()
    kept = []
    for one in sorted(records, key=lambda one: ((one.namespace, one.tick) in live, one.tick), reverse=True):
        count[one.namespace] = count.get(one.namespace, 0) + 1
        ours = one.namespace in tenants and count[one.namespace] <= most
        if ours or (one.namespace, one.tick) in live:
            kept.append(one)
    return tuple(sorted(kept, key=lambda one: (one.namespace, one.tick)))
