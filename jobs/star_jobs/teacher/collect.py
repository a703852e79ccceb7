"""Stage `collect-trajectories`: the shards' part objects -> trajectories, what came of each run, and statistics.

Refuses to make an artifact of an incomplete set, of a model's garbage, or of nothing to train on.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO

from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind
from star_contracts.data import Trajectory
from star_contracts.errors import JobWarning, Reason, WarningReason
from star_contracts.job import CollectTrajectories
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage.records import to_line, write_jsonl
from star_jobs.teacher import report
from star_jobs.teacher.earlier import ANSWERS
from star_jobs.teacher.records import FOLDER, RunRecord
from star_jobs.teacher.statistics import Statistics, StatisticsBuilder
from star_jobs.teacher.team import check_outputs
from star_jobs.teacher.worklist import WorkItem, chosen_tasks, work_items

TRAJECTORIES = "trajectories.jsonl"
RUNS = "runs.jsonl"
STATS = "stats.json"
REPORT = "statistics.md"

_DOWNLOADS = 16
_BATCH = 256
"""Objects fetched ahead: bounds memory."""


def run(stage: CollectTrajectories, job: JobContext) -> Outcome:
    """Write the trajectories artifact: all runs in the order of the work list, kept or not.

    Raises TerminalFailure: ArtifactNotFound when runs are missing, ArtifactCorrupted for an object that is no record,
    LLMOutputInvalid when most of the model's answers were unusable, NothingKept when no trajectory passed the filter.
    """
    dataset = Dataset(job.fetch(stage.dataset))
    items = work_items(chosen_tasks(dataset, stage.split, stage.tasks), stage.passes)
    _check_complete(items, job)
    builder = StatisticsBuilder()
    path, runs, answers = (job.scratch / name for name in (TRAJECTORIES, RUNS, ANSWERS))
    with runs.open("wb") as results, answers.open("wb") as given:
        write_jsonl(path, _trajectories(items, job, builder, results, given))
    statistics = builder.build()
    job.log.info("statistics", **statistics.to_json_dict())
    _check_usable(statistics, stage)
    job.output.add_file(path, TRAJECTORIES)
    job.output.add_file(runs, RUNS)
    job.output.add_file(answers, ANSWERS)
    job.output.add_bytes(statistics.model_dump_json(by_alias=True, indent=2).encode(), STATS)
    job.output.add_bytes(report.render(statistics).encode(), REPORT)
    return Outcome(
        kind=ArtifactKind.TRAJECTORIES,
        inputs={"dataset": stage.dataset.digest},
        metrics=statistics.metrics(),
        warnings=warnings_of(statistics),
    )


def warnings_of(statistics: Statistics) -> list[JobWarning]:
    """Return what a person should know of the trajectories."""
    if not statistics.look_ups_left_out:
        return []
    message = (
        f"{statistics.look_ups_left_out} look-ups were not offered to the agents, as ids with quotes, angle brackets, "
        "backslashes or more than 200 characters cannot be written in a tool call"
    )
    return [JobWarning(reason=WarningReason.LOOK_UPS_LEFT_OUT, message=message)]


def _check_complete(items: Sequence[WorkItem], job: JobContext) -> None:
    there = set(job.work.list(FOLDER))
    missing = [item for item in items if item.name not in there]
    if missing:
        first = missing[0]
        raise TerminalFailure(
            Reason.ARTIFACT_NOT_FOUND,
            f"{len(missing)} of {len(items)} trajectories are missing under {job.work.uri} (first: task "
            f"{first.task.task_id}, pass {first.pass_index}); run the generate step again",
        )


def _trajectories(
    items: Sequence[WorkItem], job: JobContext, builder: StatisticsBuilder, results: BinaryIO, given: BinaryIO
) -> Iterator[Trajectory]:
    """Yield the trajectories in order; on the way every record is counted, and its result and answers written."""
    done = 0
    remaining = iter(items)
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        while batch := list(islice(remaining, _BATCH)):
            job.raise_if_stopping()
            for record in pool.map(lambda item: _record(item, job), batch):
                builder.add(record)
                results.write(to_line(record.result()))
                given.write(to_line(record.given()))
                done += 1
                if record.trajectory is not None:
                    yield record.trajectory
            job.progress(done, len(items), "trajectories")


def _record(item: WorkItem, job: JobContext) -> RunRecord:
    data = job.work.get(item.name)
    try:
        record = RunRecord.model_validate_json(data or b"")
    except ValidationError as error:
        raise _corrupted(item, job, error.errors()[0]["msg"]) from error
    if (record.task_id, record.pass_index) != (item.task.task_id, item.pass_index):
        raise _corrupted(item, job, f"it is of task {record.task_id}, pass {record.pass_index}")
    return record


def _corrupted(item: WorkItem, job: JobContext, problem: str) -> TerminalFailure:
    return TerminalFailure(
        Reason.ARTIFACT_CORRUPTED,
        f"{job.work.uri}/{item.name} is not the record of task {item.task.task_id}, pass {item.pass_index}: {problem}; "
        "delete it and run the generate step again",
    )


def _check_usable(statistics: Statistics, stage: CollectTrajectories) -> None:
    overall = statistics.overall
    check_outputs(statistics.outputs, statistics.invalid_outputs, statistics.model)
    if overall.kept:
        return
    advice = (
        "raise passes or tasks, take fewer candidates (the RecDataset's tasks.candidates) or a more capable teacher"
    )
    if statistics.refusal:
        advice = f"{statistics.refused} were refused: {statistics.refusal}"
    raise TerminalFailure(
        Reason.NOTHING_KEPT,
        f"none of {overall.runs} trajectories passed the filter {stage.filter.value} (HR@1 {overall.hr1:.3f}, HR@3 "
        f"{overall.hr3:.3f}, HR@5 {overall.hr5:.3f}, {statistics.unranked} without a readable ranking); {advice}",
    )
