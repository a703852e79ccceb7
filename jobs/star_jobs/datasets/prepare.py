"""Stage `prepare-dataset`: source tables in the store -> an immutable dataset snapshot (layout: docs/artifacts.md)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from star_contracts.artifact import ArtifactKind
from star_contracts.base import canonical_json
from star_contracts.data import GroundTruth, RankingTask
from star_contracts.job import PrepareDataset
from star_contracts.settings import DatasetFormat
from star_jobs.datasets import agentrecbench, movielens, snapshot, tables
from star_jobs.datasets.download import download
from star_jobs.datasets.faults import FileReport
from star_jobs.datasets.formats import WANTED
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.leakage import safe_mask
from star_jobs.datasets.limits import Doubt
from star_jobs.datasets.plan import GIVEN_TASKS, Draft, Plan, make_plan
from star_jobs.datasets.source import SourceTables
from star_jobs.datasets.tasks import RATING_DIGITS, Thresholds, interactions_at, shown_positions, window
from star_jobs.datasets.texts import ShownTexts
from star_jobs.datasets.warn import warnings_of
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage import write_jsonl
from star_jobs.storage.inventory import require_pinned, require_unchanged, take_inventory

_READ: Mapping[DatasetFormat, Callable[[Path, float, float], SourceTables]] = {
    DatasetFormat.MOVIELENS: movielens.read,
    DatasetFormat.AGENT_REC_BENCH: agentrecbench.read,
}
_STEPS = 4
_BATCH = 1 << 18
"""Interactions written at once."""


def run(stage: PrepareDataset, job: JobContext) -> Outcome:
    """Make the dataset. Raises TerminalFailure(InvalidDataset) naming file, line and what is wrong with it."""
    wanted, read = WANTED[stage.format], _READ[stage.format]
    source_files = take_inventory(job.store, stage.source, wanted)
    require_pinned(source_files, stage.source, stage.source_digest)
    job.pin(source_files)
    folder = download(stage.source, wanted, job)
    require_unchanged(source_files, take_inventory(job.store, stage.source, wanted), stage.source)
    job.progress(1, _STEPS, "steps")
    source = read(folder, stage.max_malformed, stage.max_implausible)
    job.raise_if_stopping()
    job.progress(2, _STEPS, "steps")
    plan = make_plan(source, stage.tasks, stage.leakage, stage.max_implausible)
    job.raise_if_stopping()
    job.progress(3, _STEPS, "steps")
    metrics = write_snapshot(job.scratch / "dataset", source, plan, stage)
    job.output.add_tree(job.scratch / "dataset")
    job.progress(_STEPS, _STEPS, "steps")
    return Outcome(ArtifactKind.DATASET, metrics=metrics, warnings=warnings_of(_reports(source, plan), plan.skipped))


def write_snapshot(folder: Path, source: SourceTables, plan: Plan, stage: PrepareDataset) -> dict[str, float]:
    """Write the snapshot's files into `folder`; return the headline metrics."""
    full = plan.full
    safe = safe_mask(full, plan.answers(), stage.leakage)
    folder.mkdir(parents=True)
    with ShownTexts(_rows_shown(plan, stage), folder.parent) as texts:
        tables.write_tables(folder / snapshot.TABLES, source, safe, texts)
        _write_tasks(folder, source, plan, stage, texts)
    _write_interactions(folder / snapshot.INTERACTIONS, full, safe.nonzero()[0])
    reports = _reports(source, plan)
    doubts = sum((Counter(report.doubts) for report in reports.values()), Counter[Doubt]())
    metrics: dict[str, float] = {
        "users": int((full.activity() > 0).sum()),
        "items": len(full.catalogue),
        "interactions": len(full.items),
        "trainTasks": len(plan.train),
        "testTasks": len(plan.test),
        "malformed": source.faults.total(),
        **{fault.value: count for fault, count in sorted(source.faults.items())},
        **{doubt.value: count for doubt, count in sorted(doubts.items())},
        **({"usersSkipped": plan.skipped} if plan.skipped else {}),
    }
    stats = {
        **metrics,
        **_details(plan),
        "historyLength": stage.tasks.history_length,
        "safeInteractions": int(safe.sum()),
        "files": {name: report.to_json() for name, report in reports.items()},
    }
    (folder / snapshot.STATS).write_bytes(canonical_json(stats))
    return metrics


def _write_tasks(folder: Path, source: SourceTables, plan: Plan, stage: PrepareDataset, texts: ShownTexts) -> None:
    splits: tuple[tuple[snapshot.Split, Sequence[Draft]], ...] = (("train", plan.train), ("test", plan.test))
    for split, drafts in splits:
        write_jsonl(folder / snapshot.tasks_file(split), (_task(draft, source, stage, texts) for draft in drafts))
        write_jsonl(folder / snapshot.truth_file(split), map(_truth, drafts))


def _write_interactions(path: Path, histories: Histories, positions: NDArray[np.int64]) -> None:
    """Write interactions as Parquet in user and time order, a batch in memory at a time."""
    rating = pl.col("rating").cast(pl.Float64).round(RATING_DIGITS)
    first = tables.interactions_frame(histories, positions[:0]).with_columns(rating).drop("row")

    def batches(
        _columns: list[str] | None, _predicate: pl.Expr | None, _rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        for at in range(0, max(len(positions), 1), _BATCH):
            yield tables.interactions_frame(histories, positions[at : at + _BATCH]).with_columns(rating).drop("row")

    register_io_source(batches, schema=first.schema, validate_schema=True).sink_parquet(path)


def _reports(source: SourceTables, plan: Plan) -> Mapping[str, FileReport]:
    """Return what was left out of each file and what is in doubt, the source's own test tasks after the files."""
    return {**source.files, **({GIVEN_TASKS: plan.given} if plan.given else {})}


def _positions(draft: Draft, stage: PrepareDataset) -> NDArray[np.int64]:
    length = window(draft.moment.type, stage.tasks.history_length)
    return shown_positions(draft.histories, draft.moment, stage.leakage, length)


def _rows_shown(plan: Plan, stage: PrepareDataset) -> NDArray[np.uint32]:
    """Return the source rows that histories show, ascending."""
    shown = [draft.histories.rows[_positions(draft, stage)] for draft in (*plan.test, *plan.train)]
    return np.unique(np.concatenate([np.empty(0, np.uint32), *shown]))


def _task(draft: Draft, source: SourceTables, stage: PrepareDataset, texts: ShownTexts) -> RankingTask:
    user_id = draft.histories.users[draft.moment.user]
    return RankingTask(
        task_id=draft.task_id,
        type=draft.moment.type,
        user_id=user_id,
        candidates=draft.candidates,
        seed=draft.seed,
        history=interactions_at(draft.histories, _positions(draft, stage), texts.text),
        profile=dict(source.users.get(user_id, {})),
    )


def _truth(draft: Draft) -> GroundTruth:
    return GroundTruth(task_id=draft.task_id, item_id=draft.histories.catalogue[draft.moment.item])


def _details(plan: Plan) -> dict[str, Any]:
    """Return what stats.json says beyond the headline metrics: tasks by type and what counted as cold."""
    limits = Thresholds.of(plan.full)
    return {
        "tasks": {
            split: dict(Counter(draft.moment.type.value for draft in drafts))
            for split, drafts in (("train", plan.train), ("test", plan.test))
        },
        "coldUserInteractions": limits.user_interactions,
        "coldItemInteractions": limits.item_interactions,
    }
