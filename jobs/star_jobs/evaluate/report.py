"""The report of an evaluation: figures for every task type and for all, as JSON for machines and HTML for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from star_contracts.base import Model
from star_contracts.data import TaskType, Usage
from star_contracts.settings import Baseline, EvaluationSettings
from star_jobs.evaluate.answers import AnswerRecord
from star_jobs.evaluate.metrics import (
    Difference,
    HitRates,
    Hits,
    budgets,
    hit_rates,
    hits_of_answers,
    paired_difference,
)
from star_jobs.evaluate.suite import Suite
from star_jobs.llm.usage import add_usage

ALL = "all"


class ModelFigures(Model):
    """How the model did on some tasks."""

    hit_rates: HitRates
    """Of one answer: the mean over all answers of each task."""
    best_of: dict[int, HitRates]
    """Best of k answers, chosen with the ground truth in hand (paper C), by k."""
    versus: dict[Baseline, Difference]
    """HR_avg minus a baseline's, paired by task."""
    valid: float
    """Share of answers that rank every candidate exactly once."""
    well_formed: float
    """Share of answers that keep to the trained format as well."""
    refused: int
    """Requests the server refused; they count as misses."""
    tool_calls: float
    """Mean calls an answer."""
    latency_p50: float
    """Seconds an answer, under the evaluation's own load."""
    latency_p95: float
    usage: Usage
    """Tokens of all answers together."""


class SuiteReport(Model):
    """One task type, or all of them."""

    name: str
    tasks: int
    candidates: tuple[int, int]
    """Fewest and most candidates in a task."""
    model: ModelFigures | None
    baselines: dict[Baseline, HitRates]


class Report(Model):
    """The content of `report.json`."""

    format_version: int = 1
    model: str | None
    """Served model name; None when only baselines were measured."""
    inputs: dict[str, str]
    """Digests of dataset and look-up store."""
    settings: EvaluationSettings
    tools: bool
    """True when the student could look up signals."""
    leaked_interactions: int
    """Answers found among the training interactions and taken out; 0 for a dataset that keeps its leakage rules."""
    suites: tuple[SuiteReport, ...]
    """All tasks first, then each type."""


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured, one row a task."""

    suite: Suite
    answers: Sequence[Sequence[AnswerRecord]] | None
    baselines: Mapping[Baseline, Hits]


def suite_reports(measured: Measurements, settings: EvaluationSettings) -> tuple[SuiteReport, ...]:
    """Summarize all tasks and each type."""
    types = list(dict.fromkeys(task.type for task in measured.suite.tasks))
    everything = _suite_report(ALL, list(range(len(measured.suite.tasks))), measured, settings)
    return (everything, *(_suite_report(kind, measured.suite.rows(kind), measured, settings) for kind in types))


def headline(reports: Sequence[SuiteReport]) -> dict[str, float]:
    """Return the metrics that go into the manifest and the resource's status."""
    everything, by_type = reports[0], reports[1:]
    metrics = {f"{baseline}.hrAvg": rates.hr_avg for baseline, rates in everything.baselines.items()}
    metrics["tasks"] = float(everything.tasks)
    if everything.model is None:
        return metrics
    model, rates = everything.model, everything.model.hit_rates
    metrics |= {
        "hrAvg": rates.hr_avg,
        "hr1": rates.hr1,
        "hr3": rates.hr3,
        "hr5": rates.hr5,
        "hrAvgCiLow": rates.hr_avg_interval.low,
        "hrAvgCiHigh": rates.hr_avg_interval.high,
        "valid": model.valid,
        "wellFormed": model.well_formed,
        "toolCalls": model.tool_calls,
        "latencyP50": model.latency_p50,
        "latencyP95": model.latency_p95,
    }
    metrics |= {f"bestOf{k}.hrAvg": best.hr_avg for k, best in model.best_of.items() if k > 1}
    metrics |= {f"{one.name}.hrAvg": one.model.hit_rates.hr_avg for one in by_type if one.model}
    return metrics


def render_html(report: Report) -> str:
    """Return the report as one self-contained page: no script, no font, no picture from anywhere else."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.get_template("report.html.j2").render(report=report)


def _suite_report(
    name: TaskType | str, rows: list[int], measured: Measurements, settings: EvaluationSettings
) -> SuiteReport:
    sizes = [len(measured.suite.tasks[row].candidates) for row in rows]
    baselines = {baseline: hits[rows] for baseline, hits in measured.baselines.items()}
    answers = None if measured.answers is None else [measured.answers[row] for row in rows]
    return SuiteReport(
        name=str(name),
        tasks=len(rows),
        candidates=(min(sizes), max(sizes)),
        model=None if answers is None else _model_figures(answers, baselines, settings),
        baselines={
            baseline: hit_rates(hits, resamples=settings.bootstrap, seed=settings.seed)
            for baseline, hits in baselines.items()
        },
    )


def _model_figures(
    answers: Sequence[Sequence[AnswerRecord]], baselines: Mapping[Baseline, Hits], settings: EvaluationSettings
) -> ModelFigures:
    ranks = [[record.rank for record in row] for row in answers]
    flat = [record for row in answers for record in row]
    one = hits_of_answers(ranks)
    seconds = [record.seconds for record in flat if not record.refused] or [0.0]
    usage = Usage()
    for record in flat:
        usage = add_usage(usage, record.usage)

    def rates(hits: Hits) -> HitRates:
        return hit_rates(hits, resamples=settings.bootstrap, seed=settings.seed)

    return ModelFigures(
        hit_rates=rates(one),
        best_of={k: rates(hits_of_answers(ranks, k)) for k in budgets(settings.best_of)},
        versus={
            baseline: paired_difference(one, hits, resamples=settings.bootstrap, seed=settings.seed)
            for baseline, hits in baselines.items()
        },
        valid=sum(record.valid for record in flat) / len(flat),
        well_formed=sum(record.valid and record.format_error is None for record in flat) / len(flat),
        refused=sum(record.refused for record in flat),
        tool_calls=sum(record.tool_calls for record in flat) / len(flat),
        latency_p50=float(np.percentile(seconds, 50)),
        latency_p95=float(np.percentile(seconds, 95)),
        usage=usage,
    )
