"""The pretrained model becomes the Checkpoint `base`: one Job of the shape that the operator gives its own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from star_cli.errors import StarctlError
from star_cli.install import NAMESPACE, RELEASE
from star_cli.kubectl import Kubectl
from star_cli.local.progress import Step as Shown
from star_cli.resources import Reader, collection
from star_contracts.artifact import ArtifactRef
from star_contracts.job import ImportModel
from star_contracts.result import JobResult
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.common import Compute, Resources, RunSpec
from star_operator.api.meta import API_VERSION
from star_operator.builders.job import step_job
from star_operator.builders.step import Owner, Step
from star_operator.core.settings import Settings

NAME = "base"
SECONDS = 900.0
TTL_SECONDS = 600
"""The Job and its pod go this long after the end; its result is read long before."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Cluster:
    """How the cluster is read and written."""

    api: Reader
    kubectl: Kubectl
    namespace: str


def import_objects(
    source: str, sha256: str, namespace: str, settings: Settings, *, name: str = NAME, memory: str = "3Gi"
) -> list[dict[str, Any]]:
    """ConfigMap and Job that turn the GGUF file at `source` into a checkpoint artifact.

    The Checkpoint cannot own them, as it is made from their result; they go by their time to live instead.
    """
    owner = Owner("Checkpoint", namespace, name, "")
    compute = Compute(pool="cpu", resources=Resources(memory=memory))
    inputs = {"source": f"sha256:{sha256}"}
    step = Step("import", ImportModel(source=source), "trainer", compute, inputs=inputs)
    objects = step_job(owner, step, 1, settings, RunSpec(retries=0))
    for obj in objects:
        del obj["metadata"]["ownerReferences"]
    objects[-1]["spec"]["ttlSecondsAfterFinished"] = TTL_SECONDS
    return objects


def checkpoint_object(artifact: ArtifactRef, sha256: str, namespace: str) -> dict[str, Any]:
    """The Checkpoint of the imported model."""
    spec = {
        "uri": artifact.uri,
        "digest": artifact.digest,
        "lineage": {"inputs": {"source": f"sha256:{sha256}"}},
    }
    metadata = {"name": NAME, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "Checkpoint", "metadata": metadata, "spec": spec}


def present(api: Reader, namespace: str, sha256: str) -> ArtifactRef | None:
    """The artifact of a Checkpoint `base` that was made from this file; None where there is none.

    Raises:
        StarctlError: there is one that was made from something else.
    """
    body = api.get(f"{collection(Checkpoint.INFO.plural, namespace)}/{NAME}")
    if body is None:
        return None
    spec = Checkpoint.parse(body).spec
    if spec.lineage.inputs.get("source") != f"sha256:{sha256}":
        raise StarctlError(
            f"Checkpoint {NAME} in namespace {namespace} was made from another file, and a Checkpoint never changes: "
            f"delete it (kubectl -n {namespace} delete ckpt {NAME}), or choose another --namespace"
        )
    return ArtifactRef(uri=spec.uri, digest=spec.digest)


def run_import(cluster: Cluster, source: str, sha256: str, shown: Shown) -> ArtifactRef:
    """Run the Job and create the Checkpoint; equal work that was done before is reused by the job itself.

    Raises:
        StarctlError: the job failed (its own sentence is in the message), or does not end in time.
    """
    settings = installed_settings(cluster.api)
    objects = import_objects(source, sha256, cluster.namespace, settings)
    name = objects[-1]["metadata"]["name"]
    # What an earlier run left may have other images, and a Job's template never changes.
    cluster.kubectl.run("delete", "job", name, f"--namespace={cluster.namespace}", "--ignore-not-found", "--wait")
    cluster.kubectl.apply(objects)
    result = _wait(cluster, name, shown)
    if result.error is not None or result.artifact is None:
        why = result.error.message if result.error else "it left no artifact"
        raise StarctlError(f"the model could not be imported: {why}")
    cluster.kubectl.apply([checkpoint_object(result.artifact, sha256, cluster.namespace)])
    return result.artifact


def installed_settings(api: Reader) -> Settings:
    """The settings the installed operator runs with.

    Raises:
        StarctlError: there is none, or it is of another version.
    """
    body = api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{RELEASE}")
    if body is None:
        raise StarctlError(f"there is no operator in namespace {NAMESPACE}; `starctl install` brings it")
    try:
        return Settings.model_validate(yaml.safe_load(body["data"]["settings.yaml"]))
    except (ValidationError, KeyError, yaml.YAMLError) as error:
        raise StarctlError(f"the settings of the operator in {NAMESPACE} are of another version: {error}") from error


def _wait(cluster: Cluster, job: str, shown: Shown) -> JobResult:
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        shown.advance(time.monotonic() - start, 0, "s")
        pods = (cluster.api.get(f"/api/v1/namespaces/{cluster.namespace}/pods") or {}).get("items", [])
        mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") == job]
        for pod in mine:
            result = ended(pod)
            if result is not None:
                return result
        time.sleep(_POLL_SECONDS)
    raise StarctlError(
        f"Job {job} did not end within {SECONDS:.0f} s; see kubectl -n {cluster.namespace} describe job {job}"
    )


def ended(pod: Mapping[str, Any]) -> JobResult | None:
    """What the pod's main container said at its end; None while it has not ended.

    Raises:
        StarctlError: it ended without a word.
    """
    containers = pod.get("status", {}).get("containerStatuses", [])
    states = [container.get("state", {}).get("terminated") for container in containers if container["name"] == "main"]
    if not states or states[0] is None:
        return None
    try:
        return JobResult.model_validate_json(states[0].get("message", ""))
    except ValidationError:
        meta, code, why = pod["metadata"], states[0].get("exitCode"), states[0].get("reason", "")
        raise StarctlError(
            f"pod {meta['name']} ended without a word (exit code {code} {why}); "
            f"see kubectl -n {meta['namespace']} logs {meta['name']}"
        ) from None
