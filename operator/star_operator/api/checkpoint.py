"""Checkpoint: the immutable record of a model that promotion moves between environments."""

from typing import ClassVar

from pydantic import Field

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model
from star_operator.api.meta import AGE, PHASE, Column, KindInfo, Resource, Status, list_map


class Lineage(Model):
    """Where a checkpoint comes from."""

    producer_kind: str = Field(default="", max_length=63)
    """`SFTJob`, `GRPOJob`, or empty for an imported model."""
    producer_name: str = Field(default="", max_length=253)
    """metadata.name of the resource that made it."""
    producer_uid: str = Field(default="", max_length=63)
    """metadata.uid of that resource, so that a re-created one of the same name is told apart."""
    inputs: dict[str, Digest] = Field(default={}, max_length=32)
    """Digests of what it was made from, by role: `model`, `trajectories`, `dataset`, `samples`, `signals`."""


class CheckpointSpec(Model):
    """Which artifact; immutable."""

    uri: S3Uri = Field(max_length=1024)
    """Prefix of the artifact in the store."""
    digest: Digest
    """The artifact's digest: sha256 of its manifest, which pins every byte."""
    lineage: Lineage = Lineage()
    """Where it comes from; empty for an imported model."""


class Verdict(Model):
    """What one evaluation said of the checkpoint."""

    evaluation: str
    """The Evaluation's metadata.name."""
    metrics: dict[str, float] = {}
    """Its headline figures, e.g. `hrAvg`."""
    report: Digest | None = None
    """Digest of its report."""


class ProofFile(Model):
    """A file in the store."""

    uri: str
    """Where it is."""
    digest: Digest
    """Its sha256."""


class Proofs(Model):
    """What is written of the checkpoint beside it in the store (docs/proofs.md)."""

    facts: Digest
    """Of all that it speaks of: other verdicts are another proof."""
    uri: S3Uri
    """Prefix of the proof, an artifact of its own."""
    digest: Digest
    """sha256 of its manifest."""
    card: ProofFile
    """The model card, in Markdown; `card.html` is beside it."""
    provenance: ProofFile
    """The in-toto statement of its provenance (SLSA v1)."""
    signature: ProofFile | None = None
    """The sigstore bundle that signs the provenance; none where there is no key."""


class CheckpointStatus(Status):
    """Verdicts of the checkpoint's evaluations, and its proofs."""

    verdicts: tuple[Verdict, ...] = Field(default=(), json_schema_extra=list_map("evaluation"))
    """One for each Evaluation that measured it."""
    proofs: Proofs | None = None
    """The newest proof."""
    failed_facts: Digest | None = None
    """Facts of which no proof can be written, and is not tried again; the condition `Attested` says why."""


class Checkpoint(Resource[CheckpointSpec, CheckpointStatus]):
    """A model artifact by URI and digest, with its lineage and verdicts."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "Checkpoint",
        "checkpoints",
        "ckpt",
        columns=(
            PHASE,
            Column("From", ".spec.lineage.producerKind"),
            Column("Result", ".status.headline"),
            Column("Digest", ".spec.digest"),
            AGE,
        ),
        mutable=(),
    )
    status: CheckpointStatus = CheckpointStatus()
