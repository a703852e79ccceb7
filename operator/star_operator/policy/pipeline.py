"""What a pipeline does next, and what it says: (rows, what is seen of their resources, the last status) -> decision.

The stages' resources wait for each other by themselves. So there is little to decide: they are all made at once, those
of an earlier try go, one variant is chosen when all have ended, and what came out is served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from star_operator.api.chain import MODEL, STAGES, TRAINING, Plan, PlannedStage, StageName
from star_operator.api.meta import Phase
from star_operator.api.starpipeline import (
    Goal,
    PinnedModel,
    Select,
    StageStatus,
    StarPipelineSpec,
    StarPipelineStatus,
)
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.core.times import parse_timestamp, timestamp
from star_operator.policy.conditions import FAILED

ENDED = (Phase.SUCCEEDED, Phase.FAILED)
MAX_MESSAGE = 512
SUSPENDED = (
    "spec.suspend is true: set it to false to go on; a schedule's run then waits until there is room for it again"
)


@dataclass(frozen=True)
class Seen:
    """What matters of a row's resource."""

    uid: str
    ours: bool
    """This pipeline made it; always true of what is used."""
    tries: int = 1
    """Which make of it this is."""
    deleting: bool = False
    suspended: bool = False
    phase: Phase = Phase.PENDING
    reason: AnyReason = ConditionReason.STARTING
    message: str = ""
    progress: str = ""
    done: int = 0
    total: int = 0
    """Units of the running step; 0 where they are not known."""
    reused: bool = False
    model: PinnedModel | None = None
    """What it made, where that is a model; what it serves, where it serves."""
    digest: str = ""
    """Of its artifact."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    headline: str = ""


@dataclass(frozen=True)
class Decision:
    """What to do, in this order, and what to say."""

    delete: tuple[PlannedStage, ...]
    make: tuple[PlannedStage, ...]
    suspend: tuple[PlannedStage, ...]
    """Those whose `suspend` differs from the pipeline's."""
    chosen: str | None
    """The variant that goes on, once that is decided."""
    status: StarPipelineStatus
    phase: Phase
    reason: AnyReason
    message: str


def decide(
    spec: StarPipelineSpec, plan: Plan, seen: Mapping[str, Seen], status: StarPipelineStatus, now: datetime
) -> Decision:
    """Return what to do now. `seen` is by row; a row without a resource is not in it."""
    before = {row.name: row for row in status.stages}
    made = [row for row in plan.rows if row.made]
    delete = tuple(row for row in made if _goes(spec, row, seen.get(row.row), _tries(before, row)))
    make = tuple(row for row in made if row.row not in seen and not spec.cancel)
    suspend = tuple(row for row in made if row not in delete and _differs(spec, seen.get(row.row)))
    present = {
        row.row: one
        for row in plan.rows
        if (one := seen.get(row.row)) is not None and not one.deleting and one.tries >= _tries(before, row)
    }
    rows = tuple(_row(row, present.get(row.row), before.get(row.row), now) for row in plan.rows)
    deployment = [row for row in status.stages if row.stage == StageName.DEPLOYMENT]
    told = {row.name: row for row in rows}
    faulty = _faulty(plan, seen)
    outcome = faulty or (_cancelled(plan, seen) if spec.cancel else _outcome(spec, plan, told, present))
    update = {
        "stages": (*rows, *deployment),
        "progress_text": _progress((*rows, *deployment), has_deployment=spec.deployment is not None),
        "gpu_seconds_spent": round(sum(_spent(row, now) for row in rows), 1),
        "gpu_seconds_left": _left(rows, now),
    }
    if outcome.chosen is not None:
        update |= {"variant": outcome.chosen} | _result(plan.chains[outcome.chosen], present)
    return Decision(
        () if faulty else delete,
        () if faulty else make,
        () if faulty else suspend,
        outcome.chosen,
        status.model_copy(update=update),
        outcome.phase,
        outcome.reason,
        outcome.message,
    )


