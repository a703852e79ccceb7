"""A GGUF file becomes a checkpoint: uploaded, and converted by a Job of the trainer's image in the cluster.

vLLM's servers here load Hugging Face folders. A GGUF file is dequantized to float32 and written as one; what the Job
cannot convert it refuses with a sentence.
"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_cli.demo.importing import ended, import_objects
from star_cli.errors import StarctlError
from star_contracts.artifact import ArtifactRef
from star_contracts.names import GROUP
from star_contracts.result import JobResult
from star_operator.core.settings import Settings

if TYPE_CHECKING:
    from star_cli.local.kubeapi import KubeApi
    from star_jobs.storage import ObjectStore

SECONDS = 3600.0
_POLL_SECONDS = 2.0
_GIB = 1024**3
_GROWTH = 16
"""Bytes in memory for each of a quantized file: float32, twice."""
LEAST_GIB = 3


def convert(
    file: Path, place: tuple[str, str], store: "ObjectStore", settings: Settings, api: "KubeApi"
) -> tuple[ArtifactRef, str]:
    """Return the checkpoint that a file became, and the file's digest. Raises StarctlError, or JobFailure."""
    from star_jobs.models.gguf import BrokenGGUF, check
    from star_jobs.storage.files import sha256_file

    namespace, name = place
    if not file.is_file():
        raise StarctlError(f"{file} is no file; give the .gguf file itself")
    try:
        check(file)
    except BrokenGGUF as broken:
        raise StarctlError(f"{file} {broken}: give the .gguf itself, whole") from broken
    sha256 = sha256_file(file)
    source = f"{settings.store.uri}/{namespace}/imports/{sha256}.gguf"
    if not store.has(source):
        store.upload(file, source)
    gib = max(LEAST_GIB, math.ceil(_GROWTH * file.stat().st_size / _GIB))
    objects = import_objects(source, sha256, namespace, settings, name=name, memory=f"{gib}Gi")
    job = objects[-1]["metadata"]["name"]
    api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/{job}?propagationPolicy=Background")
    _until_gone(api, namespace, job)
    api.apply_all(objects)
    result = _wait(api, namespace, job)
    if result.error is not None or result.artifact is None:
        why = result.error.message if result.error else "it left no artifact"
        raise StarctlError(f"{file.name} could not be converted: {why}")
    store.delete(source)
    return result.artifact, f"sha256:{sha256}"


def _until_gone(api: "KubeApi", namespace: str, job: str) -> None:
    start = time.monotonic()
    while api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{job}") is not None or _pods(api, namespace, job):
        if time.monotonic() - start > SECONDS:
            raise StarctlError(f"Job {job} of an earlier import does not go; delete it")
        time.sleep(_POLL_SECONDS)


def _wait(api: "KubeApi", namespace: str, job: str) -> JobResult:
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        for pod in _pods(api, namespace, job):
            result = ended(pod)
            if result is not None:
                return result
        time.sleep(_POLL_SECONDS)
    raise StarctlError(f"Job {job} did not end within {SECONDS:.0f} s; see kubectl -n {namespace} describe job {job}")


def _pods(api: "KubeApi", namespace: str, job: str) -> list[dict[str, Any]]:
    selector = f"batch.kubernetes.io/job-name={job},{GROUP}/step=import"
    found = api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}") or {}
    items: list[dict[str, Any]] = found.get("items", [])
    return items
