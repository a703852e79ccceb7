"""From measurements to figures: for all tasks, each task type, each platform, and each pair of the two.

The paper's suites are platforms (Amazon, Goodreads, Yelp), each with five task types (Table 1). A dataset of one
platform, or of none that it names, has figures by type alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
HEADLINE_PLATFORMS = 4
"""More than these stay in the report: the headline metrics must fit into a termination message of 4096 bytes."""


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
    """Seconds an answer (`AnswerRecord.seconds`), under the evaluation's own load."""
    latency_p95: float
    usage: Usage
    """Tokens of all answers together."""


class AgainstFigures(Model):
    """How the model did beside the one it is compared against, on the same tasks."""

    hit_rates: HitRates
    """The other's."""
    difference: Difference
    """The model's HR_avg minus the other's, paired by task."""


class SuiteReport(Model):
    """Some of the tasks: all, a type's, a platform's, or a platform's of one type."""

    name: str
    """`all`, a type, a platform, or `<platform>.<type>`."""
    type: TaskType | None = None
    """The type of all its tasks, where it was chosen by type."""
    platform: str | None = None
    """The platform of all its tasks, where they have one in common."""
    tasks: int
    candidates: tuple[int, int]
    """Fewest and most candidates in a task."""
    model: ModelFigures | None
    compared: dict[str, AgainstFigures] = {}
    """By path in the Evaluation's spec: `against`, `beside[0]`, ..."""
    baselines: dict[Baseline, HitRates]


class TaskResult(Model):
    """One line of `tasks.jsonl`: what a later evaluation needs to compare itself with this one in pairs."""

    task_id: str
    type: TaskType
    platform: str | None = None
    ranks: tuple[int | None, ...] = ()
    """1-based place of the ground truth in each of the model's answers, None for a miss; empty without a model."""
    baselines: dict[Baseline, tuple[float, float, float]] = {}
    """HR@1, HR@3 and HR@5 on this task, fractions where a ranker leaves candidates tied."""


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured, one row a task."""

    suite: Suite
    answers: Sequence[Sequence[AnswerRecord]] | None
    baselines: Mapping[Baseline, Hits]
    compared: Mapping[str, Hits] = field(default_factory=dict)
    """The hit tables of those that it is compared with, by path in the spec."""


@dataclass(frozen=True)
class _Part:
    name: str
    rows: list[int]
    type: TaskType | None = None


def suite_reports(measured: Measurements, settings: EvaluationSettings) -> tuple[SuiteReport, ...]:
    """Return the figures for all tasks, then by type, then, where there are several, by platform and by both."""
    return tuple(_suite_report(part, measured, settings) for part in _parts(measured.suite))


def task_results(measured: Measurements) -> Iterator[TaskResult]:
    """Yield one record a task, in the suite's order."""
    for row, task in enumerate(measured.suite.tasks):
        at1_3_5 = {baseline: tuple(map(float, hits[row])) for baseline, hits in measured.baselines.items()}
        yield TaskResult(
            task_id=task.task_id,
            type=task.type,
            platform=measured.suite.platform(task),
            ranks=tuple(record.rank for record in measured.answers[row]) if measured.answers is not None else (),
            baselines={baseline: (at1, at3, at5) for baseline, (at1, at3, at5) in at1_3_5.items()},
        )


def headline(reports: Sequence[SuiteReport]) -> dict[str, float]:
    """Return the metrics that go into the manifest and the resource's status."""
    everything, parts = reports[0], reports[1:]
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
    metrics |= _against_metrics(everything.compared.get("against"))
    few = len({part.platform for part in parts if part.platform}) <= HEADLINE_PLATFORMS
    shown = [part for part in parts if part.model and (few or part.type == part.name)]
    return metrics | {f"{metric_name(part.name)}.hrAvg": part.model.hit_rates.hr_avg for part in shown if part.model}


def metric_name(text: str) -> str:
    """Return a name that a gate's rule can take: letters, digits, `_` and `.`, a letter first."""
    plain = re.sub(r"[^A-Za-z0-9_.]", "_", text)[:40]
    return plain if plain[:1].isalpha() else f"p{plain}"


def _against_metrics(against: AgainstFigures | None) -> dict[str, float]:
    if against is None:
        return {}
    difference = against.difference
    return {
        "against.hrAvg": against.hit_rates.hr_avg,
        "against.hrAvgDiff": difference.mean,
        "against.ciLow": difference.interval.low,
        "against.ciHigh": difference.interval.high,
        "against.pValue": difference.p_value,
    }


def _parts(suite: Suite) -> Iterator[_Part]:
    tasks = list(enumerate(suite.tasks))
    types = list(dict.fromkeys(task.type for task in suite.tasks))
    platforms = list(dict.fromkeys(filter(None, map(suite.platform, suite.tasks))))
    yield _Part(ALL, [row for row, _ in tasks])
    for kind in types:
        yield _Part(kind.value, [row for row, task in tasks if task.type is kind], kind)
    if len(platforms) < 2:
        return
    for platform in platforms:
        rows = [row for row, task in tasks if suite.platform(task) == platform]
        yield _Part(platform, rows)
        for kind in types:
            both = [row for row in rows if suite.tasks[row].type is kind]
            if both:
                yield _Part(f"{platform}.{kind.value}", both, kind)


def _suite_report(part: _Part, measured: Measurements, settings: EvaluationSettings) -> SuiteReport:
    tasks = [measured.suite.tasks[row] for row in part.rows]
    sizes, platforms = [len(task.candidates) for task in tasks], {measured.suite.platform(task) for task in tasks}
    baselines = {baseline: hits[part.rows] for baseline, hits in measured.baselines.items()}
    answers = None if measured.answers is None else [measured.answers[row] for row in part.rows]
    return SuiteReport(
        name=part.name,
        type=part.type,
        platform=platforms.pop() if len(platforms) == 1 else None,
        tasks=len(part.rows),
        candidates=(min(sizes), max(sizes)),
        model=None if answers is None else _model_figures(answers, baselines, settings),
        compared={
            path: _against_figures(answers, hits[part.rows], settings) for path, hits in measured.compared.items()
        }
        if answers is not None
        else {},
        baselines={baseline: _rates(hits, settings) for baseline, hits in baselines.items()},
    )


def _against_figures(
    answers: Sequence[Sequence[AnswerRecord]], other: Hits, settings: EvaluationSettings
) -> AgainstFigures:
    own = hits_of_answers([[record.rank for record in row] for row in answers])
    difference = paired_difference(own, other, resamples=settings.bootstrap, seed=settings.seed)
    return AgainstFigures(hit_rates=_rates(other, settings), difference=difference)


def _rates(hits: Hits, settings: EvaluationSettings) -> HitRates:
    return hit_rates(hits, resamples=settings.bootstrap, seed=settings.seed)


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
    return ModelFigures(
        hit_rates=_rates(one, settings),
        best_of={k: _rates(hits_of_answers(ranks, k), settings) for k in budgets(settings.best_of)},
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