def _tries(before: Mapping[str, StageStatus], row: PlannedStage) -> int:
    return before[row.row].tries if row.row in before else 1


def _goes(spec: StarPipelineSpec, row: PlannedStage, seen: Seen | None, tries: int) -> bool:
    if seen is None or not seen.ours or seen.deleting:
        return False
    return seen.tries < tries or (spec.cancel and seen.phase not in ENDED)


def _differs(spec: StarPipelineSpec, seen: Seen | None) -> bool:
    if seen is None or seen.phase in ENDED or seen.deleting or not seen.ours:
        return False
    return seen.suspended != spec.suspend


@dataclass(frozen=True)
class _Outcome:
    phase: Phase
    reason: AnyReason
    message: str
    chosen: str | None = None


def _outcome(spec: StarPipelineSpec, plan: Plan, rows: Mapping[str, StageStatus], seen: Mapping[str, Seen]) -> _Outcome:
    """Say how far the chains are; `seen` has only what is of the present try."""
    ends = {variant: _end(chain, rows, seen) for variant, chain in plan.chains.items()}
    waiting = [variant for variant, end in ends.items() if end is None]
    failed = {variant: end for variant, end in ends.items() if end}
    if waiting and not (failed and len(plan.chains) == 1):
        return _under_way(spec, plan, rows, seen)
    if failed and (spec.select is None or len(failed) == len(ends)):
        return _Outcome(Phase.FAILED, ConditionReason.STAGE_FAILED, next(iter(failed.values())))
    done = [variant for variant, end in ends.items() if end == ""]
    if spec.select is not None and len(plan.chains) > 1:
        return _selected(spec.select, {variant: _measured(plan.chains[variant], seen) for variant in done}, failed)
    return _Outcome(Phase.RUNNING, ConditionReason.STAGES_DONE, "all stages are done", done[0])


def _faulty(plan: Plan, seen: Mapping[str, Seen]) -> _Outcome | None:
    """Return why a row's resource cannot be the one that was meant, if so."""
    for row in plan.rows:
        one = seen.get(row.row)
        if one is not None and not one.ours:
            text = f"{row.stage}: {row.kind} {row.name} is there and belongs to somebody else"
            told = f"{text}; delete it, or give the pipeline another name"
            return _Outcome(Phase.FAILED, ConditionReason.NAME_TAKEN, told)
        if one is not None and row.digest is not None and one.digest and one.digest != row.digest:
            text = f"spec.{row.stage}.use.digest is {row.digest}, but {row.kind} {row.name} is {one.digest}"
            return _Outcome(Phase.FAILED, ConditionReason.DIGEST_MISMATCH, f"{text}; correct one of them")
    return None


def _cancelled(plan: Plan, seen: Mapping[str, Seen]) -> _Outcome:
    left = [row.row for row in plan.rows if row.made and row.row in seen and seen[row.row].phase not in ENDED]
    if left:
        return _Outcome(Phase.RUNNING, ConditionReason.CANCELLING, f"cancelled: {', '.join(left)} is being ended")
    text = "spec.cancel is true: what had not ended was ended; what was done is kept and is reused by the next one"
    return _Outcome(Phase.FAILED, ConditionReason.CANCELLED, text)


def _end(chain: Sequence[PlannedStage], rows: Mapping[str, StageStatus], seen: Mapping[str, Seen]) -> str | None:
    """Return "" when a chain has ended well, a sentence when it has failed, None while it has not ended."""
    for row in chain:
        told = rows[row.row]
        if told.phase is Phase.FAILED:
            return f"stage {row.row} failed: {told.message}"
    done = all(rows[row.row].phase is Phase.SUCCEEDED for row in chain)
    model = next((row for row in reversed(chain) if row.stage in TRAINING), None)
    made = model is None or model.kind == MODEL or (model.row in seen and seen[model.row].model is not None)
    return "" if done and made else None


