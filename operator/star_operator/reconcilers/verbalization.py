"""Verbalization: its steps are in builders/verbalization.py."""

from star_operator.api.recdataset import RecDataset
from star_operator.api.verbalization import Verbalization
from star_operator.builders import verbalization as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import llm_models, produced
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: Verbalization) -> Inputs:
    """Return the dataset and the verbalizing model."""
    namespace = resource.metadata.namespace
    _, dataset = await produced(cluster, RecDataset, namespace, resource.spec.dataset, "spec.dataset")
    return Inputs({"dataset": dataset}, await llm_models(cluster, namespace, resource.spec.llm))


def headline(metrics: dict[str, float]) -> str:
    """Return how many entries the store has."""
    return f"{metrics.get('entries', 0):.0f} entries"


KIND = RunKind(Verbalization, builder.STEPS, builder.plan, inputs, headline)
