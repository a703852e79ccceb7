"""Which kinds the cache holds, which objects of them, and under what these are found besides their names."""

from collections.abc import Iterator

from star_contracts.names import LABEL_NAME
from star_operator.core.labels import (
    LABEL_PIPELINE,
    LABEL_SCHEDULE,
    LABEL_SERVER,
    OURS,
    PIN_ANNOTATION,
    RETRAIN_LABEL,
    label_value,
    observers,
)
from star_operator.core.objects import KubeObject
from star_operator.kube.resources import (
    DEPLOYMENT,
    JOB,
    NAMESPACE,
    POD,
    SERVICE,
    STAR_TYPES,
    STATEFUL_SET,
    ResourceType,
)

CHILDREN = (JOB, POD, SERVICE, DEPLOYMENT, STATEFUL_SET)
"""Kinds that others have objects of, too: of these, only those with our labels are looked at."""
CACHED: dict[str, ResourceType] = STAR_TYPES | {rtype.kind: rtype for rtype in (*CHILDREN, NAMESPACE)}
LABELS = (LABEL_NAME, LABEL_SERVER, LABEL_PIPELINE, LABEL_SCHEDULE, RETRAIN_LABEL)
"""Labels that are indexes, under their own names."""
OWNER = "owner"
"""UIDs of owners, those of a shared server's users included."""
NAMED = "named"
"""The label value of the name of a resource of ours: what its children's labels say."""
PHASE = "phase"
"""`status.phase` of a resource of ours."""
PIN = "pin"
"""Why a resource is pinned."""
MEASURED = "measured"
"""Of an Evaluation: the name of the Checkpoint that its server serves."""
OUTDATED = "outdated"
"""Of a StarDeployment whose servers are of an earlier build: the reason of its condition Outdated."""
OBSERVER = "observer"
"""Of a StarDeployment: the other namespaces that it lets look at what it has served."""
DIGEST = "digest"
"""Of a Checkpoint: its digest. Of an Evaluation: the digest of its server's model, as asked for and as pinned."""


def selector(kind: str) -> dict[str, str]:
    """Return the labels that an object of a kind must have to be looked at."""
    return OURS if any(kind == rtype.kind for rtype in CHILDREN) else {}


def indexed(obj: KubeObject) -> Iterator[tuple[str, str]]:
    """Yield (index, value) of an object."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    yield from ((label, labels[label]) for label in LABELS if label in labels)
    yield from ((OWNER, reference["uid"]) for reference in meta.get("ownerReferences") or ())
    if obj["kind"] not in STAR_TYPES:
        return
    yield NAMED, label_value(meta["name"])
    yield PHASE, (obj.get("status") or {}).get("phase") or "Pending"
    pin = (meta.get("annotations") or {}).get(PIN_ANNOTATION)
    if pin is not None:
        yield PIN, pin
    if obj["kind"] == "StarDeployment":
        yield from ((OBSERVER, namespace) for namespace in observers(obj))
        conditions = (obj.get("status") or {}).get("conditions") or ()
        yield from ((OUTDATED, one["reason"]) for one in conditions if one["type"] == "Outdated")
    if obj["kind"] == "Checkpoint":
        yield DIGEST, obj["spec"]["digest"]
    if obj["kind"] == "Evaluation":
        server = ((obj.get("spec") or {}).get("llm") or {}).get("server") or {}
        model = server.get("model") or {}
        inputs = (obj.get("status") or {}).get("inputs") or ()
        yield from ((DIGEST, row["digest"]) for row in inputs if row.get("role") == "llm" and row.get("digest"))
        yield from (
            (index, model[field]) for index, field in ((MEASURED, "checkpoint"), (DIGEST, "digest")) if model.get(field)
        )
