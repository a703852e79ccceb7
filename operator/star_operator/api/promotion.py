"""Promotion: one move of a checkpoint's digest to a place in a Git repository; the record of it never changes."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model
from star_contracts.promotion import Author, Forge, PromotionLimits, PromotionMode, PromotionTarget, Signing
from star_operator.api.common import CheckpointName, Name, PodTemplate, PoolName, SecretRef
from star_operator.api.meta import AGE, CEL, PHASE, WHY, Column, KindInfo, Resource, Status, list_map
from star_operator.api.references import refers_to

MAX_APPROVALS = 64
MAX_REQUIREMENTS = 64
PULL_REQUEST_NEEDS_FORGE = (
    "self.mode != 'PullRequest' || has(self.git.forge)",
    "mode PullRequest needs git.forge: whose API (GitHub, GitLab, Gitea) the pull request is opened with",
)
PolicyName = Annotated[Name, refers_to("PromotionPolicy")]


class Target(PromotionTarget):
    """The place: where a checkpoint's uri and digest stand in a Git repository."""

    model_config = CEL(
        (
            "!has(self.field) || !has(self.marker)",
            "set field (a path in the document) or marker (a name in a comment), not both",
        ),
        (
            "!self.path.contains('..') && !self.repository.contains('/..')",
            "path and repository must not contain ..: write the path from the repository's root",
        ),
    ).config()


class Git(Model):
    """With what the repository is reached and what the commit says of its author."""

    secret_ref: SecretRef
    """A Secret of this namespace with `username` and `password`, or `ssh-privatekey` and `known_hosts`; and, where they
    are wanted, `ca.crt`, `token` for the forge's API and `signing-key`."""
    author: Author
    """Who the commit is by."""
    signing: Signing = Signing.NONE
    """How commits are signed, with the Secret's `signing-key`."""
    forge: Forge | None = None
    """Where pull requests are opened."""


class Delivery(Model):
    """Where a digest goes and how; a PromotionPolicy is the template of it."""

    target: Target
    """The place in the repository."""
    mode: PromotionMode = PromotionMode.COMMIT
    """How the change gets into the branch."""
    git: Git
    """Credentials, author and forge."""
    poll_seconds: int = Field(default=300, ge=30, le=86400)
    """How often a pull request is looked at, by a short Job each time."""
    retries: int = Field(default=5, ge=0, le=100)
    """Further attempts after a retryable failure, such as a Git server that does not answer."""
    limits: PromotionLimits = PromotionLimits()
    """How far a Job goes."""
    pool: PoolName = "cpu"
    """A pool of the chart's values: where the Job runs."""
    pod_template: PodTemplate | None = None
    """Labels, annotations and identity of the Job's pod, beyond those that the cluster gives it."""


class PromotedCheckpoint(Model):
    """What moves: a Checkpoint of this namespace, or an artifact."""

    model_config = CEL(
        (
            "has(self.name) != has(self.uri)",
            "set exactly one of name (a Checkpoint's name) and uri (s3://... together with its digest)",
        ),
        (
            "!has(self.uri) || has(self.digest)",
            "uri needs digest (sha256:...): what is promoted is a digest",
        ),
    ).config()

    name: CheckpointName | None = None
    """A Checkpoint's metadata.name; its digest is pinned when the Promotion is seen first."""
    uri: S3Uri | None = Field(default=None, max_length=1024)
    """Prefix of an artifact in the store, together with its digest."""
    digest: Digest | None = None
    """The artifact's digest; with `name`, refuses a Checkpoint of another digest."""


class Approval(Model):
    """A person's consent to one digest. The API server lets everybody write only their own."""

    user: str = Field(min_length=1, max_length=253)
    """Who: as the API server knows the user (`kubectl auth whoami`)."""
    digest: Digest
    """What is approved: it counts for this digest alone."""
    comment: str | None = Field(default=None, max_length=1024)
    """What the commit and the pull request will quote."""


class Override(Model):
    """A person's decision that requirements need not be met. It is told in status, Events and the commit."""

    user: str = Field(min_length=1, max_length=253)
    """Who: as the API server knows the user; needs the verb `override` on promotions."""
    reason: str = Field(min_length=1, max_length=2048)
    """Why."""


