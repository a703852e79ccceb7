"""Evaluation: its steps are in builders/evaluation.py."""

from star_operator.api.evaluation import Evaluation
from star_operator.builders import evaluation as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, llm_models
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: Evaluation) -> Inputs:
    """Return the dataset, the signals where the student has tools, and the measured model."""
    namespace, spec = resource.metadata.namespace, resource.spec
    verbalization = spec.verbalization if spec.settings.tools else None
    artifacts = await dataset_and_signals(cluster, namespace, spec.dataset, verbalization)
    return Inputs(artifacts, await llm_models(cluster, namespace, spec.llm))


def headline(metrics: dict[str, float]) -> str:
    """Return the mean hit rate with its interval, or the best baseline's where no model was measured."""
    if "hrAvg" in metrics:
        low, high = metrics.get("hrAvgCiLow", float("nan")), metrics.get("hrAvgCiHigh", float("nan"))
        return f"hrAvg {metrics['hrAvg']:.3f} [{low:.3f}, {high:.3f}]"
    baselines = {name: value for name, value in metrics.items() if name.endswith(".hrAvg")}
    best = max(baselines, key=lambda name: baselines[name], default=None)
    return f"{best} {baselines[best]:.3f}" if best else ""


KIND = RunKind(Evaluation, builder.STEPS, builder.plan, inputs, headline)
