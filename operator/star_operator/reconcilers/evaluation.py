"""Evaluation: its steps are in builders/evaluation.py."""

from star_contracts.artifact import ArtifactRef
from star_contracts.errors import Reason
from star_contracts.settings import TaskSplit
from star_operator.api.common import AgainstRef, Ref
from star_operator.api.evaluation import Evaluation
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import evaluation as builder
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, get_resource, llm_models, origin_of, produced
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: Evaluation) -> Inputs:
    """Return the dataset, the look-up store where one is named, all that it is compared with, and the model."""
    namespace, spec = resource.metadata.namespace, resource.spec
    found = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    for path, ref in spec.compared().items():
        found |= await _other(cluster, namespace, ref, path)
    return found | await llm_models(cluster, resource, spec.llm)


async def _other(cluster: Cluster, namespace: str, ref: AgainstRef, role: str) -> Inputs:
    """Return the report or the trajectories that a reference stands for; its role is its path in the spec.

    Raises Waiting, or InvalidSpec on a digest that differs or a teacher that is not measured.
    """
    if ref.uri is not None:
        assert ref.digest is not None  # refused at admission otherwise
        return Inputs({role: ArtifactRef(uri=ref.uri, digest=ref.digest)})
    assert ref.name is not None
    maker: type[Evaluation] | type[TeacherRun] = Evaluation if ref.evaluation is not None else TeacherRun
    path = f"spec.{role}"
    field = f"{path}.{'evaluation' if maker is Evaluation else 'teacherRun'}"
    if maker is TeacherRun:  # before it is waited for: a run on training tasks may take days
        _refuse_training(await get_resource(cluster, TeacherRun, namespace, ref.name, field), field)
    resource, made = await produced(cluster, maker, namespace, Ref(name=ref.name), field)
    if ref.digest is not None and ref.digest != made.digest:
        text = f"{path}.digest is {ref.digest}, but {maker.INFO.kind} {ref.name} made {made.digest}"
        raise InvalidSpec(ConditionReason.DIGEST_MISMATCH, f"{text}; correct one of them")
    return Inputs({role: made}, origins={role: origin_of(resource)})


def _refuse_training(teacher: TeacherRun, field: str) -> None:
    if teacher.spec.split is not TaskSplit.TEST:
        text = f"{field} names TeacherRun {teacher.metadata.name}, which runs on training tasks"
        raise InvalidSpec(Reason.NOT_COMPARABLE, f"{text}; name one with split: Test and filter: None")


def headline(metrics: dict[str, float]) -> str:
    """Return the mean hit rate with its interval, or the best baseline's where no model was measured."""
    if "hrAvg" in metrics:
        ends = [metrics[name] for name in ("hrAvgCiLow", "hrAvgCiHigh") if name in metrics]
        interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if len(ends) == 2 else ""
        return f"hrAvg {metrics['hrAvg']:.3f}{interval}"
    baselines = {name: value for name, value in metrics.items() if name.endswith(".hrAvg")}
    best = max(baselines, key=lambda name: baselines[name], default=None)
    return f"{best} {baselines[best]:.3f}" if best else ""


KIND = RunKind(Evaluation, builder.STEPS, builder.plan, inputs, headline)
