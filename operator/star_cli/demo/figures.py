"""The figures of the chain in one table: baselines, base model, teacher, SFT and GRPO, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from rich.table import Table

from star_cli.demo.lineage import checkpoint_names
from star_cli.errors import StarctlError
from star_cli.resources import StarResource
from star_contracts.artifact import ArtifactRef
from star_operator.api.evaluation import Evaluation
from star_operator.api.teacherrun import TeacherRun

REPORT = "report.json"


class Files(Protocol):
    """What reads files of artifacts (`star_cli.demo.store.Store`)."""

    def file(self, ref: ArtifactRef, path: str) -> bytes:
        """A file of an artifact, its hash checked."""


class _Part(BaseModel):
    """The parts of an evaluation's report that are shown; the rest is left alone."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Interval(_Part):
    """A 95% confidence interval."""

    low: float
    high: float


class Rates(_Part):
    """Hit rates over some tasks, each in [0, 1]."""

    hr1: float
    hr3: float
    hr5: float
    hr_avg: float
    hr1_interval: Interval | None = None
    hr_avg_interval: Interval | None = None


class Answers(_Part):
    """A model's figures."""

    hit_rates: Rates
    valid: float


class Suite(_Part):
    """Figures over a set of tasks."""

    name: str
    tasks: int
    candidates: tuple[int, int]
    model: Answers | None = None
    baselines: dict[str, Rates] = {}


class Report(_Part):
    """An evaluation's report."""

    suites: tuple[Suite, ...]


@dataclass(frozen=True)
class Gain:
    """The mean less another model's, over the same tasks in pairs."""

    over: str
    mean: float
    interval: Interval


@dataclass(frozen=True)
class Line:
    """One ranker in the table."""

    who: str
    rates: Rates
    tasks: str
    valid: float | None = None
    gain: Gain | None = None


@dataclass(frozen=True)
class Figures:
    """All rankers, and what must be said about them."""

    lines: tuple[Line, ...]
    candidates: int
    """Most candidates in a task."""


def figures(resources: Sequence[StarResource], files: Files) -> Figures:
    """Read the namespace's evaluations and its teacher's figures; baselines come from the last report.

    Raises:
        StarctlError: no evaluation has a report, or a report is not readable.
    """
    names = checkpoint_names(resources)
    reports = [(one, _report(one, files)) for one in resources if _has_report(one)]
    if not reports:
        raise StarctlError("no evaluation has a report, so there are no figures to show")
    last = reports[-1][1]
    lines = [Line(f"baseline: {name}", rates, f"{last.tasks} test") for name, rates in last.baselines.items()]
    teachers = [one for one in resources if isinstance(one, TeacherRun) and "hrAvg" in one.status.metrics]
    lines += [_teacher_line(one) for one in teachers]
    for one, suite in reports:
        if suite.model is not None:
            tasks = f"{suite.tasks} test"
            lines.append(Line(_label(one, names), suite.model.hit_rates, tasks, suite.model.valid, _gain(one)))
    return Figures(tuple(lines), last.candidates[1])


def figures_table(found: Figures) -> Table:
    """The figures in percent; the mean with its 95% interval."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("RANKER", no_wrap=True)
    for column in ("HR@1", "HR@3", "HR@5", "MEAN [95% CI]", "VALID", "TASKS"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for line in found.lines:
        rates = line.rates
        hits = [_percent(value) for value in (rates.hr1, rates.hr3, rates.hr5)]
        mean = _with_interval(rates.hr_avg, rates.hr_avg_interval)
        valid = "" if line.valid is None else _percent(line.valid)
        drawn.add_row(line.who, *hits, mean, valid, line.tasks)
    return drawn


def remarks(found: Figures) -> list[str]:
    """The gains, and what the figures do and do not say."""
    gains = [(line.who, line.gain) for line in found.lines if line.gain]
    said = [
        f"{who} gains {_with_interval(gain.mean, gain.interval)} over {gain.over}, in pairs on the same tasks."
        for who, gain in gains
    ]
    said += [
        "The teacher's line is over training tasks. A model of 135M parameters stands in for DeepSeek-V3 and Qwen3:",
        "minutes of training on a few dozen samples teach it the form at best, and not to rank; the chain is real, the",
        "sizes are not.",
    ]
    if found.candidates <= 5:
        said.append(f"With {found.candidates} candidates HR@5 only says whether an answer ranks them all.")
    return said


def _has_report(resource: StarResource) -> bool:
    return isinstance(resource, Evaluation) and resource.status.artifact is not None


def _report(resource: StarResource, files: Files) -> Suite:
    artifact = resource.status.artifact
    assert artifact is not None
    data = files.file(ArtifactRef(uri=artifact.uri, digest=artifact.digest), REPORT)
    try:
        return Report.model_validate_json(data).suites[0]
    except (ValueError, IndexError) as error:
        raise StarctlError(f"{artifact.uri}/{REPORT} is not a report: {error}") from error


def _label(resource: StarResource, names: dict[str, str]) -> str:
    server = resource.spec.llm.server if resource.spec.llm is not None else None
    if server is None:
        return f"model: {resource.metadata.name}"
    name = server.model.checkpoint or names.get(server.model.digest or "", server.model.digest or "")
    return f"model: {name}"


def _gain(resource: StarResource) -> Gain | None:
    metrics, against = resource.status.metrics, resource.spec.against
    if against is None or "against.hrAvgDiff" not in metrics:
        return None
    interval = Interval(low=metrics["against.ciLow"], high=metrics["against.ciHigh"])
    return Gain(against.name or against.uri, metrics["against.hrAvgDiff"], interval)


def _teacher_line(resource: TeacherRun) -> Line:
    metrics = resource.status.metrics
    rates = Rates(hr1=metrics["hr1"], hr3=metrics["hr3"], hr5=metrics["hr5"], hrAvg=metrics["hrAvg"])
    runs = metrics.get("trajectories", 0.0)
    return Line(f"teacher: {resource.metadata.name}", rates, f"{runs:.0f} training")


def _with_interval(mean: float, interval: Interval | None) -> str:
    return _percent(mean) + (f" [{_percent(interval.low)}, {_percent(interval.high)}]" if interval else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
