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
    artifacts = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    models = await llm_models(cluster, namespace, spec.llm)
    for agent, llm in spec.agent_llms.items():
        found = await llm_models(cluster, namespace, llm, f"spec.agentLlms.{agent}")
        models |= {f"{role}.{agent}": source for role, source in found.items()}
    previous, warnings = await taken_over(cluster, resource, spec.previous)
    return Inputs(artifacts | previous, models, warnings)


def headline(metrics: dict[str, float]) -> str:
    """Return how many trajectories were kept, and how many are an earlier run's."""
    reused = f", {metrics['reused']:.0f} reused" if metrics.get("reused") else ""
    return f"{metrics.get('kept', 0):.0f} of {metrics.get('trajectories', 0):.0f} kept{reused}"


KIND = RunKind(TeacherRun, builder.STEPS, builder.plan, inputs, headline)
