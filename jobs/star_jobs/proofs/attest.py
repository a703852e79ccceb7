"""`star-job attest`: facts -> the proof of a checkpoint, beside it in the store.

Card, provenance, verdicts and, where there is a key, their signatures are files of one artifact of kind `proof`, whose
manifest comes last. Equal facts are written once. What made the checkpoint may be gone when a later verdict comes: the
first proof's provenance is then taken over as it is.
"""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind, ArtifactRef, Manifest, Producer
from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.proofs import (
    ATTEST_SPEC_PATH,
    CARD,
    CHECKPOINT_INPUT,
    PAGE,
    PROVENANCE,
    VERDICTS,
    AttestSpec,
    bundle_of,
)
from star_contracts.result import JobResult
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.proofs.bundle import signed
from star_jobs.proofs.card import Card, Source
from star_jobs.proofs.keys import key_id, signing_key
from star_jobs.proofs.statements import Report, provenance, verdicts
from star_jobs.storage import ArtifactWriter, ObjectStore, find_manifest, read_manifest
from star_jobs.storage.marks import require_use


def attest(stopping: threading.Event) -> JobResult:
    """Make the proof that the spec asks for. Raises JobFailure."""
    path = Path(os.environ.get("STAR_ATTEST_SPEC", ATTEST_SPEC_PATH))
    try:
        spec = AttestSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the proof's spec {path} cannot be used ({error}); set STAR_ATTEST_SPEC"
        ) from error
    return run_attest(spec, ObjectStore(spec.store), stopping)


def run_attest(spec: AttestSpec, store: ObjectStore, stopping: threading.Event) -> JobResult:
    """Write the proof, or find it there. Raises JobFailure."""
    require_use(store, spec.checkpoint.uri)
    found = find_manifest(store, spec.output)
    if found is not None and _is_proof(found[0], spec):
        return _result(*found, reused=True)
    checkpoint = read_manifest(store, spec.checkpoint)
    if checkpoint.kind is not ArtifactKind.CHECKPOINT:
        raise TerminalFailure(
            Reason.INVALID_MODEL,
            f"spec.uri: {spec.checkpoint.uri} ({spec.checkpoint.digest}) is an artifact of kind {checkpoint.kind}, and "
            "no checkpoint; name a model's",
        )
    reports, left_out = read_reports(spec, store)
    sources = vouched(spec, [Source(one, _manifest_of(store, one.artifact)) for one in spec.made_by], checkpoint)
    spec = spec.model_copy(update={"made_by": tuple(one.made_by for one in sources)})
    if stopping.is_set():
        raise RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; the proof is made anew")
    card = Card(spec, checkpoint, sources, reports, left_out)
    files = {CARD: card.markdown(), PAGE: card.page()}
    told = {name: sha256_digest(data) for name, data in files.items()}
    files[PROVENANCE] = _earlier(spec, store) or provenance(spec, checkpoint)
    files[VERDICTS] = verdicts(spec, reports, told)
    signer = _sign(spec, files)
    writer = ArtifactWriter(store, spec.output)
    for name, data in files.items():
        writer.add_bytes(data, name)
    producer = Producer(
        kind="Checkpoint",
        namespace=spec.namespace,
        name=spec.name,
        uid=spec.uid,
        step="attest",
        work_hash=spec.facts,
        image=spec.image,
    )
    inputs = {CHECKPOINT_INPUT: spec.checkpoint.digest} | {f"report.{r.evaluation}": r.ref.digest for r in reports}
    manifest = writer.commit(ArtifactKind.PROOF, producer, inputs, {"verdicts": len(reports), "signed": bool(signer)})
    structlog.get_logger().info("proof written", uri=spec.output, digest=manifest.digest(), key=signer or "none")
    return _result(manifest, ArtifactRef(uri=spec.output, digest=manifest.digest()), reused=False)


def _is_proof(manifest: Manifest, spec: AttestSpec) -> bool:
    """Say whether what lies at the output is a proof of these facts about this checkpoint, and not something else."""
    about = (manifest.kind, manifest.producer.work_hash, manifest.inputs.get(CHECKPOINT_INPUT))
    return about == (ArtifactKind.PROOF, spec.facts, spec.checkpoint.digest)


def read_reports(spec: AttestSpec, store: ObjectStore) -> tuple[list[Report], list[str]]:
    """Return the reports that measured this very checkpoint, and why the others do not count."""
    reports, left_out = [], []
    for one in spec.measured:
        try:
            manifest = read_manifest(store, one.report)
        except TerminalFailure as failure:
            if failure.reason not in (Reason.ARTIFACT_NOT_FOUND, Reason.ARTIFACT_CORRUPTED):
                raise
            left_out.append(f"Evaluation {one.evaluation} does not count: {failure.message}")
            continue
        if (measured := manifest.inputs.get("llm", "nothing")) == spec.checkpoint.digest:
            reports.append(Report(one.evaluation, one.report, manifest))
        else:
            text = f"its report {one.report.digest} measured {measured}, and not this checkpoint"
            left_out.append(f"Evaluation {one.evaluation} does not count: {text}")
    return reports, left_out


def vouched(spec: AttestSpec, sources: Sequence[Source], checkpoint: Manifest) -> list[Source]:
    """Return the sources that digests lead to, from manifest to manifest; a name may stand for another one by now."""
    reached = {spec.checkpoint.digest, *checkpoint.inputs.values()}
    found: list[Source] = []
    while new := [one for one in sources if one not in found and one.made_by.artifact and _digest(one) in reached]:
        found += new
        reached |= {digest for one in new if one.manifest is not None for digest in one.manifest.inputs.values()}
    return [one for one in sources if one in found]


def _digest(source: Source) -> str:
    return source.made_by.artifact.digest if source.made_by.artifact is not None else ""


def _sign(spec: AttestSpec, files: dict[str, bytes]) -> str:
    """Add the statements' signatures; return the key's digest, or nothing where there is no key."""
    password = Path(spec.password_file) if spec.password_file else None
    key = signing_key(Path(spec.key_file), password) if spec.key_file else None
    if key is None:
        return ""
    for name in (PROVENANCE, VERDICTS):
        files[bundle_of(name)] = signed(files[name], key)
    return key_id(key.public_key())


def _earlier(spec: AttestSpec, store: ObjectStore) -> bytes | None:
    """Return the provenance of the earlier proof, where that is whole and of this very checkpoint."""
    if spec.previous is None:
        return None
    try:
        manifest = read_manifest(store, spec.previous)
        data = store.get_bytes(f"{spec.previous.uri}/{PROVENANCE}")
    except TerminalFailure:
        return None
    entry = next((one for one in manifest.files if one.path == PROVENANCE), None)
    if entry is None or sha256_digest(data) != f"sha256:{entry.sha256}":
        return None
    subject = json.loads(data)["subject"][0]["digest"]["sha256"]
    return data if f"sha256:{subject}" == spec.checkpoint.digest else None


def _manifest_of(store: ObjectStore, ref: ArtifactRef | None) -> Manifest | None:
    """Return the manifest of something in the lineage; None where it was let go, or is not readable from here."""
    if ref is None:
        return None
    try:
        return read_manifest(store, ref)
    except JobFailure as failure:
        if isinstance(failure, RetryableFailure):
            raise
        return None


def _result(manifest: Manifest, ref: ArtifactRef, *, reused: bool) -> JobResult:
    files = {entry.path: f"sha256:{entry.sha256}" for entry in manifest.files}
    return JobResult(artifact=ref, bytes=manifest.total_bytes(), metrics=manifest.metrics, files=files, reused=reused)
