"""What a run was started on: written into its status before its first Job is made, and read from there ever after.

A name that a spec holds may stand for another resource by the time the run ends. What was trained on A is of A.
"""

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource
from star_operator.api.meta import InputStatus, Status
from star_operator.builders.step import Inputs, Origin

DONE_WITHOUT = "previous"
"""The only role that may be there with a warning in place of an artifact."""


def pinned_inputs(inputs: Inputs) -> tuple[InputStatus, ...]:
    """Return what the status is to remember. Models of a hub are in `status.models`, with their commits."""
    models = {role: model.artifact for role, model in inputs.models.items() if model.artifact is not None}
    rows = [_row(role, ref, inputs.origins.get(role)) for role, ref in (inputs.artifacts | models).items()]
    rows += [InputStatus(role=DONE_WITHOUT, warning=warning) for warning in inputs.warnings]
    return tuple(sorted(rows, key=lambda row: row.role))


def recalled_inputs(status: Status) -> Inputs | None:
    """Return what a run was started on; None where it has not been."""
    if not status.inputs:
        return None
    found = {row.role: ref for row in status.inputs if (ref := artifact_of(row)) is not None}
    models = {role: ModelSource(artifact=ref) for role, ref in found.items() if _is_model(role)}
    return Inputs(
        artifacts={role: ref for role, ref in found.items() if not _is_model(role)},
        models=models | {role: ModelSource(hub=commit) for role, commit in status.models.items()},
        warnings=tuple(row.warning for row in status.inputs if row.warning is not None),
        origins={row.role: Origin(row.kind, row.name, row.uid) for row in status.inputs if row.kind},
    )


def artifact_of(row: InputStatus) -> ArtifactRef | None:
    """Return the artifact of a row; None where it is done without."""
    return ArtifactRef(uri=row.uri, digest=row.digest) if row.uri is not None and row.digest is not None else None


def _row(role: str, ref: ArtifactRef, origin: Origin | None) -> InputStatus:
    named = {} if origin is None else {"kind": origin.kind, "name": origin.name, "uid": origin.uid}
    return InputStatus(role=role, uri=ref.uri, digest=ref.digest, **named)


def _is_model(role: str) -> bool:
    return role in ("model", "llm") or role.startswith("llm.")
