"""Where a stage's weights come from: an artifact of ours or a Hugging Face compatible hub -> a local folder."""

import errno
import os
from dataclasses import replace
from pathlib import Path

from star_contracts.artifact import ArtifactKind
from star_contracts.errors import Reason
from star_contracts.job import ModelSource
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure, as_failure
from star_jobs.models.code import without_code
from star_jobs.models.folder import ModelFolder, describe
from star_jobs.runtime import JobContext, work_dir
from star_jobs.storage import read_manifest

_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def resolve(source: ModelSource, job: JobContext) -> ModelFolder:
    """Return the model to train on local disk, without programs of its own.

    Raises TerminalFailure(InvalidModel) when it is not a usable model or the hub does not have it, and whatever
    fetching an artifact raises.
    """
    if source.artifact is not None:
        kind = read_manifest(job.store, source.artifact).kind
        if kind is not ArtifactKind.CHECKPOINT:
            raise TerminalFailure(
                Reason.INVALID_MODEL, f"model: {source.artifact.uri} is a {kind} artifact; point to a checkpoint"
            )
        return _ready(job.fetch(source.artifact), source.artifact.uri, job)
    if source.hub is None:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, "model: neither an artifact nor a hub id is set; set one of them"
        )
    return _ready(_from_hub(source.hub, work_dir() / "hub"), source.hub, job)


def _ready(folder: Path, name: str, job: JobContext) -> ModelFolder:
    model = describe(folder, name).require_trainable()
    path = without_code(folder, job.scratch / "model")
    if path != folder:
        job.log.warning("the model brings programs along, which are not run", model=name)
    return replace(model, path=path)


def inputs_of(source: ModelSource) -> dict[str, str]:
    """Return the manifest's record of the model: its digest, when it is an artifact."""
    return {"model": source.artifact.digest} if source.artifact is not None else {}


def split_hub_id(hub: str) -> tuple[str, str | None]:
    """Return (`org/name`, revision or None) of `org/name[@revision]`."""
    repository, _, revision = hub.partition("@")
    return repository, revision or None


def _from_hub(hub: str, root: Path) -> Path:
    """Download a model with `huggingface_hub` (endpoint from HF_ENDPOINT, token from HF_TOKEN)."""
    from huggingface_hub import snapshot_download

    repository, revision = split_hub_id(hub)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(_WANTED),
                local_dir=root / repository.replace("/", "--") / (revision or "main"),
            )
        )
    except Exception as error:
        raise hub_failure(hub, error) from error


def hub_failure(hub: str, error: Exception) -> JobFailure:
    """Map what `huggingface_hub` raises: what is not there or not allowed is terminal, the network is not."""
    detail = " ".join(str(error).split())[:300]
    missing = ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError", "HFValidationError")
    refused = getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return as_failure(error)
    if refused or type(error).__name__ in missing:
        return TerminalFailure(
            Reason.INVALID_MODEL,
            f"model: the hub has no {hub} for this job ({detail}): check the id, the revision and HF_TOKEN",
        )
    return RetryableFailure(
        Reason.INTERNAL,
        f"model: {hub} could not be downloaded ({type(error).__name__}: {detail}): "
        "check the way to the hub (HF_ENDPOINT)",
    )
