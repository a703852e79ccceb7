"""Whether a verdict holds: its report, by digest, measured this checkpoint, on that data, in that way, so well.

An Evaluation's status is what somebody wrote there. Its report's manifest names the digests of what was measured, and
its digest pins it; where the two disagree, the report is right.
"""

import json
import math

from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind, Manifest
from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.proofs import BoundVerdict
from star_contracts.settings import EvaluationSettings
from star_jobs.errors import TerminalFailure
from star_jobs.evaluate.report import REPORT
from star_jobs.storage import ObjectStore, read_manifest

CALLED = {"llm": "the checkpoint", "dataset": "the dataset", "signals": "the look-up store"}


def require_verdict(verdict: BoundVerdict, store: ObjectStore) -> Manifest:
    """Return the report's manifest. Raises TerminalFailure(VerdictNotBound), or as `read_manifest` does."""
    manifest = read_manifest(store, verdict.report)
    report = f"the report {verdict.report.digest} of Evaluation {verdict.evaluation}"
    if manifest.kind is not ArtifactKind.REPORT:
        raise _not_bound(f"{report} is an artifact of kind {manifest.kind}")
    for role, digest in sorted(verdict.measured.items()):
        have = manifest.inputs.get(role, "nothing")
        if have != digest:
            raise _not_bound(f"{report} measured {CALLED.get(role, role)} {have}, and not {digest}")
    _require_settings(verdict, manifest, store, report)
    for name in sorted(verdict.metrics.keys() | manifest.metrics.keys()):
        told, found = verdict.metrics.get(name), manifest.metrics.get(name)
        if told is None or found is None or not math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-12):
            raise _not_bound(f"status.metrics has {name} {_figure(told)}, and {report} has {_figure(found)}")
    return manifest


def _require_settings(verdict: BoundVerdict, manifest: Manifest, store: ObjectStore, report: str) -> None:
    """Raise for a report file that its manifest does not pin, or one of other settings."""
    place = f"{verdict.report.uri}/{REPORT}"
    data, entry = store.find_bytes(place), next((one for one in manifest.files if one.path == REPORT), None)
    have = "missing" if data is None else sha256_digest(data)
    wanted = "not there" if entry is None else f"sha256:{entry.sha256}"
    if data is None or have != wanted:
        text = f"{place} is {have}, and its manifest {verdict.report.digest} has it as {wanted}"
        raise TerminalFailure(Reason.ARTIFACT_CORRUPTED, f"{text}: the report was changed; restore it, or measure anew")
    try:
        measured = EvaluationSettings.model_validate(json.loads(data)["settings"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise _not_bound(f"{report} does not say how it measured") from error
    other = [
        name for name in EvaluationSettings.model_fields if getattr(measured, name) != getattr(verdict.settings, name)
    ]
    if other:
        field = EvaluationSettings.model_fields[other[0]].alias or other[0]
        raise _not_bound(f"{report} measured with other settings: {field} differs")


def _figure(value: float | None) -> str:
    return "not at all" if value is None else f"as {value:.6g}"


def _not_bound(text: str) -> TerminalFailure:
    remedy = "delete the Evaluation, so that it is measured anew, and see who may write its status"
    return TerminalFailure(Reason.VERDICT_NOT_BOUND, f"{text}; {remedy}")
