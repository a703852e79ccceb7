"""SFTJob: its steps are in builders/sftjob.py; success brings a Checkpoint of the job's name about."""

from star_operator.api.meta import Status
from star_operator.api.sftjob import SFTJob
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import sftjob as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, model_source, produced
from star_operator.reconcilers.record import is_recorded, record
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: SFTJob) -> Inputs:
    """Return the base model, the trajectories, and the dataset and the look-up store they were made with."""
    namespace, spec = resource.metadata.namespace, resource.spec
    model = await model_source(cluster, namespace, spec.model, "spec.model")
    teacher, trajectories = await produced(cluster, TeacherRun, namespace, spec.trajectories, "spec.trajectories")
    field = f"spec.trajectories ({teacher.metadata.name})"
    made_with = await dataset_and_signals(cluster, namespace, teacher.spec.dataset, teacher.spec.verbalization, field)
    return Inputs({"trajectories": trajectories, **made_with}, {"model": model})


async def succeeded(cluster: Cluster, resource: SFTJob, status: Status) -> None:
    """Record the checkpoint."""
    if not await is_recorded(cluster, resource, status):
        await record(cluster, resource, status, await inputs(cluster, resource))


def headline(metrics: dict[str, float]) -> str:
    """Return the final loss."""
    return f"loss {metrics.get('loss', float('nan')):.3f}"


KIND = RunKind(SFTJob, builder.STEPS, builder.plan, inputs, headline, succeeded)
