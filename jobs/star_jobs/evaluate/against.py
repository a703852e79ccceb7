"""Another evaluation's results on the same tasks, to be compared with in pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.errors import Reason
from star_contracts.job import Evaluate
from star_jobs.errors import TerminalFailure
from star_jobs.evaluate.figures import TaskResult
from star_jobs.evaluate.metrics import Hits, hits_of_answers
from star_jobs.evaluate.report import REPORT, TASKS, Against, Report
from star_jobs.evaluate.suite import Suite
from star_jobs.runtime import JobContext
from star_jobs.storage import read_jsonl

_SAME = ("types", "samples", "seed")
"""Settings that decide which of a dataset's test tasks are measured."""


@dataclass(frozen=True)
class Other:
    """What an evaluation is compared against."""

    about: Against
    hits: Hits
    """One row a task, in the order of this evaluation's suite."""


def load_other(stage: Evaluate, suite: Suite, job: JobContext) -> Other | None:
    """Fetch what `spec.against` names; None where it names nothing.

    Raises TerminalFailure(NotComparable): it is no report, measured no model, or other tasks. Else as `job.fetch`.
    """
    if stage.against is None:
        return None
    name = stage.against_name or stage.against.uri
    report, results = _read(job.fetch(stage.against, only=(REPORT, TASKS)), name)
    _check(report, results, name, stage, suite)
    everything = report.suites[0].model
    if everything is None or report.model is None:
        raise _not_comparable(name, "measured no model; name an Evaluation that has spec.llm")
    hits = hits_of_answers([results[task.task_id].ranks for task in suite.tasks])
    return Other(_about(name, report, stage.against, everything.latency_p50), hits)


def _about(name: str, report: Report, ref: ArtifactRef, latency: float) -> Against:
    return Against(name=name, model=report.model or "", report=ref.digest, latency_p50=latency)


def _read(folder: Path, name: str) -> tuple[Report, Mapping[str, TaskResult]]:
    if not (folder / REPORT).is_file() or not (folder / TASKS).is_file():
        raise _not_comparable(
            name,
            f"holds no {REPORT} with {TASKS}; name an Evaluation, and run one made by an older version again "
            "(cachePolicy: Never)",
        )
    try:
        report = Report.model_validate_json((folder / REPORT).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _not_comparable(
            name, f"has a {REPORT} of another version ({where}: {first['msg']}); run it again with this one"
        ) from error
    return report, {result.task_id: result for result in read_jsonl(folder / TASKS, TaskResult)}


def _check(report: Report, results: Mapping[str, TaskResult], name: str, stage: Evaluate, suite: Suite) -> None:
    theirs = report.inputs.get("dataset", "none")
    if theirs != stage.dataset.digest:
        raise _not_comparable(
            name,
            f"was measured on dataset {theirs}, and this evaluation on {stage.dataset.digest}; "
            "compare evaluations of the same RecDataset",
        )
    if results.keys() == {task.task_id for task in suite.tasks}:
        return
    before, now = report.settings.to_json_dict(), stage.settings.to_json_dict()
    different = [
        f"settings.{key} {before.get(key, 'unset')} there and {now.get(key, 'unset')} here"
        for key in _SAME
        if before.get(key) != now.get(key)
    ]
    raise _not_comparable(
        name,
        f"measured other tasks of this dataset ({len(results)} there, {len(suite.tasks)} here; "
        f"{'; '.join(different) or 'with equal settings'}); give both the same settings.types, samples and seed",
    )


def _not_comparable(name: str, what: str) -> TerminalFailure:
    return TerminalFailure(Reason.NOT_COMPARABLE, f"spec.against: {name} {what}")
