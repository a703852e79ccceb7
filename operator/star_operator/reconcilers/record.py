"""A training job's Checkpoint: the record of what it made, which outlives it and never changes."""

import json
from typing import Any

from pydantic import ValidationError

from star_contracts.job import JobSpec
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.meta import Resource, TrainingStatus
from star_operator.builders.checkpoint import checkpoint, checkpoint_names
from star_operator.builders.job import JOB_FILE
from star_operator.builders.llm import model_identity
from star_operator.builders.names import child_name
from star_operator.builders.step import Owner
from star_operator.core.errors import InvalidSpec, Retryable
from star_operator.core.objects import is_owned
from star_operator.core.reasons import ConditionReason
from star_operator.kube.cluster import Cluster
from star_operator.kube.resources import CONFIG_MAP, STAR_TYPES
from star_operator.reconcilers.pinning import recalled_inputs

RECORD = STAR_TYPES[Checkpoint.INFO.kind]
EXISTS = "AlreadyExists"


async def recorded(cluster: Cluster, resource: Resource[Any, Any], status: TrainingStatus) -> TrainingStatus:
    """Record what a training job made, and return the status with the record's name.

    A record of the same artifact is kept as it is, with the lineage of whoever made it first. One of another artifact
    stays too, whatever made it: the job's own gets a name that tells both apart.
    Raises InvalidSpec(NameTaken) where somebody has given that name to something else, Retryable while one is deleted.
    """
    assert status.artifact is not None
    meta, made = resource.metadata, status.artifact.digest
    names = checkpoint_names(resource, made)
    for name in names:
        body = await cluster.live.get(RECORD, meta.namespace, name)
        if body is None:
            wish = checkpoint(resource, status, await _made_from(cluster, resource, status), name)
            try:
                body = await cluster.create(wish)
            except Retryable as error:  # somebody was quicker, whose it is must be looked at
                if error.reason != EXISTS:
                    raise
                body = await cluster.live.get(RECORD, meta.namespace, name)
        if body is None or "deletionTimestamp" in body["metadata"]:
            raise Retryable("BeingDeleted", f"{RECORD.kind} {name} is being deleted")
        if body["spec"]["digest"] == made:
            return status.model_copy(update={"checkpoint": name})
    text = f"{RECORD.kind} {' and '.join(names)} are there and record other models than {made}, which this job made"
    raise InvalidSpec(
        ConditionReason.NAME_TAKEN,
        f"{text}; a {RECORD.kind} never changes: delete one of them and create the {resource.kind} again, which finds "
        "what was made and runs nothing",
    )


async def _made_from(cluster: Cluster, resource: Resource[Any, Any], status: TrainingStatus) -> dict[str, str]:
    """Return the digests that the job was started on, by role."""
    used = recalled_inputs(status)
    if used is None:
        return await _told(cluster, resource, status)
    digests = {role: artifact.digest for role, artifact in used.artifacts.items()}
    return {**digests, "model": model_identity(used.models["model"])}


async def _told(cluster: Cluster, resource: Resource[Any, Any], status: TrainingStatus) -> dict[str, str]:
    """Return what the last step's pods were told to read, for a job that an operator of before had started."""
    meta = resource.metadata
    owner = Owner(resource.kind, meta.namespace, meta.name, meta.uid)
    name = child_name(owner, status.attempt, status.steps[-1].name)
    body = await cluster.get(CONFIG_MAP, meta.namespace, name)
    if body is None or not is_owned(body, meta.uid):
        return {}
    try:
        spec = JobSpec.model_validate(json.loads(body["data"][JOB_FILE]))
    except (KeyError, ValueError, ValidationError):  # of another version
        return {}
    return dict(spec.inputs)
