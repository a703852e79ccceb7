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
_AXIS = "HR avg, %"


class Timing(Model):
    """How long a baseline took, on the evaluator's CPUs."""

    fit_seconds: float
    """Learning, once."""
    answer_seconds: float
    """A task, mean."""


class Against(Model):
    """One that this evaluation's model is compared with: another evaluation's model, or a teacher."""

    name: str
    """The Evaluation's or TeacherRun's name, or the artifact's URI where it was given by that."""
    model: str
    """Served model name; a teacher's is that of its ranking agent."""
    report: str
    """Digest of its report, or of the teacher's trajectories."""
    latency_p50: float
    """Median seconds of an answer, or of a teacher's whole run (`RunRecord.seconds`), under the load it was made."""
    gpus: int | None = None
    """GPUs that an answer occupied: of one engine of each of its models. None where not known."""


class Report(Model):
    """The content of `report.json`."""

    format_version: int = 1
    model: str | None
    """Served model name; None when only baselines were measured."""
    inputs: dict[str, str]
    """Digests of dataset, look-up store and all that it is compared with."""
    settings: EvaluationSettings
    tools: bool
    """True when the student could look up signals."""
    leaked_interactions: int
    """Answers found among the training interactions and taken out; 0 for a dataset that keeps its leakage rules."""
    gpus: int | None = None
    """GPUs of one engine of the model; None where not known."""
    compared: dict[str, Against] = {}
    """By path in the Evaluation's spec: `against`, `beside[0]`, ..."""
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
        efficiency=efficiency(report),
        trade_off=Markup(trade_off(report)),  # noqa: S704
        cost=Markup(cost(report)),  # noqa: S704
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


@dataclass(frozen=True)
class Efficiency:
    """What an answer of one model, or a teacher's run, takes and is worth."""

    name: str
    hit_rates: HitRates
    seconds: float
    gpus: int | None
    highlight: bool = False
    """True for the model that this evaluation measured."""

    @property
    def gpu_seconds(self) -> float | None:
        """Its cost: the time that it occupied its GPUs; None where they are not known, or there are none."""
        return self.gpus * self.seconds if self.gpus else None


def efficiency(report: Report) -> list[Efficiency]:
    """Return the model and all that it is compared with."""
    everything = report.suites[0]
    if everything.model is None or report.model is None:
        return []
    model = Efficiency(report.model, everything.model.hit_rates, everything.model.latency_p50, report.gpus, True)
    return [
        model,
        *(
            Efficiency(other.name, everything.compared[path].hit_rates, other.latency_p50, other.gpus)
            for path, other in report.compared.items()
        ),
    ]


def trade_off(report: Report) -> str:
    """Draw latency against quality, as the paper's Figure 4: the model, all that it is compared with, the baselines."""
    spots = [plots.Spot(one.name, one.seconds, _shown(one.hit_rates), one.highlight) for one in efficiency(report)]
    spots += [
        plots.Spot(name.value, report.timings[name].answer_seconds, _shown(rates))
        for name, rates in report.suites[0].baselines.items()
        if name in report.timings
    ]
    return plots.scatter(spots, title="Latency against quality", time="time an answer", axis=_AXIS) if spots else ""


def cost(report: Report) -> str:
    """Draw the same with GPU time for latency; nothing where only one's GPUs are known, as that compares nothing."""
    spots = [
        plots.Spot(one.name, one.gpu_seconds, _shown(one.hit_rates), one.highlight)
        for one in efficiency(report)
        if one.gpu_seconds is not None
    ]
    if len(spots) < 2:
        return ""
    return plots.scatter(spots, title="Cost against quality", time="GPU time an answer (GPUs x latency)", axis=_AXIS)


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
    series = []
    if report.model:
        values = [_value(part.model.hit_rates if part.model else None) for part in parts]
        series.append(plots.Series(report.model, values, highlight=True))
    for path, other in report.compared.items():
        series.append(plots.Series(other.name, [_value(part.compared[path].hit_rates) for part in parts]))
    for baseline in report.suites[0].baselines:
        series.append(plots.Series(baseline.value, [_value(part.baselines.get(baseline)) for part in parts]))
    title = "Hit rate by task type" + (f", {platform}" if platform else "")
    return plots.intervals([_label(part) for part in parts], series, title=title, axis=_AXIS)


def _label(part: SuiteReport) -> str:
    return part.name if part.type is None else part.type.value.replace("_", " ")


def _shown(rates: HitRates) -> plots.Value:
    return plots.Value(rates.hr_avg, rates.hr_avg_interval.low, rates.hr_avg_interval.high)


def _value(rates: HitRates | None, *, interval: bool = True) -> plots.Value | None:
    if rates is None:
        return None
    return _shown(rates) if interval else plots.Value(rates.hr_avg)
