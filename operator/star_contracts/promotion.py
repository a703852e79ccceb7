"""What a promotion's Job is told, and what it answers: a checkpoint's digest moves to a place in a Git repository.

The operator writes a `PromotionSpec` into the ConfigMap that the pod mounts; the Job answers with a `PromotionOutcome`
in its `JobResult`. Everything that the commit and the pull request say comes from the facts in here, or from what the
Job itself read in Git and in the store. Secrets are never in here: they are files under GIT_DIR.

    action Promote   edit the place, commit, push; with mode PullRequest onto a branch of its own, and open the request
    action Follow    look where the pull request stands, once
    action Close     close the pull request, if it is still open, and say why; where there is none, look whether a
                     commit of this promotion is in the branch. Nothing is ever pushed
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from star_contracts.addresses import host_of
from star_contracts.artifact import ArtifactRef, Digest, S3Uri
from star_contracts.base import Model
from star_contracts.job import Store

PROMOTION_SPEC_PATH = "/etc/star/promotion.json"
"""The file of the spec; STAR_PROMOTION_SPEC names another."""
PROMOTION_DIGEST_ENV = "STAR_PROMOTION_DIGEST"
"""Digest (`sha256:…`) of the file's bytes, as it was when everything that is required held. Another file is refused."""
GIT_DIR = "/var/run/star/git"
"""Folder that the Secret of the Git credentials is mounted at; STAR_GIT_DIR names another."""


class GitFile(StrEnum):
    """Keys of that Secret, each a file under GIT_DIR."""

    USERNAME = "username"
    """User name over HTTPS; `x-access-token` where it is left out."""
    PASSWORD = "password"  # noqa: S105
    """Password or token over HTTPS."""
    SSH_KEY = "ssh-privatekey"
    """Private key over SSH, without a passphrase."""
    KNOWN_HOSTS = "known_hosts"
    """Host keys that are believed over SSH; a host that is not among them is refused."""
    CA = "ca.crt"
    """Certificate authorities that are believed over HTTPS beside the public ones, PEM."""
    TOKEN = "token"  # noqa: S105
    """Token of the forge's API; `password` where it is left out."""
    SIGNING_KEY = "signing-key"
    """Private key that commits are signed with: OpenSSH's format, or an armoured OpenPGP key; without a passphrase."""


