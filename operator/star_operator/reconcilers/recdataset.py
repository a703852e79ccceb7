"""RecDataset: its steps are in builders/recdataset.py."""

from star_operator.api.recdataset import RecDataset
from star_operator.builders import recdataset as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: RecDataset) -> Inputs:
    """Return nothing: the source is outside of the artifact contract."""
    return Inputs()


def headline(metrics: dict[str, float]) -> str:
    """Return how many tasks there are."""
    return f"{metrics.get('trainTasks', 0):.0f} train, {metrics.get('testTasks', 0):.0f} test tasks"


KIND = RunKind(RecDataset, builder.STEPS, builder.plan, inputs, headline)
