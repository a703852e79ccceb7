"""`star-job verify`: a checkpoint, its signatures and the verdict on it, each held against its digest.

It runs before anything serves the checkpoint, with the namespace's own credentials. Whatever differs is terminal, and
the sentence names both digests.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from pydantic import ValidationError

from star_contracts.artifact import ArtifactKind, ArtifactRef, FileEntry, Manifest
from star_contracts.errors import Reason
from star_contracts.proofs import VERIFY_SPEC_PATH, VerifySpec
from star_contracts.result import JobResult
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.proofs.signatures import require_signatures
from star_jobs.proofs.verdicts import require_verdict
from star_jobs.storage import ObjectStore, read_manifest
from star_jobs.storage.marks import require_use
from star_jobs.storage.s3 import CONCURRENCY


def verify(stopping: threading.Event) -> JobResult:
    """Look at what the spec names. Raises JobFailure."""
    path = Path(os.environ.get("STAR_VERIFY_SPEC", VERIFY_SPEC_PATH))
    try:
        spec = VerifySpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the spec {path} of what to verify cannot be used ({error}); set STAR_VERIFY_SPEC"
        ) from error
    return run_verify(spec, ObjectStore(spec.store), stopping)


def run_verify(spec: VerifySpec, store: ObjectStore, stopping: threading.Event) -> JobResult:
    """Look at the checkpoint's manifest, then at the verdict, its signatures, and each of its files where it needs any.

    Files are read as a stream: nothing of them stays. Raises JobFailure.
    """
    require_use(store, spec.checkpoint.uri)
    manifest = read_manifest(store, spec.checkpoint)
    if manifest.kind is not ArtifactKind.CHECKPOINT:
        text = (
            f"spec.checkpoint: {spec.checkpoint.uri} ({spec.checkpoint.digest}) is an artifact of kind {manifest.kind}"
        )
        raise TerminalFailure(Reason.INVALID_MODEL, f"{text}, and no checkpoint; name a model's")
    if spec.verdict is not None:
        require_verdict(spec.verdict, store)
    signers: frozenset[str] = frozenset()
    if spec.signatures is not None:
        signers = require_signatures(spec.checkpoint, spec.signatures, store)
        require_files(store, spec.checkpoint, manifest, stopping.is_set)
    structlog.get_logger().info("verified", digest=spec.checkpoint.digest, signers=sorted(signers))
    return JobResult(metrics={"signers": len(signers), "verdicts": int(spec.verdict is not None)})


def require_files(
    store: ObjectStore, ref: ArtifactRef, manifest: Manifest, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Raise TerminalFailure(ArtifactCorrupted) for a file that is not what the manifest says, naming both digests."""

    def look(entry: FileEntry) -> None:
        if is_stopping():
            raise RetryableFailure(Reason.INTERRUPTED, "the pod was told to stop; it looks again")
        found = store.sha256(f"{ref.uri}/{entry.path}")
        if found != entry.sha256:
            text = f"{ref.uri}/{entry.path} is sha256:{found}, and the manifest {ref.digest} has it as"
            remedy = "the file was changed; restore it"
            raise TerminalFailure(Reason.ARTIFACT_CORRUPTED, f"{text} sha256:{entry.sha256}: {remedy}")

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(look, manifest.files))
