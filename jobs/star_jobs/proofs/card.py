"""The model card of a checkpoint, in Markdown and as one page of HTML: everything in it follows from the lineage.

Sections after Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993): intended use, data, training,
metrics, limits. The page has its plots as inline SVG; no script, no font, no picture comes from anywhere else.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup
from pydantic import JsonValue

from star_contracts.artifact import Manifest
from star_contracts.proofs import AttestSpec, MadeBy
from star_jobs.evaluate.plots import Series, Value, intervals
from star_jobs.proofs.statements import Report, materials, seeds

BASELINE = ".hrAvg"
NOT_BASELINES = ("against", "bestOf")
SMALL = 100
"""Tasks below which an interval is wide whatever was measured."""


@dataclass(frozen=True)
class Source:
    """A resource of the lineage, with the manifest of what it made where that is still there."""

    made_by: MadeBy
    manifest: Manifest | None


@dataclass(frozen=True)
class Card:
    """What a card tells."""

    spec: AttestSpec
    checkpoint: Manifest
    sources: Sequence[Source]
    reports: Sequence[Report]
    left_out: Sequence[str] = ()
    """Why Evaluations that name it do not count."""

    def markdown(self) -> bytes:
        """Return the card as Markdown."""
        return _render("card.md.j2", self, escape=False)

    def page(self) -> bytes:
        """Return the card as a page."""
        return _render("card.html.j2", self, escape=True)

    @property
    def title(self) -> str:
        """Return what the model is called."""
        return f"{self.spec.namespace}/{self.spec.name}"

    @property
    def data(self) -> list[Source]:
        """Return what it was trained on: datasets, signals, trajectories and samples."""
        return [one for one in self.sources if one.made_by.kind not in ("SFTJob", "GRPOJob")]

    @property
    def training(self) -> list[Source]:
        """Return the training jobs, the last one first."""
        return [one for one in self.sources if one.made_by.kind in ("SFTJob", "GRPOJob")]

    @property
    def uses_signals(self) -> bool:
        """Say whether it was trained on what look-ups answer."""
        return any(one.made_by.kind == "Verbalization" for one in self.sources) or "signals" in self.checkpoint.inputs

    @property
    def materials(self) -> list[tuple[str, str, str]]:
        """Return name, digest and uri of all that it was made of."""
        found = materials(self.spec, self.checkpoint)
        return [(one["name"], *_named(one.get("digest", {})), one.get("uri", "")) for one in found]

    @property
    def plot(self) -> str:
        """Return the measured figures beside the baselines', as SVG; nothing where nothing was measured."""
        rows = [one for one in self.reports if "hrAvg" in one.manifest.metrics]
        if not rows:
            return ""
        names = sorted({name for one in rows for name in baselines(one.manifest.metrics)})
        series = [Series("model", [_value(one.manifest.metrics) for one in rows], highlight=True)]
        for name in names:
            shares = [baselines(one.manifest.metrics).get(name) for one in rows]
            series.append(Series(name, [None if share is None else Value(share) for share in shares]))
        title = "HR avg of the model beside the baselines"
        return intervals([one.evaluation for one in rows], series, title=title, axis="HR avg, %")

    @property
    def limits(self) -> list[str]:
        """Return what a person should know before it is used."""
        return [*_limits(self)]


def baselines(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the baselines' HR avg by name; suites of task types and what it was compared with are none."""
    known = ("random", "identity", "popularity", "itemcf", "itemknn_cosine", "itemknn_bm25", "als", "lightgcn")
    return {name: metrics[name + BASELINE] for name in known if name + BASELINE in metrics}


def _limits(card: Card) -> Iterator[str]:
    yield "It ranks candidates that it is given; it does not retrieve them, and knows no item that has no title."
    if card.uses_signals:
        yield "It looks collaborative signals up while it answers: serve it with the Verbalization named under Data."
    if not card.reports:
        yield "It has not been measured: nothing is known of its quality."
    for one in card.reports:
        yield from _of_report(one)
    yield from card.left_out
    if not card.spec.made_by:
        yield "Who made it is known from its manifest alone: it was imported, or its training job is gone."
    for source in card.sources:
        if source.manifest is None:
            what = f"{source.made_by.kind} {source.made_by.name}"
            yield f"What {what} made is no longer in the store: only its digest is known."
    warned = [*card.checkpoint.warnings, *(w for one in card.sources if one.manifest for w in one.manifest.warnings)]
    yield from dict.fromkeys(warning.message for warning in warned)


def _of_report(one: Report) -> Iterator[str]:
    metrics = one.manifest.metrics
    tasks, measured = metrics.get("tasks"), metrics.get("hrAvg")
    if tasks is not None and tasks < SMALL:
        yield f"Evaluation {one.evaluation} has {tasks:.0f} tasks only: its interval is wide."
    better = {name: share for name, share in baselines(metrics).items() if measured is not None and share >= measured}
    if better:
        best = max(better, key=lambda name: better[name])
        yield f"In Evaluation {one.evaluation} it is no better than {best} ({100 * better[best]:.1f}% HR avg)."
    if (valid := metrics.get("valid")) is not None and valid < 1:
        yield f"In Evaluation {one.evaluation} {100 * (1 - valid):.1f}% of its answers could not be read."
    yield "Its figures are on sampled candidates of one dataset: they say little of another catalogue, or of traffic."


def _value(metrics: Mapping[str, float]) -> Value:
    return Value(metrics["hrAvg"], metrics.get("hrAvgCiLow"), metrics.get("hrAvgCiHigh"))


def _named(digest: Mapping[str, str]) -> tuple[str]:
    return (next((f"{name}:{value}" for name, value in digest.items()), "not known"),)


def _render(template: str, card: Card, *, escape: bool) -> bytes:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=escape,  # noqa: S701 - Markdown is no HTML: what stands in it is made safe by its filters
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pretty"] = _pretty
    environment.filters["indented"] = lambda value: "\n".join(f"    {line}" for line in _pretty(value).splitlines())
    environment.filters["figure"] = lambda value: f"{value:.6g}"
    environment.filters["cell"] = _cell
    environment.globals["seeds"] = lambda made_by: dict(seeds(dict(made_by.parameters)))
    plot = Markup(card.plot) if escape else ""  # noqa: S704 - made by plots, which escapes what it is given
    limits = list(dict.fromkeys(card.limits))
    return environment.get_template(template).render(card=card, spec=card.spec, plot=plot, limits=limits).encode()


def _pretty(value: JsonValue) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True)


def _cell(text: str) -> str:
    """Return a text as it may stand in a line of Markdown."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in plain)
