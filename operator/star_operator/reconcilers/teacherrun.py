"""TeacherRun: its steps are in builders/teacherrun.py."""

from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import teacherrun as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, llm_models, taken_over
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: TeacherRun) -> Inputs:
    """Return the dataset, the look-up store and the run to go on from where they are named, and the teacher's models.

    Raises what `produced` and `taken_over` do.
    """
    namespace, spec = resource.metadata.namespace, resource.spec
    found = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    found |= await llm_models(cluster, resource, spec.llm)
    for agent, llm in spec.agent_llms.items():
        found |= await llm_models(cluster, resource, llm, f"spec.agentLlms.{agent}", f"llm.{agent}")
    return found | await taken_over(cluster, resource, spec.previous)


def headline(metrics: dict[str, float]) -> str:
    """Return how many trajectories were kept, and how many are an earlier run's."""
    reused = f", {metrics['reused']:.0f} reused" if metrics.get("reused") else ""
    return f"{metrics.get('kept', 0):.0f} of {metrics.get('trajectories', 0):.0f} kept{reused}"


KIND = RunKind(TeacherRun, builder.STEPS, builder.plan, inputs, headline)
