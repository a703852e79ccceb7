"""TeacherRun: its steps are in builders/teacherrun.py."""

from star_operator.api.teacherrun import TeacherRun
from star_operator.builders import teacherrun as builder
from star_operator.builders.step import Inputs
from star_operator.kube.cluster import Cluster
from star_operator.reconcilers.inputs import dataset_and_signals, llm_models
from star_operator.reconcilers.run import RunKind


async def inputs(cluster: Cluster, resource: TeacherRun) -> Inputs:
    """Return the dataset, the look-up store where one is named, and the teacher's models."""
    namespace, spec = resource.metadata.namespace, resource.spec
    artifacts = await dataset_and_signals(cluster, namespace, spec.dataset, spec.verbalization)
    models = await llm_models(cluster, namespace, spec.llm)
    for agent, llm in spec.agent_llms.items():
        found = await llm_models(cluster, namespace, llm, f"spec.agentLlms.{agent}")
        models |= {f"{role}.{agent}": source for role, source in found.items()}
    return Inputs(artifacts, models)


def headline(metrics: dict[str, float]) -> str:
    """Return how many trajectories were kept."""
    return f"{metrics.get('kept', 0):.0f} of {metrics.get('trajectories', 0):.0f} kept"


KIND = RunKind(TeacherRun, builder.STEPS, builder.plan, inputs, headline)
