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
from star_operator.builders.step import Inputs, Origin
from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES
from star_operator.policy.conditions import READY, find

MAKERS: tuple[type[SFTJob] | type[GRPOJob], ...] = (SFTJob, GRPOJob)
"""Kinds whose success brings a Checkpoint about."""
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


async def used(
    cluster: Cluster, model: type[Resource[Any, Any]], namespace: str, ref: Ref, field: str, role: str
) -> Inputs:
    """Return the artifact of a referenced resource as the input of that role. Raises Waiting until it has one."""
    resource, artifact = await produced(cluster, model, namespace, ref, field)
    return Inputs({role: artifact}, origins={role: origin_of(resource)})


def origin_of(resource: Resource[Any, Any]) -> Origin:
    """Return a resource as the origin of an input."""
    return Origin(resource.kind, resource.metadata.name, resource.metadata.uid)


async def taken_over(cluster: Cluster, resource: ResourceT, ref: Ref | None, steps: Sequence[str] = ()) -> Inputs:
    """Return the artifact of the earlier run of the same kind that `spec.previous` names, by role, and what to say.

    Those of its `steps` are there as `previous_<step>`.
    One that is not there any more, or that failed, is done without.
    Raises Waiting while it runs, InvalidSpec when a resource names itself.
    """
    kind, meta = type(resource), resource.metadata
    if ref is None:
        return Inputs()
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
        return Inputs(warnings=(JobWarning(reason=WarningReason.PREVIOUS_GONE, message=text),))
    of_steps = {
        f"previous_{step.name}": ArtifactRef(uri=step.artifact.uri, digest=step.artifact.digest)
        for step in earlier.status.steps
        if step.name in steps and step.artifact is not None
    }
    found = {"previous": artifact, **of_steps}
    return Inputs(found, origins=dict.fromkeys(found, origin_of(earlier)))


async def dataset_and_signals(
    cluster: Cluster, namespace: str, dataset: Ref, verbalization: Ref | None, field: str = "spec"
) -> Inputs:
    """Return the artifacts of a spec's `dataset` and, where it names one, `verbalization`; `field` is that spec."""
    found = await used(cluster, RecDataset, namespace, dataset, f"{field}.dataset", "dataset")
    if verbalization is None:
        return found
    signals = await used(cluster, Verbalization, namespace, verbalization, f"{field}.verbalization", "signals")
    return found | signals


async def model_input(
    cluster: Cluster,
    namespace: str,
    ref: ModelRef,
    field: str,
    role: str = "model",
    *,
    user: Resource[Any, Any] | None = None,
) -> Inputs:
    """Return the weights a model reference stands for, as the input of that role.

    For a `user`, a run that begins with them, the name of a Checkpoint stands for what the job that made it makes now,
    where that was created anew: a chain that is applied once more waits for its own training and not for the last one.
    Raises Waiting, or InvalidSpec on a digest that differs.
    """
    if ref.uri is not None:
        if ref.uri.startswith("hf://"):
            return Inputs(models={role: ModelSource(hub=ref.uri.removeprefix("hf://"))})
        assert ref.digest is not None  # refused at admission otherwise
        return Inputs(models={role: ModelSource(artifact=ArtifactRef(uri=ref.uri, digest=ref.digest))})
    assert ref.checkpoint is not None
    checkpoint = await checkpoint_of(cluster, namespace, ref.checkpoint, f"{field}.checkpoint")
    if user is not None and ref.digest != checkpoint.spec.digest:
        checkpoint = await _made_anew(cluster, checkpoint, f"{field}.checkpoint", user.metadata.uid)
    if ref.digest is not None and ref.digest != checkpoint.spec.digest:
        text = f"{field}.digest is {ref.digest}, but Checkpoint {ref.checkpoint} is {checkpoint.spec.digest}"
        raise InvalidSpec(ConditionReason.DIGEST_MISMATCH, f"{text}; correct one of them")
    source = ModelSource(artifact=ArtifactRef(uri=checkpoint.spec.uri, digest=checkpoint.spec.digest))
    return Inputs(models={role: source}, origins={role: origin_of(checkpoint)})


async def checkpoint_of(cluster: Cluster, namespace: str, name: str, field: str) -> Checkpoint:
    """Return a Checkpoint; while there is none, Waiting tells of the training job that will bring it."""
    try:
        return await get_resource(cluster, Checkpoint, namespace, name, field)
    except Waiting as missing:
        for maker in MAKERS:
            body = await cluster.get(STAR_TYPES[maker.INFO.kind], namespace, name)
            if body is not None:
                job = maker.parse(body)
                if job.status.phase is Phase.SUCCEEDED and job.status.checkpoint not in ("", name):
                    return await _record_of(cluster, job, field)
                raise _not_ready(job, field) from missing
        raise


async def _made_anew(cluster: Cluster, record: Checkpoint, field: str, user: str) -> Checkpoint:
    """Return what the training job of a record's name has made, or will make, since it was created anew.

    That is the record itself where the job is as it was, is gone, or is of another name. Raises Waiting.
    """
    meta, lineage = record.metadata, record.spec.lineage
    maker = next((one for one in MAKERS if one.INFO.kind == lineage.producer_kind), None)
    if maker is None or lineage.producer_name != meta.name:
        return record
    body = await cluster.get(STAR_TYPES[maker.INFO.kind], meta.namespace, meta.name)
    if body is None or "deletionTimestamp" in body["metadata"]:
        return record
    uid = body["metadata"]["uid"]
    return record if uid in (lineage.producer_uid, user) else await _record_of(cluster, maker.parse(body), field)


async def _record_of(cluster: Cluster, job: SFTJob | GRPOJob, field: str) -> Checkpoint:
    """Return the Checkpoint that a training job has recorded. Raises Waiting until it has."""
    name = job.status.checkpoint or job.metadata.name
    if job.status.phase is not Phase.SUCCEEDED:
        raise _not_ready(job, field)
    body = await cluster.get(STAR_TYPES[Checkpoint.INFO.kind], job.metadata.namespace, name)
    if body is None:
        text = f"{field}: Checkpoint {name}, which {job.kind} {job.metadata.name} recorded, is gone"
        remedy = f"create the {job.kind} again, which finds what it made"
        raise Waiting(ConditionReason.INPUT_MISSING, f"{text}; {remedy}")
    return Checkpoint.parse(body)


async def llm_models(
    cluster: Cluster, user: Resource[Any, Any], llm: LLM | None, field: str = "spec.llm", role: str = "llm"
) -> Inputs:
    """Return the model that the server of an `llm` block serves, as the input of that role."""
    if llm is None or llm.server is None:
        return Inputs()
    namespace = user.metadata.namespace
    return await model_input(cluster, namespace, llm.server.model, f"{field}.server.model", role, user=user)


def _not_ready(resource: Resource[Any, Any], field: str) -> Waiting:
    kind, name, status = resource.kind, resource.metadata.name, resource.status
    why = find(status.conditions, READY)
    if status.phase is Phase.FAILED:
        text = f"{field}: {kind} {name} failed: {why.message if why else 'no reason recorded'}"
        return Waiting(ConditionReason.INPUT_FAILED, text)
    held_up = why is not None and status.phase in (Phase.WAITING, Phase.QUEUED, Phase.SUSPENDED)
    so_far = f": {why.message}" if why and held_up else f" ({status.progress_text or 'no progress yet'})"
    return Waiting(ConditionReason.INPUT_NOT_READY, f"{field}: {kind} {name} is {status.phase}{so_far}")