def _under_way(
    spec: StarPipelineSpec, plan: Plan, rows: Mapping[str, StageStatus], seen: Mapping[str, Seen]
) -> _Outcome:
    """Say what the first row that has not ended does."""
    if spec.suspend:
        return _Outcome(Phase.SUSPENDED, ConditionReason.SUSPENDED, SUSPENDED)
    going = [row for row in plan.rows if rows[row.row].phase not in ENDED] or [plan.rows[-1]]
    busy = [row for row in going if rows[row.row].phase is Phase.RUNNING]
    first = (busy or going)[0]
    told = rows[first.row]
    phase = told.phase if told.phase in (Phase.WAITING, Phase.QUEUED) else Phase.RUNNING
    reason = seen[first.row].reason if first.row in seen and phase is not Phase.RUNNING else ConditionReason.RUNNING
    text = f"stage {first.row}: {told.message or 'just begun'}"
    return _Outcome(phase, reason, text)


def _measured(chain: Sequence[PlannedStage], seen: Mapping[str, Seen]) -> Mapping[str, float]:
    last = next((row for row in reversed(chain) if row.stage is StageName.EVALUATION), None)
    return seen[last.row].metrics if last is not None and last.row in seen else {}


def _selected(select: Select, measured: Mapping[str, Mapping[str, float]], failed: Mapping[str, str]) -> _Outcome:
    """Choose among the variants that ended well; the first of equals."""
    figures = {variant: metrics[select.metric] for variant, metrics in measured.items() if select.metric in metrics}
    if not figures:
        known = sorted({name for metrics in measured.values() for name in metrics})
        text = (
            f"spec.select.metric is {select.metric}, which no evaluation has (they have {', '.join(known) or 'none'})"
        )
        return _Outcome(Phase.FAILED, ConditionReason.NO_SUCH_METRIC, f"{text}; name one of these")
    best = (max if select.goal is Goal.HIGHEST else min)(figures, key=lambda variant: figures[variant])
    listed = ", ".join(f"{variant} {value:.4g}" for variant, value in sorted(figures.items()))
    but = f"; without {', '.join(sorted(failed))}, which failed" if failed else ""
    text = f"variant {best} is chosen by {select.metric} ({listed}){but}"
    return _Outcome(Phase.RUNNING, ConditionReason.SELECTED, text, best)


def _row(planned: PlannedStage, seen: Seen | None, before: StageStatus | None, now: datetime) -> StageStatus:
    """Return what status says of a row."""
    row = before or StageStatus(
        name=planned.row, stage=planned.stage, variant=planned.variant, kind=planned.kind, resource=planned.name
    )
    phase = seen.phase if seen is not None else Phase.PENDING
    if phase is Phase.READY:  # a Checkpoint that is used
        phase = Phase.SUCCEEDED
    running = phase is Phase.RUNNING
    since = (row.running_since or timestamp(now)) if running else None
    spent = row.gpu_seconds if running else round(_spent(row, now), 1)
    if seen is not None and seen.reused and row.tries == 1:
        spent = 0.0  # what looked whether there was anything to do held no GPU
    return row.model_copy(
        update={
            "phase": phase,
            "progress": seen.progress if seen is not None and running else "",
            "eta": _eta(seen, since, now),
            "reused": seen.reused if seen is not None else False,
            "message": seen.message[:MAX_MESSAGE] if seen is not None else "",
            "gpus": planned.gpus,
            "running_since": since,
            "gpu_seconds": spent,
        }
    )


def _eta(seen: Seen | None, since: str | None, now: datetime) -> str | None:
    """Return when the running step ends, if it goes on as it has gone since the row began to run."""
    if seen is None or since is None or not 0 < seen.done <= seen.total:
        return None
    gone = now - parse_timestamp(since)
    return timestamp(now + gone * ((seen.total - seen.done) / seen.done))


def _spent(row: StageStatus, now: datetime) -> float:
    """Return a row's GPU-seconds, those of the present run among them."""
    if row.running_since is None:
        return row.gpu_seconds
    return row.gpu_seconds + row.gpus * max(0.0, (now - parse_timestamp(row.running_since)).total_seconds())


