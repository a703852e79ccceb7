"""Verbalization: its steps are in builders/verbalization.py."""

from star_operator.api.recdataset import RecDataset
from star_operator.api.verbalization import Verbalization
from star_operator.builders import verbalization as builder
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import llm_models, produced
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: Verbalization) -> Inputs:
    """Return the dataset, the store to refresh where one is named, and the verbalizing model.

    Raises InvalidSpec when a Verbalization is to refresh itself.
    """
    namespace, spec = resource.metadata.namespace, resource.spec
    _, dataset = await produced(cluster, RecDataset, namespace, spec.dataset, "spec.dataset")
    artifacts = {"dataset": dataset}
    if spec.previous is not None:
        if spec.previous.name == resource.metadata.name:
            text = f"spec.previous names {spec.previous.name} itself, which can only wait for its own end"
            raise InvalidSpec(
                ConditionReason.INVALID_REFERENCE, f"{text}; name an earlier Verbalization or leave previous out"
            )
        _, artifacts["previous"] = await produced(cluster, Verbalization, namespace, spec.previous, "spec.previous")
    return Inputs(artifacts, await llm_models(cluster, namespace, spec.llm))


def headline(metrics: dict[str, float]) -> str:
    """Return how many entries the store has, and how many of them are from the store before."""
    reused = f", {metrics['reused']:.0f} of them reused" if metrics.get("reused") else ""
    return f"{metrics.get('entries', 0):.0f} entries{reused}"


KIND = RunKind(Verbalization, builder.STEPS, builder.plan, inputs, headline)
