"""RecDataset -> one preparation Job."""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import PrepareDataset
from star_operator.api.recdataset import RecDataset
from star_operator.builders.step import Inputs, Step
from star_operator.core.settings import Settings

STEPS = ("prepare",)


def plan(name: str, resource: RecDataset, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name."""
    spec = resource.spec
    stage = PrepareDataset(
        format=spec.source.format,
        source=spec.source.uri,
        source_digest=spec.source.digest,
        tasks=spec.tasks,
        leakage=spec.leakage,
        max_malformed=spec.source.max_malformed,
        max_implausible=spec.source.max_implausible,
    )
    return Step(name, stage, "jobs", spec.compute, inputs={})