def _left(rows: Sequence[StageStatus], now: datetime) -> float | None:
    known = [(row.gpus, parse_timestamp(row.eta)) for row in rows if row.eta is not None]
    return round(sum(gpus * (eta - now).total_seconds() for gpus, eta in known), 1) if known else None


def _progress(rows: Sequence[StageStatus], *, has_deployment: bool) -> str:
    total = sum(row.stage != StageName.DEPLOYMENT for row in rows) + has_deployment
    return f"{sum(row.phase is Phase.SUCCEEDED for row in rows)}/{total} stages"


def _result(chain: Sequence[PlannedStage], seen: Mapping[str, Seen]) -> dict[str, object]:
    """Return what a chain that has ended well gave."""
    model = next((seen[row.row].model for row in reversed(chain) if row.stage in TRAINING), None)
    last = next((seen[row.row] for row in reversed(chain) if row.stage is StageName.EVALUATION), None)
    measured = {"metrics": dict(last.metrics), "headline": last.headline} if last is not None else {}
    return {"checkpoint": model, **measured}


def retried(status: StarPipelineStatus, stage: StageName, value: str) -> StarPipelineStatus:
    """Return the status of a retry from a stage: its rows and those after it are made once more."""
    again = STAGES[STAGES.index(stage) :]
    rows = tuple(
        StageStatus(
            name=row.name,
            stage=row.stage,
            variant=row.variant,
            kind=row.kind,
            resource=row.resource,
            tries=row.tries + 1,
            gpu_seconds=row.gpu_seconds,
        )
        if row.stage in again
        else row
        for row in status.stages
    )
    conditions = tuple(one for one in status.conditions if one.type != FAILED)
    update = {"stages": rows, "retrying": value, "checkpoint": None, "variant": "", "completion_time": None}
    return status.model_copy(update=update | {"conditions": conditions})


def is_told(status: StarPipelineStatus) -> bool:
    """Say whether the deployment has been told, in the present try, to serve what came out."""
    return any(row.stage == StageName.DEPLOYMENT and row.phase is not Phase.PENDING for row in status.stages)


def deployed(
    status: StarPipelineStatus, name: str, model: PinnedModel, seen: Seen
) -> tuple[StarPipelineStatus, Phase, AnyReason, str]:
    """Return the status with the deployment's row, and the pipeline's phase, reason and message that follow.

    `seen` is the StarDeployment after it was told to serve the model: its `digest` is what its spec names.
    """
    before = next((row for row in status.stages if row.stage == StageName.DEPLOYMENT), None)
    row = before or StageStatus(
        name=StageName.DEPLOYMENT, stage=StageName.DEPLOYMENT, kind="StarDeployment", resource=name
    )
    phase, reason, text = _serves(name, model, seen)
    row = row.model_copy(update={"phase": phase, "message": text[:MAX_MESSAGE]})
    others = tuple(one for one in status.stages if one.stage != StageName.DEPLOYMENT)
    update = {"stages": (*others, row), "progress_text": _progress((*others, row), has_deployment=True)}
    return status.model_copy(update=update), phase, reason, text


def _serves(name: str, model: PinnedModel, seen: Seen) -> tuple[Phase, AnyReason, str]:
    told = f"StarDeployment {name}: {seen.message or 'just told'}"
    if seen.digest != model.digest:
        text = f"StarDeployment {name} was told to serve {seen.digest or 'another model'} by somebody else meanwhile"
        return Phase.FAILED, ConditionReason.MOVED_ON, f"{text}; {model.digest} is not rolled out"
    if seen.phase in (Phase.GATED, Phase.FAILED):
        return Phase.FAILED, ConditionReason.STAGE_FAILED, f"stage {StageName.DEPLOYMENT} failed: {told}"
    if seen.phase is Phase.READY:
        return Phase.SUCCEEDED, ConditionReason.SUCCEEDED, told
    return Phase.RUNNING, ConditionReason.DEPLOYING, told
