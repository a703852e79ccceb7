"""TeacherRun -> MARS workers in shards, and the trajectories collected from them."""

from dataclasses import replace

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
    collect = _collect(resource, inputs, generate)
    return replace(generate, collected_by=collect) if name == "generate" else collect


def _generate(resource: TeacherRun, inputs: Inputs, settings: Settings) -> Step:
    spec, dataset, signals = resource.spec, inputs.artifacts["dataset"], inputs.artifacts.get("signals")
    roles = {"llm": spec.llm} | {f"llm.{agent}": llm for agent, llm in sorted(spec.agent_llms.items())}
    namespace, models = resource.metadata.namespace, inputs.models
    llms = {role: resolve_llm(llm, models.get(role), namespace, settings, role) for role, llm in roles.items()}
    stage = GenerateTrajectories(
        dataset=dataset,
        signals=signals,
        llm=llms["llm"].endpoint,
        agent_llms={agent: llms[f"llm.{agent}"].endpoint for agent in sorted(spec.agent_llms)},
        token_budget=spec.token_budget,
        agents=spec.agents,
        passes=spec.passes,
        sampling=spec.sampling,
        split=spec.split,
        tasks=spec.tasks,
        filter=spec.filter,
        previous=inputs.artifacts.get("previous"),
    )
    digests = {"dataset": dataset.digest} | {role: llm.identity for role, llm in llms.items()}
    digests |= {"signals": signals.digest} if signals else {}
    servers = {server.name: server for llm in llms.values() for server in llm.servers}
    return Step(
        "generate",
        stage,
        "jobs",
        spec.compute,
        inputs=digests,
        shards=spec.shards,
        has_artifact=False,
        servers=tuple(servers.values()),
        warnings=inputs.warnings,
        api_keys={role: key for llm in llms.values() for role, key in llm.api_keys.items()},
    )


def _collect(resource: TeacherRun, inputs: Inputs, generate: Step) -> Step:
    spec = resource.spec
    stage = CollectTrajectories(
        dataset=inputs.artifacts["dataset"],
        passes=spec.passes,
        split=spec.split,
        tasks=spec.tasks,
        filter=spec.filter,
    )
    return Step("collect", stage, "jobs", spec.compute, inputs=dict(generate.inputs), continues=generate)
