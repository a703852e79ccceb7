"""The Checkpoint record of a training job. It has no owner: it outlives the job that made it."""

import re
from typing import Any

from star_contracts.artifact import DIGEST_PATTERN
from star_operator.api.meta import API_VERSION, Resource, Status
from star_operator.core.objects import KubeObject, compact

MAX_NAME = 253
"""Characters of a resource's name (Kubernetes, `Object Names and IDs`)."""
DIGITS = 12


def checkpoint_names(resource: Resource[Any, Any], digest: str) -> tuple[str, str]:
    """Return the names that a training job's Checkpoint may have: the job's own, and one that names the work as well.

    The second, `<job>-<short kind>-<digits of the digest>`, is for where the first records another model: that of an
    earlier job of the name, of a job of another kind, or an imported one.
    """
    name = resource.metadata.name
    work = f"-{resource.INFO.short}-{digest.removeprefix('sha256:')[:DIGITS]}"
    return name, name[: MAX_NAME - len(work)].rstrip("-.") + work


def checkpoint(resource: Resource[Any, Any], status: Status, inputs: dict[str, str], name: str) -> KubeObject:
    """Return the Checkpoint of a succeeded training job: its artifact, and the digests it was made from."""
    assert status.artifact is not None
    spec = {
        "uri": status.artifact.uri,
        "digest": status.artifact.digest,
        "lineage": {
            "producerKind": resource.kind,
            "producerName": resource.metadata.name,
            "producerUid": resource.metadata.uid,
            "inputs": {role: digest for role, digest in inputs.items() if re.match(DIGEST_PATTERN, digest)},
        },
    }
    metadata = {"name": name, "namespace": resource.metadata.namespace}
    obj: KubeObject = compact({"apiVersion": API_VERSION, "kind": "Checkpoint", "metadata": metadata, "spec": spec})
    return obj