_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]*@"
REPOSITORY_PATTERN = rf"^(https://{_HOST}(:[0-9]{{1,5}})?/|ssh://({_USER})?{_HOST}(:[0-9]{{1,5}})?/|{_USER}{_HOST}:)[A-Za-z0-9_~/][A-Za-z0-9._~/-]*$"
"""`https://host/path`, `ssh://[user@]host/path` or `user@host:path`: no password, no query, no other protocol."""
FORGE_PATTERN = rf"^https://{_HOST}(:[0-9]{{1,5}})?(/[A-Za-z0-9._~/-]*)?$"
BRANCH_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?(/[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?)*$"
FILE_PATTERN = r"^[A-Za-z0-9_@+=-][A-Za-z0-9._@+=-]*(/[A-Za-z0-9_@+=-][A-Za-z0-9._@+=-]*)*$"
"""Path from the repository's root, with `/`; no part begins with a dot."""
_PICK = r"(\[([0-9]{1,9}|[^\[\]=]{1,200}=[^\[\]]{1,200})\])*"
FIELD_PATTERN = rf"^[A-Za-z_][A-Za-z0-9_-]*{_PICK}(\.[A-Za-z_][A-Za-z0-9_-]*{_PICK})*$"
"""Keys with dots between them; `[3]` picks an item of a list by its place, `[name=student]` by what it says."""
MARKER_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
PERSON_PATTERN = r"^[^<>\x00-\x1f]+$"
EMAIL_PATTERN = r"^[^<>\s\x00-\x1f]+@[^<>\s\x00-\x1f]+$"
COMMIT_PATTERN = r"^[0-9a-f]{40}([0-9a-f]{24})?$"

Repository = Annotated[str, StringConstraints(pattern=REPOSITORY_PATTERN, max_length=512)]
Branch = Annotated[str, StringConstraints(pattern=BRANCH_PATTERN, max_length=200)]
FilePath = Annotated[str, StringConstraints(pattern=FILE_PATTERN, max_length=512)]
FieldPath = Annotated[str, StringConstraints(pattern=FIELD_PATTERN, max_length=512)]
Marker = Annotated[str, StringConstraints(pattern=MARKER_PATTERN, max_length=63)]
ForgeUrl = Annotated[str, StringConstraints(pattern=FORGE_PATTERN, max_length=512)]
CommitId = Annotated[str, StringConstraints(pattern=COMMIT_PATTERN)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
LongText = Annotated[str, StringConstraints(max_length=2048)]

DEFAULT_FIELD = "spec.checkpoint"
"""Where a StarDeployment has its checkpoint."""


def repository_host(repository: str) -> str:
    """Return the host of a repository's URL, in small letters and without its port."""
    return host_of(repository if "://" in repository else f"ssh://{repository.replace(':', '/', 1)}")


class PromotionAction(StrEnum):
    """What the Job does."""

    PROMOTE = "Promote"
    FOLLOW = "Follow"
    CLOSE = "Close"


class PromotionMode(StrEnum):
    """How the change gets into the branch."""

    COMMIT = "Commit"
    """By a commit on the branch itself."""
    PULL_REQUEST = "PullRequest"
    """By a pull request (GitLab: merge request), which somebody merges."""


class ForgeKind(StrEnum):
    """Whose REST API the pull request is opened with."""

    GITHUB = "GitHub"
    GITLAB = "GitLab"
    GITEA = "Gitea"


class Signing(StrEnum):
    """How commits are signed."""

    NONE = "None"
    SSH = "SSH"
    GPG = "GPG"


class DocumentSelector(Model):
    """Which document of a file that has several."""

    kind: ShortText | None = None
    """Its `kind`; any by default."""
    name: ShortText | None = None
    """Its `metadata.name`; any by default."""


class PromotionTarget(Model):
    """The place: where a digest stands in a repository."""

    repository: Repository
    """URL of the repository, by HTTPS or SSH."""
    branch: Branch
    """Branch that the environment is deployed from."""
    path: FilePath
    """The YAML file, from the repository's root."""
    field: FieldPath | None = None
    """The block that holds `uri` and `digest`; `spec.checkpoint` where neither field nor marker is given."""
    marker: Marker | None = None
    """Name in the comment `# {"$star": "<name>"}` at the block's line."""
    document: DocumentSelector | None = None
    """Which of the file's documents; by default the only one that has the place."""

    @model_validator(mode="after")
    def _one_way(self) -> "PromotionTarget":
        if self.field is not None and self.marker is not None:
            raise ValueError("set field or marker, not both")
        return self


class PromotionIdentity(Model):
    """Which Promotion this is; it stands in the commit's trailer `Star-Promotion`."""

    namespace: ShortText
    name: ShortText
    uid: ShortText

    def trailer(self) -> str:
        """Return `<namespace>/<name>/<uid>`, by which a commit of this promotion is known again."""
        return f"{self.namespace}/{self.name}/{self.uid}"


class Author(Model):
    """Who the commit is by."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PERSON_PATTERN)]
    """As the commit has it."""
    email: Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=EMAIL_PATTERN)]
    """As the commit has it."""


class Forge(Model):
    """Where pull requests are opened."""

    kind: ForgeKind
    url: ForgeUrl | None = None
    """The forge's own address, as `https://git.example.com`; by default that of the repository over HTTPS. The path of
    the API is added: `/api/v3` (GitHub's own is `https://api.github.com`), `/api/v4`, `/api/v1`."""


class Figure(Model):
    """A measured figure with its interval, where it has one."""

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class CheckpointFacts(Model):
    """What a reviewer should know of one checkpoint."""

    digest: Digest
    name: ShortText = ""
    """The Checkpoint's metadata.name."""
    producer: ShortText = ""
    """Who made it, as `SFTJob/movielens-sft`; empty for an imported one."""
    inputs: dict[ShortText, Digest] = Field(default={}, max_length=32)
    """Digests of what it was made from, by role."""
    dataset: Digest | None = None
    """The data that it was measured on, and their version."""
    data_age_days: float | None = Field(default=None, ge=0)
    """How old these data were when the promotion was decided."""
    metrics: dict[ShortText, Figure] = Field(default={}, max_length=64)
    """What it was measured with."""


class ReportClaim(Model):
    """What an Evaluation's status says of a checkpoint. It is not believed: the report's manifest is."""

    evaluation: ShortText
    """metadata.name."""
    report: ArtifactRef
    checkpoint: Digest
    """What it must have measured."""
    dataset: Digest | None = None
    """On which data; None where the policy does not say."""
    settings: Digest | None = None
    """`value_hash` of its EvaluationSettings' `to_json_dict()`; None where the policy does not say."""
    metrics: dict[ShortText, FiniteFloat] = Field(default={}, max_length=64)
    """Figures that were held against the rules: the report must have the same."""


class GateFact(Model):
    """A requirement that was looked at, in words."""

    name: ShortText
    """As `hrAvg`, `soak`, `approvals`."""
    met: bool = True
    message: LongText = ""
    """What was asked and what was found, as `0.412 is at least 0.35 (random.hrAvg)`."""


class ApprovalFact(Model):
    """Who approved."""

    user: ShortText
    """As the API server knows the user."""
    seen: datetime | None = None
    comment: LongText = ""


class OverrideFact(Model):
    """Who let requirements be overridden; the commit says so first of all."""

    user: ShortText
    reason: LongText


class Link(Model):
    """Something to look at."""

    title: ShortText
    url: Annotated[str, StringConstraints(pattern=r"^(https?|s3)://[^\s<>()]+$", max_length=1024)]


class PromotionLimits(Model):
    """How far the Job goes."""

    seconds: int = Field(default=600, ge=10, le=3600)
    """For everything together."""
    fetch_bytes: int = Field(default=256 * 1024 * 1024, ge=1024, le=64 * 1024**3)
    """What of the repository is kept on the pod's disk."""
    retries: int = Field(default=8, ge=0, le=64)
    """How often it begins anew as the branch has moved."""


class PullRequestRef(Model):
    """A pull request by its number."""

    number: int = Field(ge=1)
    url: LongText = ""
    """Its page."""


class PromotionSpec(Model):
    """Everything a promotion's pod is told."""

    format_version: Literal[1] = 1
    action: PromotionAction = PromotionAction.PROMOTE
    mode: PromotionMode = PromotionMode.COMMIT
    promotion: PromotionIdentity
    target: PromotionTarget
    uri: S3Uri | Annotated[str, StringConstraints(pattern=r"^hf://[A-Za-z0-9._@/-]+$", max_length=512)]
    """What `uri` will say at the place."""
    digest: Digest
    """What `digest` will say at the place."""
    created: datetime | None = None
    """When the Promotion was created: the branch's history is searched back to then for a commit of this promotion, so
    that a Job that is started again makes no second one. Without it the last 64 commits are."""
    environment: ShortText = ""
    """Name of the PromotionPolicy, for people."""
    facts: tuple[CheckpointFacts, ...] = Field(default=(), max_length=64)
    """What is known of this checkpoint and of those that may stand at the place now, by digest."""
    gates: tuple[GateFact, ...] = Field(default=(), max_length=64)
    approvals: tuple[ApprovalFact, ...] = Field(default=(), max_length=64)
    override: OverrideFact | None = None
    store: Store | None = None
    """Where the reports lie; None where there is none to verify."""
    reports: tuple[ReportClaim, ...] = Field(default=(), max_length=64)
    """To be verified before the commit, with the checkpoint's own manifest. Without any the store is not asked."""
    links: tuple[Link, ...] = Field(default=(), max_length=16)
    author: Author
    signing: Signing = Signing.NONE
    forge: Forge | None = None
    """Needed with mode PullRequest."""
    head: Branch | None = None
    """Branch of the pull request; by default `head_branch()`."""
    pull_request: PullRequestRef | None = None
    """Which one is followed or closed; found by its branch where it is left out."""
    reason: LongText = ""
    """Why it is closed."""
    limits: PromotionLimits = PromotionLimits()

    @model_validator(mode="after")
    def _complete(self) -> "PromotionSpec":
        if self.mode is PromotionMode.PULL_REQUEST and self.forge is None:
            raise ValueError("mode PullRequest needs forge: whose API the pull request is opened with")
        if self.mode is PromotionMode.COMMIT and self.action is PromotionAction.FOLLOW:
            raise ValueError("action Follow needs mode PullRequest: a commit is not followed")
        if self.reports and self.store is None:
            raise ValueError("reports are verified in the store: give store")
        return self

    def head_branch(self) -> str:
        """Return the branch of the pull request: one for each Promotion, so that none changes another's."""
        return self.head or f"star/{self.promotion.namespace}/{self.promotion.name}-{self.promotion.uid[:8]}"

    def known(self, digest: str | None) -> CheckpointFacts | None:
        """Return what is known of a checkpoint."""
        return next((facts for facts in self.facts if facts.digest == digest), None)


class PromotionState(StrEnum):
    """How a promotion's Job ended."""

    COMMITTED = "Committed"
    """A commit of this promotion is in the branch."""
    ALREADY_THERE = "AlreadyThere"
    """The place says this already: no commit was made."""
    OPENED = "Opened"
    """The pull request was opened, or brought up to date, by this Job."""
    OPEN = "Open"
    """It waits for somebody to merge it."""
    MERGED = "Merged"
    CLOSED = "Closed"
    """It was closed without being merged. Without a pull request: none was opened, and the branch has no commit of this
    promotion."""


class PullRequest(PullRequestRef):
    """A pull request as the forge shows it."""

    state: PromotionState
    """Open, Merged or Closed."""
    mergeable: bool | None = None
    """False where the forge says that it conflicts with its branch; None where it says nothing."""


class PromotionOutcome(Model):
    """What the Job did, or found."""

    state: PromotionState
    commit: CommitId | None = None
    """The commit of this promotion; of a merged pull request the one that brought it into the branch."""
    from_digest: Digest | None = None
    """What stood at the place before; None where there was no digest."""
    from_uri: LongText | None = None
    standing: Digest | None = None
    """What the place in the branch says now. A pull request may have been changed before it was merged."""
    branch: Branch
    """The branch that the commit was pushed to."""
    pull_request: PullRequest | None = None
