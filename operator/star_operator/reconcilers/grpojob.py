"""GRPOJob: its steps are in builders/grpojob.py; success brings a Checkpoint about."""

from star_operator.api.grpojob import GRPOJob
from star_operator.builders import grpojob as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, model_input
from star_operator.reconcilers.record import recorded
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: GRPOJob) -> Inputs:
    """Return the starting checkpoint, the dataset and the signals."""
    namespace, spec = resource.metadata.namespace, resource.spec
    model = await model_input(cluster, namespace, spec.model, "spec.model", user=resource)
    return model | await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)


def headline(metrics: dict[str, float]) -> str:
    """Return the final mean reward."""
    return f"reward {metrics.get('reward', float('nan')):.3f}"


KIND = RunKind(GRPOJob, builder.STEPS, builder.plan, inputs, headline, recorded)