class PromotionSpec(Delivery):
    """Which checkpoint goes where."""

    model_config = CEL(
        PULL_REQUEST_NEEDS_FORGE,
        ("self.cancel || !oldSelf.cancel", "cancel cannot be taken back: create a new Promotion"),
        (
            "!has(oldSelf.override) || (has(self.override) && self.override == oldSelf.override)",
            "override cannot be changed or taken back: set cancel, or create a new Promotion",
        ),
    ).config()

    checkpoint: PromotedCheckpoint
    """What moves."""
    environment: PolicyName | None = None
    """The PromotionPolicy that this is meant for, which must govern the target. Whichever governs it holds anyway."""
    suspend: bool = False
    """Begin nothing and look at nothing; switching it off continues."""
    cancel: bool = False
    """End it for good: what waits is given up, an open pull request is closed. What is committed stays."""
    approvals: tuple[Approval, ...] = Field(default=(), max_length=MAX_APPROVALS, json_schema_extra=list_map("user"))
    """Who approved; `starctl approve PROMOTION` adds yours."""
    override: Override | None = None
    """Do without what the policy requires; `starctl override PROMOTION --reason WHY` sets it."""


class RequirementState(StrEnum):
    """Whether a requirement holds."""

    MET = "Met"
    WAITING = "Waiting"
    """It is not met yet, and time or people may bring it."""
    FAILED = "Failed"
    """It is not met, and nothing that is under way will change that."""
    OVERRIDDEN = "Overridden"
    """It is not met, and somebody with the right to has decided to do without."""


class RequirementStatus(Model):
    """One thing that has to hold before anything is committed."""

    name: str
    """As `soak` or `approvals`."""
    state: RequirementState = RequirementState.WAITING
    """Whether it holds."""
    message: str = ""
    """What was asked and what was found; who or what is waited for, and until when."""


class ApprovalStatus(Model):
    """An approval that counts, or counted."""

    user: str
    """Who."""
    digest: str = ""
    """Of what."""
    seen: str = ""
    """RFC 3339, UTC: when the operator saw it first."""


class PullRequestStatus(Model):
    """The pull request of this promotion."""

    number: int
    """Its number."""
    url: str = ""
    """Its page."""
    state: str = ""
    """`Open`, `Merged` or `Closed`."""
    mergeable: bool | None = None
    """False where the forge says that it conflicts with its branch."""


class PromotionStatus(Status):
    """How far the move is."""

    environment: str = ""
    """The PromotionPolicy that governs the target."""
    uri: str = ""
    """Where the checkpoint is."""
    digest: str = ""
    """Its digest, pinned when the Promotion was seen first."""
    from_: str = Field(default="", alias="from")
    """The digest that stood at the place before."""
    commit: str = ""
    """The commit that moved it."""
    branch: str = ""
    """The branch that the commit was pushed to."""
    pull_request: PullRequestStatus | None = None
    """The pull request, with mode PullRequest."""
    requirements: tuple[RequirementStatus, ...] = Field(
        default=(), max_length=MAX_REQUIREMENTS, json_schema_extra=list_map("name")
    )
    """What has to hold; as it was when the last Job began, as long as that runs."""
    approvals: tuple[ApprovalStatus, ...] = Field(
        default=(), max_length=MAX_APPROVALS, json_schema_extra=list_map("user")
    )
    """Who approved this digest, and when that was seen."""
    begun: str | None = None
    """RFC 3339, UTC: when all requirements were met and the Job was about to be made."""
    orders: str = ""
    """Digest of what the Job is told, fixed when it began."""
    polls: int = 0
    """How often the pull request was looked at, or is about to be closed."""
    next_poll: str | None = None
    """RFC 3339, UTC: when it is looked at next."""


class Promotion(Resource[PromotionSpec, PromotionStatus]):
    """One move of a checkpoint into an environment: a commit, or a pull request, that pins its digest."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "Promotion",
        "promotions",
        "promo",
        columns=(
            PHASE,
            Column("Environment", ".status.environment"),
            Column("Digest", ".status.digest"),
            Column("Commit", ".status.commit"),
            AGE,
            WHY,
            Column("Pull-Request", ".status.pullRequest.url", priority=1),
        ),
        mutable=("suspend", "cancel", "approvals", "override"),
    )
    status: PromotionStatus = PromotionStatus()
