"""Which proof a checkpoint should have: (checkpoint, what measured it) -> the digest of the facts.

Equal facts are one proof. What made the checkpoint is no fact of its own: it follows from the checkpoint's digest, and
may be gone from the cluster later. Names are, as a card tells them.
"""

from collections.abc import Sequence

from star_contracts.base import value_hash
from star_contracts.proofs import Measured
from star_operator.api.checkpoint import Checkpoint, CheckpointStatus
from star_operator.api.meta import Condition
from star_operator.core.labels import ATTEST_ANNOTATION
from star_operator.core.reasons import AnyReason, ConditionReason
from star_operator.policy.conditions import ATTESTED, set_condition
from star_operator.policy.status import Moment

FORMAT = 1
"""Of proofs. Another one has all of them made anew."""
MAX_MEASURED = 64
"""Reports that one card tells of; those of the first names."""


def measured(checkpoint: Checkpoint, reports: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return the reports a proof of this checkpoint tells of, in order."""
    return tuple(sorted(reports, key=lambda one: one.evaluation))[:MAX_MEASURED]


def facts_of(checkpoint: Checkpoint, reports: Sequence[Measured], signing_secret: str) -> str:
    """Return the digest of all that a proof of this checkpoint would speak of."""
    meta = checkpoint.metadata
    return value_hash(
        {
            "format": FORMAT,
            "checkpoint": checkpoint.spec.digest,
            "uri": checkpoint.spec.uri,
            "name": [meta.namespace, meta.name],
            "reports": [[one.evaluation, one.report.digest] for one in measured(checkpoint, reports)],
            "secret": signing_secret,
            "asked": meta.annotations.get(ATTEST_ANNOTATION, ""),
        }
    )


def attested(status: CheckpointStatus, at: Moment) -> CheckpointStatus:
    """Return the status of a checkpoint whose proof is written."""
    proofs = status.proofs
    how = "signed" if proofs is not None and proofs.signature is not None else "not signed"
    where = proofs.uri if proofs is not None else ""
    return _said(status, at, "True", ConditionReason.ATTESTED, f"card, provenance and verdicts are at {where}, {how}")


def not_attested(status: CheckpointStatus, at: Moment, reason: AnyReason, message: str) -> CheckpointStatus:
    """Return the status of a checkpoint whose proof is on its way, or cannot be written."""
    return _said(status, at, "False", reason, message)


def _said(status: CheckpointStatus, at: Moment, value: str, reason: AnyReason, message: str) -> CheckpointStatus:
    condition = Condition(
        type=ATTESTED, status=value, reason=reason, message=message[:4096], observed_generation=at.generation
    )
    return status.model_copy(update={"conditions": set_condition(status.conditions, condition, at.now)})
