"""TeacherRun -> MARS workers in shards, and the trajectories collected from them."""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import CollectTrajectories, GenerateTrajectories
from star_operator.api.teacherrun import TeacherRun
from star_operator.builders.llm import resolve_llm
from star_operator.builders.step import Inputs, Step
from star_operator.core.settings import Settings

STEPS = ("generate", "collect")


def plan(name: str, resource: TeacherRun, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name."""
    generate = _generate(resource, inputs, settings)
    return generate if name == "generate" else _collect(resource, inputs, generate)


def _generate(resource: TeacherRun, inputs: Inputs, settings: Settings) -> Step:
    spec, dataset, signals = resource.spec, inputs.artifacts["dataset"], inputs.artifacts.get("signals")
    llm = resolve_llm(spec.llm, inputs.models.get("llm"), resource.metadata.namespace, settings)
    stage = GenerateTrajectories(
        dataset=dataset,
        signals=signals,
        llm=llm.endpoint,
        agents=spec.agents,
        passes=spec.passes,
        sampling=spec.sampling,
        tasks=spec.tasks,
        filter=spec.filter,
    )
    digests = {"dataset": dataset.digest, "llm": llm.identity} | ({"signals": signals.digest} if signals else {})
    return Step(
        "generate",
        stage,
        "jobs",
        spec.compute,
        inputs=digests,
        shards=spec.shards,
        has_artifact=False,
        servers=llm.servers,
        api_keys=llm.api_keys,
    )


def _collect(resource: TeacherRun, inputs: Inputs, generate: Step) -> Step:
    spec = resource.spec
    stage = CollectTrajectories(
        dataset=inputs.artifacts["dataset"], passes=spec.passes, tasks=spec.tasks, filter=spec.filter
    )
    return Step("collect", stage, "jobs", spec.compute, inputs=dict(generate.inputs), continues=generate)
