"""The in-toto statements of a proof, as functions of facts: nothing here reads a clock or a store.

`provenance.json` is SLSA provenance v1 (slsa.dev/spec/v1.0/provenance): what made the checkpoint, of what, with which
parameters, seeds and images. `verdicts.json` says which reports measured it, each by digest with what its own manifest
says, and which card tells of them. The subject of both is the checkpoint's manifest, whose sha256 is its digest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from star_contracts.artifact import MANIFEST_NAME, ArtifactRef, Manifest
from star_contracts.base import canonical_json
from star_contracts.proofs import VERDICTS_TYPE, AttestSpec, MadeBy

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://star.recsys.dev/provenance/checkpoint/v1"


@dataclass(frozen=True)
class Report:
    """A report that measured the checkpoint."""

    evaluation: str
    ref: ArtifactRef
    manifest: Manifest


def provenance(spec: AttestSpec, checkpoint: Manifest) -> bytes:
    """Return the provenance statement of a checkpoint."""
    maker = spec.made_by[0] if spec.made_by else None
    producer = checkpoint.producer
    external: dict[str, JsonValue] = {
        "kind": producer.kind,
        "namespace": producer.namespace,
        "name": producer.name,
        "parameters": dict(maker.parameters) if maker is not None else {},
        "seeds": dict(seeds(maker.parameters)) if maker is not None else {},
    }
    metadata = {"invocationId": producer.uid, "startedOn": maker.started if maker else ""}
    metadata["finishedOn"] = maker.finished if maker else ""
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": {"step": producer.step, "workHash": producer.work_hash},
            "resolvedDependencies": list(materials(spec, checkpoint)),
        },
        "runDetails": {
            "builder": {"id": spec.builder},
            "metadata": {name: value for name, value in metadata.items() if value},
        },
    }
    return _statement(spec, PROVENANCE_TYPE, predicate)


def verdicts(spec: AttestSpec, reports: list[Report], card: Mapping[str, str]) -> bytes:
    """Return the statement of what measured the checkpoint; `card` is by file name the sha256 of the card."""
    measured = [
        {
            "evaluation": one.evaluation,
            "report": {"uri": one.ref.uri, "digest": _digest(one.ref.digest)},
            "workHash": one.manifest.producer.work_hash,
            "inputs": {role: _digest(digest) for role, digest in sorted(one.manifest.inputs.items())},
            "metrics": dict(sorted(one.manifest.metrics.items())),
        }
        for one in reports
    ]
    files = [{"name": name, "digest": _digest(digest)} for name, digest in sorted(card.items())]
    return _statement(spec, VERDICTS_TYPE, {"evaluations": measured, "card": files})


def materials(spec: AttestSpec, checkpoint: Manifest) -> Iterator[dict[str, Any]]:
    """Yield what the checkpoint was made of: its inputs, theirs as far as they are known, and images, by digest."""
    known = {one.artifact.digest: one for one in spec.made_by if one.artifact is not None}
    told: set[str] = {spec.checkpoint.digest}
    for role, digest in sorted(checkpoint.inputs.items()):
        yield _material(role, digest, known.get(digest))
        told.add(digest)
    for one in spec.made_by:
        if one.artifact is not None and one.artifact.digest not in told:
            yield _material(f"{one.kind}/{one.name}", one.artifact.digest, one)
            told.add(one.artifact.digest)
    images = {f"{one.kind}/{one.name}/{step}": image for one in spec.made_by for step, image in one.images.items()}
    if checkpoint.producer.image and not images:
        images = {checkpoint.producer.step: checkpoint.producer.image}
    for name, image in sorted(images.items()):
        place, _, digest = image.partition("@")
        found: dict[str, Any] = {"name": f"image {name}", "uri": f"docker://{place}"}
        yield found | ({"digest": _digest(digest)} if digest else {})


def seeds(value: JsonValue, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield path and value of every seed in a spec."""
    if isinstance(value, dict):
        for name, item in sorted(value.items()):
            where = f"{path}.{name}" if path else name
            if name == "seed" and isinstance(item, int):
                yield where, item
            yield from seeds(item, where)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from seeds(item, f"{path}[{place}]")


def _material(role: str, digest: str, maker: MadeBy | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": role, "digest": _digest(digest)}
    if maker is not None and maker.artifact is not None:
        found |= {"uri": maker.artifact.uri, "annotations": {"madeBy": f"{maker.kind}/{maker.name}"}}
    return found


def _statement(spec: AttestSpec, kind: str, predicate: Mapping[str, Any]) -> bytes:
    subject = {"name": f"{spec.checkpoint.uri}/{MANIFEST_NAME}", "digest": _digest(spec.checkpoint.digest)}
    content = {"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": kind, "predicate": predicate}
    return canonical_json(content)


def _digest(digest: str) -> dict[str, str]:
    """Return a digest as in-toto has it: `{"sha256": <hex>}`."""
    name, _, value = digest.partition(":")
    return {name: value}
