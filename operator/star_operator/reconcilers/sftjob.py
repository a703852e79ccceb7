"""SFTJob: its steps are in builders/sftjob.py; success brings a Checkpoint about."""

from star_operator.api.sftjob import SFTJob
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import sftjob as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, model_input, origin_of, produced
from star_operator.reconcilers.pinning import recalled_inputs
from star_operator.reconcilers.record import recorded
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: SFTJob) -> Inputs:
    """Return the base model, the trajectories, and the dataset and the look-up store they were made with."""
    namespace, spec = resource.metadata.namespace, resource.spec
    model = await model_input(cluster, namespace, spec.model, "spec.model", user=resource)
    teacher, trajectories = await produced(cluster, TeacherRun, namespace, spec.trajectories, "spec.trajectories")
    found = model | Inputs({"trajectories": trajectories}, origins={"trajectories": origin_of(teacher)})
    made_with = recalled_inputs(teacher.status)
    if made_with is not None:
        return found | made_with.only("dataset", "signals")
    field = f"spec.trajectories ({teacher.metadata.name})"  # an operator of before has started it
    return found | await dataset_and_signals(
        cluster, namespace, teacher.spec.dataset, teacher.spec.verbalization, field
    )


def headline(metrics: dict[str, float]) -> str:
    """Return the final loss."""
    return f"loss {metrics.get('loss', float('nan')):.3f}"


KIND = RunKind(SFTJob, builder.STEPS, builder.plan, inputs, headline, recorded)
