"""A training job's Checkpoint: the record of what it made, which outlives it and never changes."""

from typing import Any

from star_operator.api.checkpoint import Checkpoint
from star_operator.api.meta import Resource, Status
from star_operator.builders.checkpoint import checkpoint
from star_operator.builders.llm import model_identity
from star_operator.builders.step import Inputs
from star_operator.core.errors import InvalidSpec
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import STAR_TYPES


async def is_recorded(cluster: Cluster, resource: Resource[Any, Any], status: Status) -> bool:
    """Say whether there is a Checkpoint of the job's name and artifact.

    A job that is created anew and makes, or finds, the same artifact keeps the record as it is, with the lineage of
    whoever made it first. Raises InvalidSpec(NameTaken) where the record is of another artifact.
    """
    assert status.artifact is not None
    meta, kind = resource.metadata, Checkpoint.INFO.kind
    body = await cluster.live.get(STAR_TYPES[kind], meta.namespace, meta.name)
    if body is None:
        return False
    there, made = body["spec"]["digest"], status.artifact.digest
    if there == made:
        return True
    text = f"{kind} {meta.name} is there and records {there}, but {resource.kind} {meta.name} made {made}"
    remedy = f"delete {kind} {meta.name} or give the {resource.kind} another name, and create the {resource.kind} again"
    raise InvalidSpec(
        ConditionReason.NAME_TAKEN,
        f"{text}; a {kind} never changes: {remedy}, which finds what was made and runs nothing",
    )


async def record(cluster: Cluster, resource: Resource[Any, Any], status: Status, used: Inputs) -> None:
    """Write the Checkpoint of a succeeded training job."""
    digests = {role: artifact.digest for role, artifact in used.artifacts.items()}
    await cluster.apply(checkpoint(resource, status, {**digests, "model": model_identity(used.models["model"])}))
