"""SFTJob -> one training Job (ms-swift under torchrun; a group of nodes where asked)."""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import TrainSFT
from star_operator.api.sftjob import SFTJob
from star_operator.builders.llm import model_identity
from star_operator.builders.step import Inputs, Step, with_precision
from star_operator.core.settings import Settings

STEPS = ("train",)


def plan(name: str, resource: SFTJob, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name."""
    spec, model = resource.spec, inputs.models["model"]
    trajectories, dataset = inputs.artifacts["trajectories"], inputs.artifacts["dataset"]
    signals = inputs.artifacts.get("signals")
    stage = TrainSFT(
        model=model,
        trajectories=trajectories,
        dataset=dataset,
        signals=signals,
        variant=spec.variant,
        samples=spec.samples,
        hyperparameters=with_precision(spec.hyperparameters, spec.compute),
        nodes=spec.compute.nodes,
        devices_per_node=spec.compute.gpus_per_node,
    )
    digests = {role: artifact.digest for role, artifact in inputs.artifacts.items()}
    digests["model"] = model_identity(model)
    return Step(name, stage, "trainer", spec.compute, inputs=digests)
