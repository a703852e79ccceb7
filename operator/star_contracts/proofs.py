"""Proofs of a checkpoint: what the Job that makes them is told, and what the Job that checks them is.

A checkpoint's digest is that of its manifest, which never changes; verdicts come later. So proofs are artifacts of
their own, `<checkpoint's uri>.proofs/<facts>/`, each of which names the checkpoint's digest. What they say follows from
facts alone: equal facts are one proof, and other ones lie beside it. They are found from the checkpoint's uri, in any
cluster that reads the store, or a replica of it.
"""

from typing import Literal

from pydantic import Field, FiniteFloat, JsonValue

from star_contracts.artifact import ArtifactRef, Digest, S3Uri
from star_contracts.base import Model
from star_contracts.job import Store
from star_contracts.settings import EvaluationSettings

ATTEST_SPEC_PATH = "/etc/star/attest.json"
VERIFY_SPEC_PATH = "/etc/star/verify.json"
SIGNING_KEY, SIGNING_PASSWORD = "signing.key", "signing.password"
"""Keys of the Secret that proofs are signed with: a private key in PEM, and what it is encrypted with, if it is."""

CARD, PAGE = "card.md", "card.html"
PROVENANCE, VERDICTS = "provenance.json", "verdicts.json"
"""in-toto statements."""
BUNDLE = ".sigstore.json"
"""Takes the place of a statement's `.json` in the name of its signature."""
VERDICTS_TYPE = "https://star.recsys.dev/attestation/verdicts/v1"
"""Predicate type of `verdicts.json`: reports by digest, and the card's digests."""
CHECKPOINT_INPUT = "checkpoint"
"""Role under which a proof's manifest names the checkpoint."""
_DIGITS = 16


def proofs_uri(checkpoint: str) -> str:
    """Return the prefix of all proofs of the checkpoint at a URI; it goes when the checkpoint goes."""
    return f"{checkpoint}.proofs"


def proof_uri(checkpoint: str, facts: str) -> str:
    """Return the prefix of the proof of these facts (a digest)."""
    return f"{proofs_uri(checkpoint)}/{facts.removeprefix('sha256:')[:_DIGITS]}"


def bundle_of(statement: str) -> str:
    """Return the name of the file that a statement's signature is in."""
    return statement.removesuffix(".json") + BUNDLE


class MadeBy(Model):
    """A resource that the checkpoint, or something it was made of, comes from."""

    kind: str
    name: str
    uid: str = ""
    parameters: dict[str, JsonValue] = {}
    """Its spec."""
    artifact: ArtifactRef | None = None
    """What it made."""
    started: str = ""
    """RFC 3339, UTC; empty where not known."""
    finished: str = ""
    images: dict[str, str] = {}
    """Image references by step, with the digest that ran where a pod still told it."""


class Measured(Model):
    """An evaluation of the checkpoint."""

    evaluation: str
    """The Evaluation's name."""
    report: ArtifactRef
    """Its report."""


class AttestSpec(Model):
    """What `star-job attest` is told."""

    format_version: Literal[1] = 1
    store: Store
    facts: Digest
    """Of all that this proof speaks of."""
    output: S3Uri
    """The proof's prefix."""
    namespace: str
    name: str
    """The Checkpoint's."""
    uid: str = ""
    checkpoint: ArtifactRef
    builder: str
    """URI of who made it, for the provenance."""
    image: str = ""
    """Image that the Job runs in."""
    made_by: tuple[MadeBy, ...] = ()
    """The training job first, then what its inputs come from; empty for an imported model."""
    measured: tuple[Measured, ...] = ()
    previous: ArtifactRef | None = None
    """An earlier proof of the checkpoint: its provenance is taken over, as what made the checkpoint may be gone."""
    key_file: str | None = None
    """Mounted private key; a file that is not there signs nothing."""
    password_file: str | None = None


class PublicKey(Model):
    """A key that signatures are checked with."""

    name: str
    """What people call it."""
    pem: str = Field(max_length=16384)
    """SubjectPublicKeyInfo in PEM."""


class SignatureRule(Model):
    """Whose signatures a checkpoint needs."""

    keys: tuple[PublicKey, ...] = Field(min_length=1, max_length=16)
    threshold: int = Field(default=1, ge=1, le=16)
    """How many of them."""


class BoundVerdict(Model):
    """A verdict as a status has it; what its report says counts."""

    evaluation: str
    report: ArtifactRef
    measured: dict[str, Digest] = {}
    """What it must have measured, by role: `llm` is the checkpoint."""
    settings: EvaluationSettings
    """How it must have measured."""
    metrics: dict[str, FiniteFloat] = {}
    """What the status says that it found."""


class VerifySpec(Model):
    """What `star-job verify` is told."""

    format_version: Literal[1] = 1
    store: Store
    checkpoint: ArtifactRef
    signatures: SignatureRule | None = None
    verdict: BoundVerdict | None = None
