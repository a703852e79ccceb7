"""What the measured model is compared with in pairs: another evaluation's model, or a teacher on the same test tasks.

Which of the two an artifact is, its manifest says. Of a TeacherRun as many tasks are taken as this evaluation has: a
teacher is measured once on all test tasks, and students on some of them can still be held against it. Evaluations must
have measured the very same tasks, as their figures (intervals, latency) are of all that they measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind, Manifest
from star_contracts.base import Model
from star_contracts.errors import Reason
from star_contracts.job import Compared, Evaluate
from star_jobs.errors import TerminalFailure
from star_jobs.evaluate.figures import TaskResult
from star_jobs.evaluate.metrics import Hits, hits_of_answers
from star_jobs.evaluate.report import REPORT, TASKS, Against, Report
from star_jobs.evaluate.suite import Suite
from star_jobs.runtime import JobContext
from star_jobs.storage import read_jsonl, read_manifest
from star_jobs.teacher.collect import RUNS, STATS
from star_jobs.teacher.records import RunResult
from star_jobs.teacher.statistics import Statistics

ModelT = TypeVar("ModelT", bound=Model)

_SAME = ("types", "samples", "seed")
"""Settings that decide which of a dataset's test tasks are measured."""


@dataclass(frozen=True)
class Other:
    """What an evaluation is compared against."""

    about: Against
    hits: Hits
    """One row a task, in the order of this evaluation's suite."""


@dataclass(frozen=True)
class _Measured:
    """How the other did on this evaluation's tasks."""

    model: str
    ranks: list[tuple[int | None, ...]]
    """By task, in the order of the suite: the place of the ground truth in each answer, None for a miss."""
    latency: float
    """Median seconds of an answer, or of a teacher's whole run."""
    gpus: int | None
    """As in `Against`."""


def load_others(stage: Evaluate, suite: Suite, job: JobContext) -> dict[str, Other]:
    """Fetch all that the model is compared with, by path in the spec.

    Raises TerminalFailure(NotComparable): one is neither report nor trajectories, or of no model, of another dataset or
    of other tasks. Else as `job.fetch`.
    """
    return {path: _load(compared, f"spec.{path}", stage, suite, job) for path, compared in stage.compared.items()}


def _load(compared: Compared, field: str, stage: Evaluate, suite: Suite, job: JobContext) -> Other:
    ref, name = compared.artifact, compared.name or compared.artifact.uri
    manifest, called = read_manifest(job.store, ref), f"{field}: {name}"
    read = _READERS.get(manifest.kind)
    if read is None:
        raise _not_comparable(called, f"is an artifact of kind {manifest.kind}; name an Evaluation or a TeacherRun")
    _check_dataset(manifest, called, stage)
    measured = read(job.fetch(ref, only=(REPORT, TASKS, RUNS, STATS)), called, stage, suite)
    about = Against(
        name=name, model=measured.model, report=ref.digest, latency_p50=measured.latency, gpus=measured.gpus
    )
    return Other(about, hits_of_answers(measured.ranks))


def _check_dataset(manifest: Manifest, called: str, stage: Evaluate) -> None:
    theirs = manifest.inputs.get("dataset", "none")
    if theirs != stage.dataset.digest:
        raise _not_comparable(
            called,
            f"was measured on dataset {theirs}, and this evaluation on {stage.dataset.digest}; "
            "compare what was measured on the same RecDataset",
        )


def _evaluation(folder: Path, called: str, stage: Evaluate, suite: Suite) -> _Measured:
    report = _parsed(folder / REPORT, Report, called)
    _require(folder / TASKS, called)
    results = {result.task_id: result for result in read_jsonl(folder / TASKS, TaskResult)}
    _check_tasks(report, results, called, stage, suite)
    everything = report.suites[0].model
    if everything is None or report.model is None:
        raise _not_comparable(called, "measured no model; name an Evaluation that has spec.llm")
    ranks = [results[task.task_id].ranks for task in suite.tasks]
    return _Measured(report.model, ranks, everything.latency_p50, report.gpus)


def _check_tasks(report: Report, results: Mapping[str, TaskResult], called: str, stage: Evaluate, suite: Suite) -> None:
    if results.keys() == {task.task_id for task in suite.tasks}:
        return
    before, now = report.settings.to_json_dict(), stage.settings.to_json_dict()
    different = [
        f"settings.{key} {before.get(key, 'unset')} there and {now.get(key, 'unset')} here"
        for key in _SAME
        if before.get(key) != now.get(key)
    ]
    raise _not_comparable(
        called,
        f"measured other tasks of this dataset ({len(results)} there, {len(suite.tasks)} here; "
        f"{'; '.join(different) or 'with equal settings'}); give both the same settings.types, samples and seed",
    )


def _teacher(folder: Path, called: str, stage: Evaluate, suite: Suite) -> _Measured:
    """Read a teacher's runs of the suite's tasks; several passes over a task are several answers to it."""
    statistics = _parsed(folder / STATS, Statistics, called)
    _require(folder / RUNS, called)
    runs: dict[str, list[RunResult]] = {task.task_id: [] for task in suite.tasks}
    for run in read_jsonl(folder / RUNS, RunResult):
        if run.task_id in runs:
            runs[run.task_id].append(run)
    _check_runs(runs, called)
    ranks = [tuple(run.rank for run in of_task) for of_task in runs.values()]
    seconds = [run.seconds for of_task in runs.values() for run in of_task if not run.refused]
    gpus = {run.gpus for of_task in runs.values() for run in of_task}
    return _Measured(statistics.model, ranks, median(seconds or [0.0]), gpus.pop() if len(gpus) == 1 else None)


def _check_runs(runs: Mapping[str, list[RunResult]], called: str) -> None:
    missing = [task_id for task_id, of_task in runs.items() if not of_task]
    if len(missing) == len(runs):
        raise _not_comparable(
            called,
            f"ran on none of this evaluation's {len(runs)} tasks, but on training tasks or other test tasks; name one "
            "with split: Test and filter: None",
        )
    if missing:
        raise _not_comparable(
            called,
            f"has no run of {len(missing)} of this evaluation's {len(runs)} tasks (first: {missing[0]}); name a "
            "TeacherRun on all test tasks (without spec.tasks), or one whose spec.tasks are this evaluation's "
            "settings.samples times the dataset's types, with the default settings.seed",
        )


_READERS: Mapping[ArtifactKind, Callable[[Path, str, Evaluate, Suite], _Measured]] = {
    ArtifactKind.REPORT: _evaluation,
    ArtifactKind.TRAJECTORIES: _teacher,
}


def _parsed(path: Path, model: type[ModelT], called: str) -> ModelT:
    _require(path, called)
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _not_comparable(
            called, f"has a {path.name} of another version ({where}: {first['msg']}); run it again with this one"
        ) from error


def _require(path: Path, called: str) -> None:
    if not path.is_file():
        raise _not_comparable(
            called, f"holds no {path.name}: it was made by an older version; delete it and apply it again"
        )


def _not_comparable(called: str, what: str) -> TerminalFailure:
    return TerminalFailure(Reason.NOT_COMPARABLE, f"{called} {what}")
