"""References -> what they stand for now, or `Waiting` with a sentence that says what is missing."""

from collections.abc import Sequence
from typing import Any, TypeVar

from star_contracts.artifact import ArtifactRef
from star_contracts.errors import JobWarning, WarningReason
from star_contracts.job import ModelSource
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.common import LLM, ModelRef, Ref
from star_operator.api.grpojob import GRPOJob
from star_operator.api.meta import Phase, Resource
from star_operator.api.recdataset import RecDataset
from star_operator.api.sftjob import SFTJob
from star_operator.api.verbalization import Verbalization
from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.conditions import READY, find

ResourceT = TypeVar("ResourceT", bound=Resource[Any, Any])


async def get_resource(cluster: Cluster, model: type[ResourceT], namespace: str, name: str, field: str) -> ResourceT:
    """Return the resource a field names. Raises Waiting when there is none."""
    kind = model.INFO.kind
    body = await cluster.get(STAR_TYPES[kind], namespace, name)
    if body is None:
        text = (
            f"{field} names {kind} {name}, which does not exist in namespace {namespace}; create it or correct the name"
        )
        raise Waiting(ConditionReason.INPUT_MISSING, text)
    return model.parse(body)


async def produced(
    cluster: Cluster, model: type[ResourceT], namespace: str, ref: Ref, field: str
) -> tuple[ResourceT, ArtifactRef]:
    """Return a referenced resource and its artifact. Raises Waiting until it has one."""
    resource = await get_resource(cluster, model, namespace, ref.name, field)
    artifact = resource.status.artifact
    if resource.status.phase is Phase.SUCCEEDED and artifact is not None:
        return resource, ArtifactRef(uri=artifact.uri, digest=artifact.digest)
    raise _not_ready(resource, field)


async def taken_over(
    cluster: Cluster, resource: ResourceT, ref: Ref | None, steps: Sequence[str] = ()
) -> tuple[dict[str, ArtifactRef], tuple[JobWarning, ...]]:
    """Return the artifact of the earlier run of the same kind that `spec.previous` names, by role, and what to say.

    Those of its `steps` are there as `previous_<step>`.
    One that is not there any more, or that failed, is done without.
    Raises Waiting while it runs, InvalidSpec when a resource names itself.
    """
    kind, meta = type(resource), resource.metadata
    if ref is None:
        return {}, ()
    if ref.name == meta.name:
        text = f"spec.previous names {ref.name} itself, which can only wait for its own end"
        remedy = f"name an earlier {kind.INFO.kind} or leave previous out"
        raise InvalidSpec(ConditionReason.INVALID_REFERENCE, f"{text}; {remedy}")
    try:
        earlier, artifact = await produced(cluster, kind, meta.namespace, ref, "spec.previous")
    except Waiting as waiting:
        if waiting.reason not in (ConditionReason.INPUT_MISSING, ConditionReason.INPUT_FAILED):
            raise
        text = f"{waiting.message}. What could not be taken over from it was made anew"
        return {}, (JobWarning(reason=WarningReason.PREVIOUS_GONE, message=text),)
    of_steps = {
        f"previous_{step.name}": ArtifactRef(uri=step.artifact.uri, digest=step.artifact.digest)
        for step in earlier.status.steps
        if step.name in steps and step.artifact is not None
    }
    return {"previous": artifact, **of_steps}, ()


async def dataset_and_signals(
    cluster: Cluster, namespace: str, dataset: Ref, verbalization: Ref | None, field: str = "spec"
) -> dict[str, ArtifactRef]:
    """Return the artifacts of a spec's `dataset` and, where it names one, `verbalization`; `field` is that spec."""
    _, artifact = await produced(cluster, RecDataset, namespace, dataset, f"{field}.dataset")
    artifacts = {"dataset": artifact}
    if verbalization is not None:
        _, signals = await produced(cluster, Verbalization, namespace, verbalization, f"{field}.verbalization")
        artifacts["signals"] = signals
    return artifacts


async def model_source(cluster: Cluster, namespace: str, ref: ModelRef, field: str) -> ModelSource:
    """Return the weights a model reference stands for. Raises Waiting, or InvalidSpec on a digest that differs."""
    if ref.uri is not None:
        if ref.uri.startswith("hf://"):
            return ModelSource(hub=ref.uri.removeprefix("hf://"))
        assert ref.digest is not None  # refused at admission otherwise
        return ModelSource(artifact=ArtifactRef(uri=ref.uri, digest=ref.digest))
    assert ref.checkpoint is not None
    checkpoint = await checkpoint_of(cluster, namespace, ref.checkpoint, f"{field}.checkpoint")
    if ref.digest is not None and ref.digest != checkpoint.spec.digest:
        text = f"{field}.digest is {ref.digest}, but Checkpoint {ref.checkpoint} is {checkpoint.spec.digest}"
        raise InvalidSpec(ConditionReason.DIGEST_MISMATCH, f"{text}; correct one of them")
    return ModelSource(artifact=ArtifactRef(uri=checkpoint.spec.uri, digest=checkpoint.spec.digest))


async def checkpoint_of(cluster: Cluster, namespace: str, name: str, field: str) -> Checkpoint:
    """Return a Checkpoint; while there is none, Waiting tells of the training job that will bring it."""
    try:
        return await get_resource(cluster, Checkpoint, namespace, name, field)
    except Waiting as missing:
        makers: tuple[type[SFTJob] | type[GRPOJob], ...] = (SFTJob, GRPOJob)
        for maker in makers:
            body = await cluster.get(STAR_TYPES[maker.INFO.kind], namespace, name)
            if body is not None:
                raise _not_ready(maker.parse(body), field) from missing
        raise


async def llm_models(
    cluster: Cluster, namespace: str, llm: LLM | None, field: str = "spec.llm"
) -> dict[str, ModelSource]:
    """Return the model that the server of an `llm` block serves, by role."""
    if llm is None or llm.server is None:
        return {}
    return {"llm": await model_source(cluster, namespace, llm.server.model, f"{field}.server.model")}


def _not_ready(resource: Resource[Any, Any], field: str) -> Waiting:
    kind, name, status = resource.kind, resource.metadata.name, resource.status
    why = find(status.conditions, READY)
    if status.phase is Phase.FAILED:
        text = f"{field}: {kind} {name} failed: {why.message if why else 'no reason recorded'}"
        return Waiting(ConditionReason.INPUT_FAILED, text)
    held_up = why is not None and status.phase in (Phase.WAITING, Phase.QUEUED, Phase.SUSPENDED)
    so_far = f": {why.message}" if why and held_up else f" ({status.progress_text or 'no progress yet'})"
    return Waiting(ConditionReason.INPUT_NOT_READY, f"{field}: {kind} {name} is {status.phase}{so_far}")
