"""The Checkpoint record of a training job. It has no owner: it outlives the job that made it."""

import re
from typing import Any

from star_contracts.artifact import DIGEST_PATTERN
from star_operator.api.meta import API_VERSION, Resource, Status
from star_operator.core.objects import KubeObject, compact


def checkpoint(resource: Resource[Any, Any], status: Status, inputs: dict[str, str]) -> KubeObject:
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
    metadata = {"name": resource.metadata.name, "namespace": resource.metadata.namespace}
    obj: KubeObject = compact({"apiVersion": API_VERSION, "kind": "Checkpoint", "metadata": metadata, "spec": spec})
    return obj
