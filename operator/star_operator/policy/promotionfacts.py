"""What is known when it is decided about a Promotion, and what a requirement is: small values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from star_contracts.artifact import ArtifactRef
from star_contracts.promotion import ReportClaim
from star_operator.api.meta import Phase
from star_operator.api.promotion import RequirementState
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.stardeployment import ServedStatus
from star_operator.core.reasons import ConditionReason
from star_operator.policy.promotionplace import Fault

MET, WAITING, FAILED = RequirementState.MET, RequirementState.WAITING, RequirementState.FAILED


@dataclass(frozen=True)
class Measured:
    """An Evaluation of this digest, as its spec and status claim."""

    name: str
    dataset: str
    """Name of the RecDataset."""
    settings: str
    """Digest of its settings."""
    phase: Phase
    completed: str = ""
    report: ArtifactRef | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    pinned: bool = True
    """Its spec has the digest; else the name alone of a Checkpoint that has it now."""


@dataclass(frozen=True)
class Dataset:
    """A RecDataset as it is now."""

    name: str
    digest: str | None = None
    newest: str | None = None
    """RFC 3339: when its newest raw data were written."""


@dataclass(frozen=True)
class Environment:
    """What is known of another environment."""

    name: str
    promoted: frozenset[str] = frozenset()
    """Digests that Promotions brought there."""
    serves: str = ""
    """Its StarDeployment, in words; empty where none is named."""
    history: tuple[ServedStatus, ...] = ()
    fault: Fault | None = None
    """Why its StarDeployment cannot be looked at."""


@dataclass(frozen=True)
class Facts:
    """What is known when it is decided about a Promotion."""

    digest: str
    now: datetime
    gap: timedelta
    """How far apart two looks at what serves may be (`policy/served.py`)."""
    policy: PromotionPolicy | None = None
    """The one that governs the target."""
    fault: Fault | None = None
    """Why the policy, or the name of one, cannot be followed."""
    measured: Sequence[Measured] = ()
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    trained_on: Dataset | None = None
    """What the checkpoint's lineage names, where that is known."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    guarded: bool = True
    """The API server lets nobody approve or override in another one's name, and did so when this was created."""
    guarded_since: str = ""
    """Where it does so now, and did not when this was created: since when (RFC 3339)."""
    ahead: str = ""
    """Another Promotion to the same place that has begun and not ended, and what it does."""


@dataclass(frozen=True)
class Requirement:
    """One thing that has to hold."""

    name: str
    state: RequirementState
    message: str
    reason: ConditionReason = ConditionReason.RUNNING
    """Of the condition, where it does not hold."""
    until: datetime | None = None
    """When it will hold, where that is known."""
    can_override: bool = True
    claims: tuple[ReportClaim, ...] = ()
    """What the Job has to verify for it."""

    @property
    def holds(self) -> bool:
        """Whether nothing more is asked."""
        return self.state in (RequirementState.MET, RequirementState.OVERRIDDEN)
