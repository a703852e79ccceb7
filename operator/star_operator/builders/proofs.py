"""The Jobs that write a checkpoint's proof and that check it, and what they are told."""

from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.artifact import ArtifactRef, Digest
from star_contracts.base import canonical_json, value_hash
from star_contracts.names import GROUP, VERSION
from star_contracts.proofs import (
    SIGNING_KEY,
    SIGNING_PASSWORD,
    AttestSpec,
    BoundVerdict,
    MadeBy,
    Measured,
    PublicKey,
    SignatureRule,
    VerifySpec,
    proof_uri,
)
from star_operator.api.checkpoint import Checkpoint, ProofFile, Proofs
from star_operator.api.common import SecretKeyRef
from star_operator.api.evaluation import Evaluation
from star_operator.api.stardeployment import StarDeployment
from star_operator.builders.errand import DEFAULT_POOL, Errand
from star_operator.builders.gateway import owner_of
from star_operator.builders.placement import image_of
from star_operator.builders.pod import key_path
from star_operator.builders.step import Owner
from star_operator.core.labels import ATTEST, PROOF_ANNOTATION, VERIFY
from star_operator.core.settings import Settings

BUILDER = f"https://{GROUP}/operator/{VERSION}"
TRIES = 30
"""Of pods that find the store unreachable: with the Job controller's pauses, some hours."""
ATTEST_TTL_SECONDS = 3600
"""After that an attempt goes, and one that may succeed another time is made again."""


def checkpoint_owner(checkpoint: Checkpoint) -> Owner:
    """Return the Checkpoint as an owner."""
    meta = checkpoint.metadata
    return Owner(checkpoint.kind, meta.namespace, meta.name, meta.uid)


@dataclass(frozen=True)
class ProofPlan:
    """What a proof is made of."""

    checkpoint: Checkpoint
    facts: Digest
    measured: Sequence[Measured]
    made_by: Sequence[MadeBy]


def attest_errand(plan: ProofPlan, settings: Settings) -> Errand:
    """Return the Job that writes a proof."""
    checkpoint, proofs, secret = plan.checkpoint, plan.checkpoint.status.proofs, settings.proofs.signing_secret_name
    names = (SIGNING_KEY, SIGNING_PASSWORD) if secret else ()
    spec = AttestSpec(
        store=settings.store.connection,
        facts=plan.facts,
        output=proof_uri(checkpoint.spec.uri, plan.facts),
        namespace=checkpoint.metadata.namespace,
        name=checkpoint.metadata.name,
        uid=checkpoint.metadata.uid,
        checkpoint=ArtifactRef(uri=checkpoint.spec.uri, digest=checkpoint.spec.digest),
        builder=BUILDER,
        image=image_of("jobs", DEFAULT_POOL if DEFAULT_POOL in settings.pools else min(settings.pools), settings),
        made_by=tuple(plan.made_by),
        measured=tuple(plan.measured),
        previous=ArtifactRef(uri=proofs.uri, digest=proofs.digest) if proofs is not None else None,
        key_file=key_path(SIGNING_KEY) if secret else None,
        password_file=key_path(SIGNING_PASSWORD) if secret else None,
    )
    return Errand(
        command=ATTEST,
        key=plan.facts,
        text=canonical_json(spec.to_json_dict()).decode(),
        tries=TRIES,
        optional_keys={name: SecretKeyRef(name=secret, key=name) for name in names},
        ttl_seconds=ATTEST_TTL_SECONDS,
    )


def proofs_of(facts: Digest, made: ArtifactRef, files: dict[str, Digest], names: tuple[str, str, str]) -> Proofs | None:
    """Return what the status says of a proof; None where the Job did not say which files it has.

    `names` are those of card, provenance and its signature.
    """
    card, provenance, signature = (
        ProofFile(uri=f"{made.uri}/{name}", digest=files[name]) if name in files else None for name in names
    )
    if card is None or provenance is None:
        return None
    return Proofs(facts=facts, uri=made.uri, digest=made.digest, card=card, provenance=provenance, signature=signature)


@dataclass(frozen=True)
class Claim:
    """What is to be verified before a checkpoint is served."""

    checkpoint: ArtifactRef
    keys: Sequence[PublicKey] = ()
    threshold: int = 1
    verdict: BoundVerdict | None = None

    def spec(self, settings: Settings) -> VerifySpec:
        """Return what the Job is told."""
        rule = SignatureRule(keys=tuple(self.keys), threshold=self.threshold) if self.keys else None
        return VerifySpec(
            store=settings.store.connection, checkpoint=self.checkpoint, signatures=rule, verdict=self.verdict
        )


def bound_verdict(
    evaluation: Evaluation, checkpoint: ArtifactRef, inputs: dict[str, ArtifactRef]
) -> BoundVerdict | None:
    """Return the verdict as the Evaluation's status has it; None where that names no report."""
    report = evaluation.status.artifact
    if report is None:
        return None
    measured = {role: inputs[role].digest for role in ("dataset", "signals") if role in inputs}
    return BoundVerdict(
        evaluation=evaluation.metadata.name,
        report=ArtifactRef(uri=report.uri, digest=report.digest),
        measured=measured | {"llm": checkpoint.digest},
        settings=evaluation.spec.settings,
        metrics=evaluation.status.metrics,
    )


def verify_errand(claim: Claim, proof: str, settings: Settings) -> Errand:
    """Return the Job that verifies a claim; `proof` is the digest of the newest proof that is known of."""
    spec = claim.spec(settings).to_json_dict()
    key = value_hash({name: value for name, value in spec.items() if name != "store"})
    return Errand(
        command=VERIFY,
        key=key,
        text=canonical_json(spec).decode(),
        tries=TRIES,
        annotations={PROOF_ANNOTATION: proof},
    )


def deployment_owner(resource: StarDeployment) -> Owner:
    """Return the StarDeployment as an owner."""
    return owner_of(resource)
