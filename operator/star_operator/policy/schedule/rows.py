"""What is remembered, as it stands in a schedule's status, and the rows that say who runs and who waits for what."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_operator.api.meta import Phase
from star_operator.api.retrainschedule import MAX_MESSAGE, RetrainScheduleStatus, TenantStatus
from star_operator.core.reasons import ConditionReason
from star_operator.core.times import of_seconds, to_seconds
from star_operator.policy.schedule.texts import sentence
from star_operator.policy.schedule.types import Decision, Memory, Remembered, Run, Tenant, Wait

STAYS = frozenset({ConditionReason.DEADLINE_MISSED, ConditionReason.NOTHING_NEW, ConditionReason.NOT_DRIFTED})
"""What is said once, and holds until the next run or the next time."""
NOT_WAITING = STAYS | {ConditionReason.SUSPENDED, ConditionReason.NOT_DUE}


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or how far it is."""

    phase: Phase
    message: str


def remembered(status: RetrainScheduleStatus) -> Memory:
    """Return what a status remembers."""
    tenants = {
        row.namespace: Remembered(
            to_seconds(row.decided),
            _seconds(row.waiting_since),
            _seconds(row.asked),
            tuple(to_seconds(tick) for tick in row.owed),
        )
        for row in status.tenants
        if row.decided
    }
    away = status.away_from, status.away_until
    down = (to_seconds(away[0]), to_seconds(away[1])) if away[0] is not None and away[1] is not None else None
    return Memory(tenants, _seconds(status.next_look_time), down)


def rows(
    before: RetrainScheduleStatus,
    decision: Decision,
    tenants: Sequence[Tenant],
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcome],
    under: Mapping[str, int | None] = {},
) -> RetrainScheduleStatus:
    """Return the status after a decision.

    `runs` has what was started, `outcomes` is by `namespace/name`, and `under` says since when each tenant's metric is
    under the threshold of trigger Drift.
    """
    old = {row.namespace: row for row in before.tenants}
    waits = {wait.namespace: wait for wait in decision.waits}
    of: dict[str, list[Run]] = {}
    for run in runs:
        of.setdefault(run.namespace, []).append(run)
    kept = decision.memory
    found = tuple(
        _row(
            old.get(one.namespace) or TenantStatus(namespace=one.namespace),
            kept.tenants[one.namespace],
            sorted(of.get(one.namespace, ()), key=lambda run: run.tick),
            waits.get(one.namespace),
            outcomes,
        ).model_copy(update={"under_since": _text(under.get(one.namespace))})
        for one in tenants
    )
    waiting = [wait for wait in decision.waits if wait.reason not in NOT_WAITING]
    update = {
        "tenants": found,
        "last_schedule_time": _text(decision.last_tick),
        "next_schedule_time": _text(decision.next_tick),
        "next_look_time": _text(kept.next_look),
        "away_from": _text(kept.down[0] if kept.down else None),
        "away_until": _text(kept.down[1] if kept.down else None),
        "waiting": len(waiting),
    }
    return counted(before.model_copy(update=update), runs)


def counted(status: RetrainScheduleStatus, runs: Sequence[Run]) -> RetrainScheduleStatus:
    """Return the status with what these runs hold."""
    live = [run for run in runs if run.live and run.holds]
    update = {
        "running": len(live),
        "gpus_held": sum(run.gpus for run in live),
        "progress_text": f"{len(live)} running, {status.waiting} waiting",
    }
    return status.model_copy(update=update)


def _row(
    row: TenantStatus, kept: Remembered, runs: Sequence[Run], wait: Wait | None, outcomes: Mapping[str, Outcome]
) -> TenantStatus:
    live, last = [run for run in runs if run.live], (runs[-1] if runs else None)
    phase, reason, message = row.phase, row.reason, row.message
    ended = outcomes.get(f"{last.namespace}/{last.name}") if last is not None and not last.live else None
    if last is not None and last.live and not last.holds:
        phase, reason = Phase.SUSPENDED, str(ConditionReason.SUSPENDED)
        message = f"StarPipeline {last.name} is suspended and has given its GPUs back; it goes on when there is room"
    elif last is not None and last.live:
        phase, reason = Phase.RUNNING, str(ConditionReason.STARTED)
        message = f"StarPipeline {last.name}, the run of {of_seconds(last.tick)}, was started"
    elif wait is None and row.reason in STAYS and row.run == (last.name if last is not None else ""):
        pass
    elif ended is not None and last is not None:
        phase = ended.phase
        reason = str(ConditionReason.SUCCEEDED if phase is Phase.SUCCEEDED else ConditionReason.STAGE_FAILED)
        message = f"StarPipeline {last.name}: {ended.message}"
    elif wait is None:
        phase, reason, message = Phase.PENDING, "", "nothing was due yet"
    if wait is not None:
        waits = wait.reason not in NOT_WAITING and not live
        phase = Phase.WAITING if waits else phase
        reason, message = str(wait.reason), sentence(wait)
    return row.model_copy(
        update={
            "phase": phase,
            "reason": reason,
            "message": _cut(message),
            "run": last.name if last is not None else row.run,
            "gpus": sum(run.gpus for run in live if run.holds),
            **_remembers(kept),
        }
    )


def noted(
    status: RetrainScheduleStatus, memory: Memory, namespaces: Collection[str], request: str
) -> RetrainScheduleStatus:
    """Return the status with a request as it was understood, before anything comes of it."""
    old = {row.namespace: row for row in status.tenants}
    found = []
    for namespace in sorted(namespaces):
        row, kept = old.get(namespace), memory.tenants.get(namespace)
        if kept is not None:
            row = (row or TenantStatus(namespace=namespace)).model_copy(update=_remembers(kept))
        found += [row] if row is not None else []
    return status.model_copy(update={"tenants": tuple(found), "request": request})


def _remembers(kept: Remembered) -> dict[str, Any]:
    return {
        "decided": of_seconds(kept.decided),
        "waiting_since": _text(kept.since),
        "asked": _text(kept.asked),
        "owed": tuple(of_seconds(tick) for tick in kept.owed),
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."


def _text(seconds: int | None) -> str | None:
    return of_seconds(seconds) if seconds is not None else None


def _seconds(text: str | None) -> int | None:
    return to_seconds(text) if text is not None else None
