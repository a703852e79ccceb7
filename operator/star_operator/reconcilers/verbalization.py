"""Verbalization: its steps are in builders/verbalization.py."""

from star_operator.api.recdataset import RecDataset
from star_operator.api.verbalization import Verbalization
from star_operator.builders import verbalization as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import llm_models, taken_over, used
from star_operator.reconcilers.run import RunKind

PARTS_TAKEN_OVER = ("neighbours",)
"""Steps of the previous Verbalization whose artifacts are gone on from as well (`neighbours.tolerance`)."""


async def inputs(cluster: Cluster, resource: Verbalization) -> Inputs:
    """Return the dataset, the store to refresh where one is named, and the verbalizing model.

    Raises what `produced` and `taken_over` do.
    """
    namespace, spec = resource.metadata.namespace, resource.spec
    dataset = await used(cluster, RecDataset, namespace, spec.dataset, "spec.dataset", "dataset")
    previous = await taken_over(cluster, resource, spec.previous, PARTS_TAKEN_OVER)
    return dataset | previous | await llm_models(cluster, resource, spec.llm)


def headline(metrics: dict[str, float]) -> str:
    """Return how many entries the store has, and how many of them are from the store before."""
    reused = f", {metrics['reused']:.0f} of them reused" if metrics.get("reused") else ""
    return f"{metrics.get('entries', 0):.0f} entries{reused}"


KIND = RunKind(Verbalization, builder.STEPS, builder.plan, inputs, headline)
