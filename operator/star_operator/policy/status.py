"""Status as a function of what was decided: one new status a pass, written once."""

from dataclasses import dataclass
from typing import TypeVar

from star_contracts.result import JobResult
from star_operator.api.meta import (
    MAX_COUNTED_SHARDS,
    ArtifactStatus,
    Condition,
    Phase,
    Progress,
    Status,
    StepStatus,
)
from star_operator.api.recdataset import RecDatasetStatus
from star_operator.core.progress import Reported, merge_metrics
from star_operator.core.reasons import AnyReason
from star_operator.policy.conditions import FAILED, READY, RECONCILING, STALLED, WARNINGS, find, set_condition, way

StatusT = TypeVar("StatusT", bound=Status)

FINISHED = {Phase.SUCCEEDED, Phase.FAILED}
MAX_LIVE_METRICS = 256
"""Names that a status has metrics of while pods report: they choose the names."""
READY_IN = {Phase.SUCCEEDED, Phase.READY}


@dataclass(frozen=True)
class Moment:
    """When, and of which generation, a status is written."""

    now: str
    """RFC 3339, UTC."""
    generation: int


def is_finished(status: Status) -> bool:
    """Say whether the run has ended."""
    return status.phase in FINISHED


def told(
    status: StatusT, at: Moment, phase: Phase, reason: AnyReason, message: str, *, ready: bool | None = None
) -> StatusT:
    """Return the status with this phase, and the conditions that explain it.

    `ready` says whether it is Ready where that does not follow from the phase.
    """
    return _told(status, at, phase, _explained(at, reason, message, phase in READY_IN if ready is None else ready))


def seen_again(status: StatusT, at: Moment) -> StatusT:
    """Return the status of what has ended, as if it ended now: of this generation, with the conditions of this version.

    What may change of it by then (`suspend`, `ttlSecondsAfterFinished`) changes nothing of how it ended.
    """
    old = find(status.conditions, READY)
    if old is None:
        return status
    again = old.model_copy(update={"observed_generation": at.generation})
    return _told(status, at, status.phase, again)


def _explained(at: Moment, reason: str, message: str, ready: bool) -> Condition:
    return Condition(
        type=READY,
        status="True" if ready else "False",
        reason=reason,
        message=message[:4096],
        observed_generation=at.generation,
    )


def _told(status: StatusT, at: Moment, phase: Phase, ready: Condition) -> StatusT:
    """Return the status with this phase, its Ready condition, and those that follow from both."""
    held = {way(phase, ready.reason): True, FAILED: phase is Phase.FAILED}
    before = status.conditions
    conditions = tuple(one for one in before if one.type not in (FAILED, RECONCILING, STALLED) or held.get(one.type))
    conditions = set_condition(conditions, ready, at.now)
    for type_ in (FAILED, RECONCILING, STALLED):
        if held.get(type_):
            condition = ready.model_copy(update={"type": type_, "status": "True"})
            conditions = set_condition(conditions, condition, at.now)
    if warnings := [warning for step in status.steps for warning in step.warnings]:
        text = "; ".join(warning.message for warning in warnings)
        warned = ready.model_copy(
            update={"type": WARNINGS, "status": "True", "reason": warnings[0].reason, "message": text[:4096]}
        )
        conditions = set_condition(conditions, warned, at.now)
    return status.model_copy(update={"phase": phase, "conditions": conditions, "observed_generation": at.generation})


def started(status: StatusT, at: Moment) -> StatusT:
    """Return the status of the first attempt's start."""
    return status.model_copy(update={"attempt": max(1, status.attempt), "start_time": status.start_time or at.now})


def step_done(status: StatusT, name: str, result: JobResult) -> StatusT:
    """Return the status with a step recorded as succeeded."""
    artifact = None
    if result.artifact is not None:
        artifact = ArtifactStatus(uri=result.artifact.uri, digest=result.artifact.digest, bytes=result.bytes)
    step = StepStatus(
        name=name,
        phase=Phase.SUCCEEDED,
        artifact=artifact,
        metrics=result.metrics,
        reused=result.reused,
        warnings=result.warnings,
    )
    found = {"source": result.source} if isinstance(status, RecDatasetStatus) else {}
    return _with_step(status, step).model_copy(update={"progress": None, "progress_text": "", **found})


def step_failed(status: StatusT, name: str) -> StatusT:
    """Return the status with the step's attempt recorded as failed, to be cleared away."""
    return _with_step(status, StepStatus(name=name, phase=Phase.FAILED))


def next_attempt(status: StatusT, name: str) -> StatusT:
    """Return the status of the next attempt; steps that are done stay done."""
    steps = tuple(step for step in status.steps if step.name != name)
    update = {"attempt": status.attempt + 1, "steps": steps, "progress": None, "progress_text": ""}
    return status.model_copy(update=update)


def run_done(status: StatusT, at: Moment) -> StatusT:
    """Return the status of a run whose last step is done."""
    last = status.steps[-1]
    metrics = {name: value for step in status.steps for name, value in step.metrics.items()}
    return status.model_copy(update={"artifact": last.artifact, "metrics": metrics, "completion_time": at.now})


def find_step(status: Status, name: str) -> StepStatus | None:
    """Return what is remembered of a step."""
    return next((step for step in status.steps if step.name == name), None)


def is_done(status: Status, name: str) -> bool:
    """Whether a step has ended well."""
    step = find_step(status, name)
    return step is not None and step.phase is Phase.SUCCEEDED


def current_step(status: Status, names: tuple[str, ...]) -> str | None:
    """Return the first step that is not done, or None when all are."""
    done = {step.name for step in status.steps if step.phase is Phase.SUCCEEDED}
    return next((name for name in names if name not in done), None)


def with_progress(status: StatusT, step: str, reported: Reported | None) -> StatusT:
    """Return the status with what a step's shards have reported added up.

    The reports are those since the operator started; what shards had done before is in the status itself. So the sum
    never goes back within an attempt, also where a shard starts anew from its last part.
    """
    if reported is None:
        return status
    before = status.progress if status.progress is not None and status.progress.step == step else None
    done, total = _by_shard(before, reported)
    summed = max(sum(done), before.done if before is not None else 0)
    known = before.total if before is not None and len(done) > MAX_COUNTED_SHARDS else 0
    progress = Progress(done=summed, total=max(sum(total), summed, known), unit=reported.unit, step=step)
    if 1 < len(done) <= MAX_COUNTED_SHARDS:
        progress = progress.model_copy(update={"done_by_shard": tuple(done), "total_by_shard": tuple(total)})
    metrics = dict(status.metrics)
    merge_metrics(metrics, reported.metrics, MAX_LIVE_METRICS)
    text = f"{progress.done}/{progress.total} {progress.unit}"
    return status.model_copy(update={"progress": progress, "progress_text": text, "metrics": metrics})


def _by_shard(before: Progress | None, reported: Reported) -> tuple[list[int], list[int]]:
    """Return what each shard has done and has to do: as it reported last, but never less done than was shown."""
    count = reported.shards
    done, total = [0] * count, [0] * count
    if before is not None and len(before.done_by_shard) == len(before.total_by_shard) == count:
        done, total = list(before.done_by_shard), list(before.total_by_shard)
    for shard, (so_far, in_all) in reported.counts.items():
        done[shard] = max(done[shard], so_far)
        total[shard] = max(in_all, done[shard])
    return done, total


def _with_step(status: StatusT, step: StepStatus) -> StatusT:
    others = tuple(other for other in status.steps if other.name != step.name)
    return status.model_copy(update={"steps": (*others, step)})
