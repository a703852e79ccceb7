"""Proof before the commit: what an Evaluation's status claims is read again in the store, by digest.

A status can be edited by whoever may write it; a report's manifest cannot without having another digest. So the claim
counts only where the manifest of that digest says the same: this checkpoint, this dataset, these settings, these
figures.
"""

import json
import math
import tempfile
from pathlib import Path

from star_contracts.artifact import ArtifactKind, ArtifactRef, Manifest
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.promotion import PromotionSpec, ReportClaim
from star_contracts.settings import EvaluationSettings
from star_jobs.errors import TerminalFailure
from star_jobs.storage import ObjectStore, fetch, read_manifest

REPORT = "report.json"
MODEL, DATASET = "llm", "dataset"
"""Roles in a report's manifest: the model that was measured, and the data that it was measured on."""
_TOLERANCE = 1e-9
"""Relative: a figure goes through JSON and the API server on its way."""


def verify(spec: PromotionSpec, store: ObjectStore) -> None:
    """Look at the checkpoint and at all reports that its promotion rests on.

    Raises TerminalFailure: ProofDiffers, with the two digests or figures; ArtifactNotFound or ArtifactCorrupted for a
    report, or a checkpoint, that is not what it is pinned as. Raises RetryableFailure where the store does not answer.
    """
    if spec.uri.startswith("s3://"):
        _verify_checkpoint(spec, store)
    for claim in spec.reports:
        manifest = read_manifest(store, claim.report)
        _verify_manifest(claim, manifest)
        if claim.settings is not None:
            _verify_settings(claim, store)


def _verify_checkpoint(spec: PromotionSpec, store: ObjectStore) -> None:
    manifest = read_manifest(store, ArtifactRef(uri=spec.uri, digest=spec.digest))
    if manifest.kind is not ArtifactKind.CHECKPOINT:
        raise _differs(f"{spec.uri} ({spec.digest}) is an artifact of kind {manifest.kind}, not a checkpoint")
    facts = spec.known(spec.digest)
    for role, digest in (facts.inputs if facts else {}).items():
        found = manifest.inputs.get(role)
        if found != digest:
            raise _differs(
                f"the Checkpoint's lineage names {role} {digest}, and the manifest of {spec.digest} says "
                f"{found or 'nothing of it'}"
            )


def _verify_manifest(claim: ReportClaim, manifest: Manifest) -> None:
    of = f"Evaluation {claim.evaluation}: its report {claim.report.digest}"
    if manifest.kind is not ArtifactKind.REPORT:
        raise _differs(f"{of} is an artifact of kind {manifest.kind}, not a report")
    wanted = {MODEL: ("the checkpoint", claim.checkpoint), DATASET: ("the dataset", claim.dataset)}
    for role, (name, digest) in wanted.items():
        found = manifest.inputs.get(role)
        if digest is not None and found != digest:
            raise _differs(f"{of} measured {name} {found or 'of no digest'}, and {digest} is needed")
    for name, value in claim.metrics.items():
        measured = manifest.metrics.get(name)
        if measured is None or not math.isclose(measured, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            raise _differs(f"{of} says {name} is {measured}, and the Evaluation's status says {value}")


def _verify_settings(claim: ReportClaim, store: ObjectStore) -> None:
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        path = fetch(store, claim.report, Path(folder) / "report", only=[REPORT]) / REPORT
        try:
            settings = EvaluationSettings.model_validate(json.loads(path.read_bytes())["settings"])
            found = value_hash(settings.to_json_dict())
        except (OSError, ValueError, KeyError, TypeError) as error:  # pydantic's ValidationError is a ValueError
            raise _differs(
                f"Evaluation {claim.evaluation}: its report {claim.report.digest} has no readable {REPORT}"
            ) from error
    if found != claim.settings:
        raise _differs(
            f"Evaluation {claim.evaluation}: its report {claim.report.digest} was measured with settings {found}, "
            f"and {claim.settings} is needed"
        )


def _differs(message: str) -> TerminalFailure:
    return TerminalFailure(Reason.PROOF_DIFFERS, f"{message}: nothing was committed; evaluate it anew")
