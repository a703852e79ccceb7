"""The report of an evaluation: JSON for machines, and one self-contained HTML page with tables and plots for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from star_contracts.base import Model
from star_contracts.data import TaskType
from star_contracts.settings import Baseline, EvaluationSettings
from star_jobs.evaluate import plots
from star_jobs.evaluate.figures import ALL, SuiteReport
from star_jobs.evaluate.metrics import HitRates

REPORT = "report.json"
PAGE = "report.html"
TASKS = "tasks.jsonl"
ANSWERS = "answers.jsonl"
MODEL, AGAINST = "model", "against"
"""Rankers that are no baselines."""
_AXIS = "HR avg, %"


class Timing(Model):
    """How long a baseline took, on the evaluator's CPUs."""

    fit_seconds: float
    """Learning, once."""
    answer_seconds: float
    """A task, mean."""


class Against(Model):
    """What this evaluation's model is compared against: another evaluation's model, or the teacher."""

    name: str
    """The Evaluation's or TeacherRun's name, or the artifact's URI where it was given by that."""
    model: str
    """Served model name; a teacher's is that of its ranking agent."""
    report: str
    """Digest of its report, or of the teacher's trajectories."""
    latency_p50: float
    """Median seconds of an answer, or of a teacher's whole run (`RunRecord.seconds`), under the load it was made."""


class Report(Model):
    """The content of `report.json`."""

    format_version: int = 1
    model: str | None
    """Served model name; None when only baselines were measured."""
    inputs: dict[str, str]
    """Digests of dataset, look-up store and what is compared against."""
    settings: EvaluationSettings
    tools: bool
    """True when the student could look up signals."""
    leaked_interactions: int
    """Answers found among the training interactions and taken out; 0 for a dataset that keeps its leakage rules."""
    against: Against | None = None
    suites: tuple[SuiteReport, ...]
    """All tasks first, then each type, then, where there are several, each platform and each type of each platform."""
    timings: dict[Baseline, Timing] = {}


def render_html(report: Report) -> str:
    """Return the report as one self-contained page: no script, no font, no picture from anywhere else."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        pairs=_pairs(report),
        by_type=Markup(by_type(report)),  # noqa: S704 - made by plots, which escapes what it is given
        scaling=Markup(scaling(report)),  # noqa: S704
        trade_off=Markup(trade_off(report)),  # noqa: S704
    )


def by_type(report: Report) -> str:
    """Draw HR_avg with its interval for each task type and ranker; each platform's types in a plot of their own."""
    by_platform: dict[str | None, list[SuiteReport]] = {None: [report.suites[0]]}
    for part in report.suites:
        if part.type is not None:
            by_platform.setdefault(None if part.name == part.type else part.platform, []).append(part)
    return "\n".join(_intervals(report, parts, platform) for platform, parts in by_platform.items())


def scaling(report: Report) -> str:
    """Draw best-of-k over k for each type; nothing where a single answer was sampled (paper appendix C)."""
    shown = [part for part in report.suites if part.name in (ALL, part.type)]
    models = [(_label(part), part.model) for part in shown if part.model]
    if report.settings.best_of == 1 or not models:
        return ""
    budgets = list(models[0][1].best_of)
    series = [
        plots.Series(name, [_value(model.best_of[k], interval=not place) for k in budgets], highlight=not place)
        for place, (name, model) in enumerate(models)
    ]
    return plots.lines(budgets, series, title="Best of k answers", axis=_AXIS)


def trade_off(report: Report) -> str:
    """Draw latency against quality, as the paper's Figure 4: the model, what it is compared against, the baselines."""
    everything, spots = report.suites[0], []
    if everything.model is not None and report.model is not None:
        rates = everything.model.hit_rates
        spots.append(plots.Spot(report.model, everything.model.latency_p50, _shown(rates), highlight=True))
    if everything.against is not None and report.against is not None:
        rates = everything.against.hit_rates
        spots.append(plots.Spot(report.against.name, report.against.latency_p50, _shown(rates)))
    spots += [
        plots.Spot(name.value, report.timings[name].answer_seconds, _shown(rates))
        for name, rates in everything.baselines.items()
        if name in report.timings
    ]
    return plots.scatter(spots, title="Latency against quality", axis=_AXIS) if spots else ""


@dataclass(frozen=True)
class _Pairs:
    """The paper's Table 1: a row a platform, a column a task type, and all of the platform's tasks last."""

    types: list[TaskType]
    rows: list[tuple[str, list[HitRates | None]]]


def _pairs(report: Report) -> _Pairs | None:
    """Return the table of platforms and types; None for a dataset of one platform."""
    by_name = {part.name: part for part in report.suites}
    types = [part.type for part in report.suites if part.type is not None and part.name == part.type]
    platforms = list(dict.fromkeys(part.platform for part in report.suites if part.platform and part.type is None))
    if len(platforms) < 2:
        return None
    columns = [*(f".{kind.value}" for kind in types), ""]
    return _Pairs(types, [(name, [_best(by_name.get(f"{name}{column}")) for column in columns]) for name in platforms])


def _best(part: SuiteReport | None) -> HitRates | None:
    """Return the model's figures, or the best baseline's where no model was measured."""
    if part is None or part.model is not None:
        return part.model.hit_rates if part and part.model else None
    return max(part.baselines.values(), key=lambda rates: rates.hr_avg, default=None)


def _intervals(report: Report, parts: Sequence[SuiteReport], platform: str | None) -> str:
    series = [
        plots.Series(name, [_value(rates) for rates in _of(parts, which)], highlight=which == MODEL)
        for name, which in _rankers(report)
    ]
    title = "Hit rate by task type" + (f", {platform}" if platform else "")
    return plots.intervals([_label(part) for part in parts], series, title=title, axis=_AXIS)


def _rankers(report: Report) -> list[tuple[str, str | Baseline]]:
    """Return (name, which) of each ranker, the model first."""
    rankers: list[tuple[str, str | Baseline]] = [(report.model, MODEL)] if report.model else []
    rankers += [(report.against.name, AGAINST)] if report.against else []
    return [*rankers, *((baseline.value, baseline) for baseline in report.suites[0].baselines)]


def _of(parts: Sequence[SuiteReport], which: str | Baseline) -> list[HitRates | None]:
    if which == MODEL:
        return [part.model.hit_rates if part.model else None for part in parts]
    if which == AGAINST:
        return [part.against.hit_rates if part.against else None for part in parts]
    return [part.baselines.get(Baseline(which)) for part in parts]


def _label(part: SuiteReport) -> str:
    return part.name if part.type is None else part.type.value.replace("_", " ")


def _shown(rates: HitRates) -> plots.Value:
    return plots.Value(rates.hr_avg, rates.hr_avg_interval.low, rates.hr_avg_interval.high)


def _value(rates: HitRates | None, *, interval: bool = True) -> plots.Value | None:
    if rates is None:
        return None
    return _shown(rates) if interval else plots.Value(rates.hr_avg)
