"""Verbalization -> neighbours, verbalizers in shards, and the look-up store collected from them."""

from dataclasses import replace

from star_contracts.artifact import ArtifactRef
from star_contracts.job import CollectSignals, ComputeNeighbours, VerbalizeSignals
from star_operator.api.verbalization import Verbalization
from star_operator.builders.llm import resolve_llm
from star_operator.builders.step import Inputs, Step
from star_operator.core.settings import Settings

STEPS = ("neighbours", "verbalize", "collect")


def plan(name: str, resource: Verbalization, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name; steps before it have their artifacts in `done`."""
    if name == "neighbours":
        return _neighbours(resource, inputs)
    verbalize = _verbalize(resource, inputs, done["neighbours"], settings)
    collect = _collect(resource, inputs, done["neighbours"], verbalize)
    return replace(verbalize, collected_by=collect) if name == "verbalize" else collect


def _neighbours(resource: Verbalization, inputs: Inputs) -> Step:
    settings, dataset = resource.spec.neighbours, inputs.artifacts["dataset"]
    previous = inputs.artifacts.get("previous_neighbours") if settings.tolerance else None
    stage = ComputeNeighbours(dataset=dataset, neighbours=settings, previous=previous)
    made_from = {"dataset": dataset.digest} | ({"previous": previous.digest} if previous is not None else {})
    return Step("neighbours", stage, "jobs", resource.spec.compute, inputs=made_from)


def _verbalize(resource: Verbalization, inputs: Inputs, neighbours: ArtifactRef, settings: Settings) -> Step:
    spec, dataset = resource.spec, inputs.artifacts["dataset"]
    llm = resolve_llm(spec.llm, inputs.models.get("llm"), resource.metadata.namespace, settings)
    stage = VerbalizeSignals(
        dataset=dataset,
        neighbours=neighbours,
        llm=llm.endpoint,
        sampling=spec.sampling,
        scope=spec.scope,
        summaries=spec.summaries,
        limit=spec.limit,
        previous=inputs.artifacts.get("previous"),
    )
    return Step(
        "verbalize",
        stage,
        "jobs",
        spec.compute,
        inputs={"dataset": dataset.digest, "neighbours": neighbours.digest, "llm": llm.identity},
        shards=spec.shards,
        has_artifact=False,
        servers=llm.servers,
        api_keys=llm.api_keys,
        warnings=inputs.warnings,
    )


def _collect(resource: Verbalization, inputs: Inputs, neighbours: ArtifactRef, verbalize: Step) -> Step:
    stage = CollectSignals(
        dataset=inputs.artifacts["dataset"],
        neighbours=neighbours,
        scope=resource.spec.scope,
        summaries=resource.spec.summaries,
        limit=resource.spec.limit,
        previous=inputs.artifacts.get("previous"),
    )
    return Step("collect", stage, "jobs", resource.spec.compute, inputs=dict(verbalize.inputs), continues=verbalize)
