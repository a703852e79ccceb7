"""What retention sees of a namespace: its resources, and what its pods are told, reduced to small values."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from star_contracts.artifact import ArtifactRef
from star_contracts.job import JobSpec, pinned
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Phase
from star_operator.api.references import named
from star_operator.api.schema import json_schema
from star_operator.api.starpipeline import Retention
from star_operator.core.labels import PIN_ANNOTATION, RETRY_ANNOTATION
from star_operator.core.objects import KubeObject

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
URI = re.compile(r's3://[^"\s\\]+')
PIPELINE, DEPLOYMENT, CHECKPOINT = "StarPipeline", "StarDeployment", "Checkpoint"
TRAINING = ("SFTJob", "GRPOJob")
IDLE = (Phase.PENDING, Phase.WAITING, Phase.SUSPENDED)
JOB_FILE = "job.json"
UNTOLD = ("conditions", "served", "promoted")
"""Parts of a status whose digests are a record of what was, and keep nothing."""
UNTOLD_AT_ITS_END = ("inputs",)
"""Those of what has ended: what its spec names is kept for its sake then."""


@dataclass(frozen=True)
class Reference:
    """A name that a spec holds."""

    path: str
    """The field, below `spec`."""
    kinds: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Thing:
    """A resource."""

    kind: str
    name: str
    uid: str
    version: str = ""
    """Its resourceVersion when it was looked at."""
    created: str = ""
    """RFC 3339, as the API gives it: sorts as text."""
    ended: bool = False
    succeeded: bool = False
    idle: bool = False
    """It waits, and no attempt of its own is due."""
    ended_at: str = ""
    deleting: bool = False
    pin: str | None = None
    """Why it is pinned; None where it is not."""
    owner_kind: str = ""
    owner: str = ""
    """UID of the resource that controls it."""
    producer: str = ""
    """A Checkpoint's: UID of the training job that made it."""
    producer_name: str = ""
    record: str = ""
    """A training job's: name of the Checkpoint that it made."""
    series: str = ""
    """A pipeline's."""
    retention: Retention | None = None
    """A pipeline's own word about its series."""
    artifacts: tuple[ArtifactRef, ...] = ()
    """What it made, or found made; a Checkpoint's is what it records."""
    mentions: frozenset[str] = frozenset()
    """Digests in its spec and status, its own artifacts' among them."""
    refers: tuple[Reference, ...] = ()
    """Names in its spec."""
    measured: frozenset[str] = frozenset()
    """A StarDeployment's: names of the Evaluations of its revisions."""
    source: str = ""
    """A RecDataset's: digest of the raw files that it found."""

    @property
    def title(self) -> str:
        """Return how a sentence calls it."""
        return f"{self.kind} {self.name}"


def thing(body: KubeObject) -> Thing:
    """Reduce a resource."""
    meta, kind = body["metadata"], body["kind"]
    spec, status = body.get("spec") or {}, body.get("status") or {}
    annotations = meta.get("annotations") or {}
    owner: KubeObject = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), {})
    lineage = spec.get("lineage", {}) if kind == CHECKPOINT else {}
    phase = status.get("phase", "")
    ended = _has_ended(kind, phase) and not annotations.get(RETRY_ANNOTATION) and not status.get("retrying")
    untold = UNTOLD + (UNTOLD_AT_ITS_END if ended else ())
    told = {name: value for name, value in status.items() if name not in untold}
    return Thing(
        kind=kind,
        name=meta["name"],
        uid=meta["uid"],
        version=meta.get("resourceVersion", ""),
        created=meta.get("creationTimestamp", ""),
        ended=ended,
        succeeded=phase == Phase.SUCCEEDED,
        idle=phase in ("", *IDLE) and not status.get("retryAt"),
        ended_at=status.get("completionTime") or "",
        deleting="deletionTimestamp" in meta,
        pin=annotations.get(PIN_ANNOTATION),
        owner_kind=owner.get("kind", ""),
        owner=owner.get("uid", ""),
        producer=lineage.get("producerUid", ""),
        producer_name=lineage.get("producerName", ""),
        record=status.get("checkpoint", "") if kind in TRAINING else "",
        series=(spec.get("series") or meta["name"]) if kind == PIPELINE else "",
        retention=_retention(spec) if kind == PIPELINE else None,
        artifacts=tuple(dict.fromkeys(_artifacts(kind, spec, status))),
        mentions=frozenset(DIGEST.findall(json.dumps([spec, told]))),
        refers=tuple(Reference(*one) for one in named(_schema(kind), spec)),
        measured=frozenset(one.get("evaluation", "") for one in status.get("revisions", ()))
        if kind == DEPLOYMENT
        else frozenset(),
        source=(status.get("source") or {}).get("digest", ""),
    )


def is_namespaced(kind: str) -> bool:
    """Say whether resources of a kind belong to a namespace; those of the cluster refer to things in all of them."""
    return str(getattr(BY_KIND[kind].INFO, "scope", "Namespaced")) == "Namespaced"


def _has_ended(kind: str, phase: str) -> bool:
    if kind == CHECKPOINT:
        return True
    return kind != DEPLOYMENT and phase in (Phase.SUCCEEDED, Phase.FAILED)


def _retention(spec: dict[str, Any]) -> Retention | None:
    try:
        return Retention.model_validate(spec["retention"]) if spec.get("retention") else None
    except ValidationError:  # of another version
        return None


def _artifacts(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> Iterator[ArtifactRef]:
    found = (
        [spec]
        if kind == CHECKPOINT
        else [status.get("artifact"), *(s.get("artifact") for s in status.get("steps", ()))]
    )
    for one in found:
        try:
            if one:
                yield ArtifactRef(uri=one["uri"], digest=one["digest"])
        except (KeyError, ValidationError):
            continue


@cache
def _schema(kind: str) -> dict[str, Any]:
    return json_schema(BY_KIND[kind].spec_type())


@dataclass(frozen=True)
class Told:
    """What pods are told, by a ConfigMap that this operator made for a resource."""

    owner: str
    """UID of the resource."""
    digests: frozenset[str]
    """All of them in it: of artifacts to read, and of work."""
    uris: frozenset[str]
    """Prefixes to read and write."""
    job: JobSpec | None = None
    """Where it is a job's."""


def told(config_map: KubeObject) -> Told:
    """Reduce a ConfigMap."""
    meta, data = config_map["metadata"], config_map.get("data") or {}
    text = json.dumps(data)
    owner = next((one["uid"] for one in meta.get("ownerReferences") or () if one.get("controller")), "")
    try:
        job = JobSpec.model_validate_json(data[JOB_FILE]) if JOB_FILE in data else None
    except ValidationError:  # of another version
        job = None
    return Told(owner, frozenset(DIGEST.findall(text)), frozenset(URI.findall(text)), job)


def places(job: JobSpec, source: str) -> tuple[JobSpec, ...]:
    """Return the job as it was told, and as it is on the version of raw files that it found, where it found any."""
    return (job, pinned(job, source)) if source else (job,)
