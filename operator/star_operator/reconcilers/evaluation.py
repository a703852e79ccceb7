"""Evaluation: its steps are in builders/evaluation.py."""

from star_contracts.artifact import ArtifactRef
from star_operator.api.common import Ref, ReportRef
from star_operator.api.evaluation import Evaluation
from star_operator.builders import evaluation as builder
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, llm_models, produced
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: Evaluation) -> Inputs:
    """Return the dataset, the look-up store where one is named, the report compared with, and the model."""
    namespace, spec = resource.metadata.namespace, resource.spec
    artifacts = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    if spec.against is not None:
        artifacts["against"] = await _report(cluster, namespace, spec.against)
    return Inputs(artifacts, await llm_models(cluster, namespace, spec.llm))


async def _report(cluster: Cluster, namespace: str, ref: ReportRef) -> ArtifactRef:
    """Return the report a reference stands for. Raises Waiting, or InvalidSpec on a digest that differs."""
    if ref.uri is not None:
        assert ref.digest is not None  # refused at admission otherwise
        return ArtifactRef(uri=ref.uri, digest=ref.digest)
    assert ref.evaluation is not None
    _, report = await produced(cluster, Evaluation, namespace, Ref(name=ref.evaluation), "spec.against.evaluation")
    if ref.digest is not None and ref.digest != report.digest:
        text = f"spec.against.digest is {ref.digest}, but Evaluation {ref.evaluation} made {report.digest}"
        raise InvalidSpec("DigestMismatch", f"{text}; correct one of them")
    return report


def headline(metrics: dict[str, float]) -> str:
    """Return the mean hit rate with its interval, or the best baseline's where no model was measured."""
    if "hrAvg" in metrics:
        low, high = metrics.get("hrAvgCiLow", float("nan")), metrics.get("hrAvgCiHigh", float("nan"))
        return f"hrAvg {metrics['hrAvg']:.3f} [{low:.3f}, {high:.3f}]"
    baselines = {name: value for name, value in metrics.items() if name.endswith(".hrAvg")}
    best = max(baselines, key=lambda name: baselines[name], default=None)
    return f"{best} {baselines[best]:.3f}" if best else ""


KIND = RunKind(Evaluation, builder.STEPS, builder.plan, inputs, headline)
