"""GRPOJob -> difficulty sampling on a server of the starting checkpoint, then the training Job."""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import SampleDifficulty, TrainGRPO
from star_contracts.settings import GRPOBackend
from star_operator.api.common import LLM
from star_operator.api.grpojob import GRPOJob
from star_operator.builders.llm import model_identity, resolve_llm, server_for
from star_operator.builders.step import Inputs, Step, with_precision
from star_operator.core.settings import Settings

STEPS = ("sample", "train")


def plan(name: str, resource: GRPOJob, inputs: Inputs, done: dict[str, ArtifactRef], settings: Settings) -> Step:
    """Return the step of that name; `train` needs `sample`'s artifact in `done`."""
    if name == "sample":
        return _sample(resource, inputs, settings)
    return _train(resource, inputs, done["sample"])


def _sample(resource: GRPOJob, inputs: Inputs, settings: Settings) -> Step:
    spec, source = resource.spec, inputs.models["model"]
    llm = resolve_llm(LLM(server=server_for(spec.server, spec.model)), source, resource.metadata.namespace, settings)
    stage = SampleDifficulty(
        dataset=inputs.artifacts["dataset"],
        signals=inputs.artifacts.get("signals"),
        llm=llm.endpoint,
        variant=spec.variant,
        sampling=spec.sampling,
        temperature=spec.hyperparameters.temperature,
        max_tokens=spec.hyperparameters.max_response_length,
    )
    digests = _digests(inputs)
    # The sampler is an ordinary client: it runs on the training pool's nodes but asks for none of their GPUs.
    compute = spec.compute.model_copy(update={"nodes": 1, "gpus_per_node": 0})
    return Step("sample", stage, "jobs", compute, inputs=digests, servers=llm.servers)


def _train(resource: GRPOJob, inputs: Inputs, samples: ArtifactRef) -> Step:
    spec = resource.spec
    stage = TrainGRPO(
        model=inputs.models["model"],
        dataset=inputs.artifacts["dataset"],
        samples=samples,
        signals=inputs.artifacts.get("signals"),
        variant=spec.variant,
        backend=spec.backend,
        rewards=spec.rewards,
        hyperparameters=with_precision(spec.hyperparameters, spec.compute),
        nodes=spec.compute.nodes,
        devices_per_node=spec.compute.gpus_per_node,
    )
    role = "rollout" if spec.backend is GRPOBackend.VERL else "trainer"
    return Step("train", stage, role, spec.compute, inputs={**_digests(inputs), "samples": samples.digest})


def _digests(inputs: Inputs) -> dict[str, str]:
    digests = {role: artifact.digest for role, artifact in inputs.artifacts.items()}
    return {**digests, "model": model_identity(inputs.models["model"])}
