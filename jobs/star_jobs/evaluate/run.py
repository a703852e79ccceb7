"""Stage `evaluate`: test tasks -> hit rates with intervals beside the baselines (paper 4.1, B, C).

Artifact (kind report): `report.json` (`star_jobs.evaluate.report.Report`), `report.html`, `tasks.jsonl` with every
task's outcome, and, when a model was measured, `answers.jsonl` with every answer as written.
"""

import asyncio

from star_contracts.artifact import ArtifactKind
from star_contracts.errors import Reason
from star_contracts.job import Evaluate, LLMEndpoint
from star_contracts.settings import Baseline
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.evaluate.against import load_others
from star_jobs.evaluate.answers import AnswerRecord, Examinee, collect_answers
from star_jobs.evaluate.baselines import BaselineRun, TrainingMatrix, run_baseline, training_matrix
from star_jobs.evaluate.figures import Measurements, headline, suite_reports, task_results
from star_jobs.evaluate.report import ANSWERS, PAGE, REPORT, TASKS, Report, Timing, render_html
from star_jobs.evaluate.suite import Suite, choose_suite
from star_jobs.llm.client import LLMClient
from star_jobs.lookup import SignalStore
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage import to_line
from star_jobs.trajectory.tools import ToolBox

NEEDED_FILES = ("items.jsonl", "tasks/*", "truth/test.jsonl", "interactions.parquet", "stats.json")
"""Of the dataset: its tables can be many times larger, and are not needed here."""


def run(stage: Evaluate, job: JobContext) -> Outcome:
    """Measure the model, when there is one, and the baselines.

    Raises JobFailure. Terminal: InvalidDataset (a type the dataset does not have), NotComparable (one that the model is
    compared with measured other tasks), InvalidModel, LLMAccessDenied, and LLMOutputInvalid when the server refused
    every single request.
    Retryable: LLMUnreachable, StoreUnreachable, Interrupted. Answers that are garbage are misses, and never an error.
    """
    settings = stage.settings
    dataset = Dataset(job.fetch(stage.dataset, only=NEEDED_FILES))
    suite = choose_suite(dataset, settings)
    others = load_others(stage, suite, job)
    answers = None if stage.llm is None else asyncio.run(_examine(stage.llm, dataset, suite, stage, job))
    training = training_matrix(dataset.interactions(), suite.tasks, suite.truth)
    if training.dropped:
        job.log.warning("ground truth among the training interactions", interactions=training.dropped)
    runs = _run_baselines(stage, suite, training, job)
    hits = {baseline: done.hits for baseline, done in runs.items()}
    measured = Measurements(suite, answers, hits, {path: other.hits for path, other in others.items()})
    report = Report(
        model=stage.llm.model if stage.llm else None,
        inputs=_inputs(stage),
        settings=settings,
        tools=stage.llm is not None and _has_tools(stage),
        leaked_interactions=training.dropped,
        gpus=stage.llm.gpus if stage.llm else None,
        compared={path: other.about for path, other in others.items()},
        suites=suite_reports(measured, settings),
        timings={
            baseline: Timing(fit_seconds=done.fit_seconds, answer_seconds=done.answer_seconds)
            for baseline, done in runs.items()
        },
    )
    _write(report, measured, job)
    return Outcome(kind=ArtifactKind.REPORT, inputs=report.inputs, metrics=headline(report.suites))


def _run_baselines(
    stage: Evaluate, suite: Suite, training: TrainingMatrix, job: JobContext
) -> dict[Baseline, BaselineRun]:
    return {
        baseline: run_baseline(
            baseline, suite.tasks, suite.truth, training, seed=stage.settings.seed, still=job.raise_if_stopping
        )
        for baseline in dict.fromkeys(stage.settings.baselines)
    }


def _has_tools(stage: Evaluate) -> bool:
    return stage.signals is not None and stage.settings.tools and stage.settings.single_agent is None


async def _examine(
    endpoint: LLMEndpoint, dataset: Dataset, suite: Suite, stage: Evaluate, job: JobContext
) -> list[list[AnswerRecord]]:
    store = SignalStore.open(job.fetch(stage.signals)) if stage.signals is not None else None
    toolbox = ToolBox(store, dataset.items) if store is not None and _has_tools(stage) else None
    async with LLMClient(endpoint) as client:
        examinee = Examinee(client, dataset.items, toolbox, store)
        answers = await collect_answers(examinee, suite, stage.settings, job)
    refused = [record for row in answers for record in row if record.refused]
    if len(refused) == sum(map(len, answers)):
        raise TerminalFailure(
            Reason.LLM_OUTPUT_INVALID, f"every request was refused, so nothing was measured: {refused[0].format_error}"
        )
    return answers


def _inputs(stage: Evaluate) -> dict[str, str]:
    named = {"dataset": stage.dataset, "signals": stage.signals}
    named |= {path: compared.artifact for path, compared in stage.compared.items()}
    return {role: ref.digest for role, ref in named.items() if ref is not None}


def _write(report: Report, measured: Measurements, job: JobContext) -> None:
    job.output.add_bytes(report.model_dump_json(by_alias=True, indent=1).encode(), REPORT)
    job.output.add_bytes(render_html(report).encode(), PAGE)
    job.output.add_bytes(b"".join(map(to_line, task_results(measured))), TASKS)
    if measured.answers is not None:
        job.output.add_bytes(b"".join(to_line(record) for row in measured.answers for record in row), ANSWERS)
