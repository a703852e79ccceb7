"""GRPOJob: its steps are in builders/grpojob.py; success brings a Checkpoint of the job's name about."""

from star_operator.api.grpojob import GRPOJob
from star_operator.api.meta import Status
from star_operator.builders import grpojob as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, model_source
from star_operator.reconcilers.record import is_recorded, record
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: GRPOJob) -> Inputs:
    """Return the starting checkpoint, the dataset and the signals."""
    namespace, spec = resource.metadata.namespace, resource.spec
    model = await model_source(cluster, namespace, spec.model, "spec.model")
    artifacts = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    return Inputs(artifacts, {"model": model})


async def succeeded(cluster: Cluster, resource: GRPOJob, status: Status) -> None:
    """Record the checkpoint."""
    if not await is_recorded(cluster, resource, status):
        await record(cluster, resource, status, await inputs(cluster, resource))


def headline(metrics: dict[str, float]) -> str:
    """Return the final mean reward."""
    return f"reward {metrics.get('reward', float('nan')):.3f}"


KIND = RunKind(GRPOJob, builder.STEPS, builder.plan, inputs, headline, succeeded)
