"""PromotionPolicy: an environment, and what a checkpoint must show before it moves there."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from star_contracts.artifact import Digest
from star_contracts.base import Model
from star_contracts.settings import EvaluationSettings
from star_operator.api.common import DNS_LABEL, Name
from star_operator.api.cron import KNOWN_ZONE, TIME_PATTERN, ZONE_PATTERN
from star_operator.api.meta import AGE, CEL, PHASE, WHY, Column, KindInfo, Resource, Status
from star_operator.api.promotion import PULL_REQUEST_NEEDS_FORGE, Delivery, PolicyName
from star_operator.api.references import refers_to
from star_operator.api.retrainschedule import Window
from star_operator.api.stardeployment import GateRule
from star_operator.api.starpipeline import Series

MAX_PROMOTED = 32
"""Rows of what was promoted into an environment."""
MAX_MADE = 128
"""Digests for which `auto` has made a Promotion."""


class Serves(Model):
    """The StarDeployment that runs what this environment's place says."""

    name: Annotated[Name, refers_to("StarDeployment")]
    """Its metadata.name."""
    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)] | None = None
    """Where it is; here by default. In another namespace it must name ours in its annotation
    `star.recsys.dev/observers`."""


class VerdictRule(GateRule):
    """A figure that an Evaluation of this very digest must have reached."""

    dataset: Annotated[Name, refers_to("RecDataset")] | None = None
    """The RecDataset that it must have been measured on, as it is now; any by default."""


class Soak(Model):
    """How long the checkpoint must have served elsewhere."""

    seconds: int = Field(ge=1, le=365 * 86400)
    """How long, with all servers answering; counted together where it was interrupted."""
    min_weight: int = Field(default=100, ge=1, le=100)
    """Percent of the traffic that it must have had for the time to count."""
    environment: PolicyName | None = None
    """Where: a PromotionPolicy with `serves`; `after` by default."""
    metrics: tuple[GateRule, ...] = Field(default=(), max_length=16)
    """What that StarDeployment's figures must have been while it served everything there."""


class Requires(Model):
    """What must hold before anything is committed."""

    verdicts: tuple[VerdictRule, ...] = Field(default=(), max_length=32)
    """Figures of Evaluations of this digest. The Job verifies each report by its digest before it commits."""
    settings: EvaluationSettings | None = None
    """How it must have been measured for a verdict to count; any by default."""
    max_data_age_days: int | None = Field(default=None, ge=1, le=3650)
    """How old the newest raw data may be that it was measured on; without verdicts, that it was trained on."""
    soak: Soak | None = None
    """How long it must have served."""
    approvals: int = Field(default=0, ge=0, le=16)
    """Approvals of this digest by so many different users."""
    approvers: tuple[Annotated[str, StringConstraints(min_length=1, max_length=253)], ...] = Field(
        default=(), max_length=64
    )
    """Users whose approvals count, as the API server knows them; all by default that have the verb `approve`."""


class Freeze(Model):
    """A time in which nothing is promoted."""

    model_config = CEL(
        ("timestamp(self.start) < timestamp(self.end)", "start must be before end: exchange them, or correct one"),
    ).config()

    start: str = Field(pattern=TIME_PATTERN, max_length=20)
    """When it begins, RFC 3339 in UTC: `2026-12-23T16:00:00Z`."""
    end: str = Field(pattern=TIME_PATTERN, max_length=20)
    """When it ends, RFC 3339 in UTC."""
    reason: str = Field(min_length=1, max_length=253)
    """Why, for those who wait."""


class Hold(Model):
    """A digest that stays until the hold is released."""

    digest: Digest
    """It alone may be promoted meanwhile."""
    reason: str = Field(min_length=1, max_length=1024)
    """Why, for those who wait."""


class Source(Model):
    """What `auto` promotes into the first environment."""

    series: Series
    """What the StarPipelines of this series made."""


class PromotionPolicySpec(Delivery):
    """Where the environment is, how digests get there, and what must hold before."""

    model_config = CEL(
        PULL_REQUEST_NEEDS_FORGE,
        KNOWN_ZONE,
        (
            "!has(self.requires.soak) || has(self.requires.soak.environment) || has(self.after)",
            "requires.soak needs to know where the checkpoint must have served: set requires.soak.environment or after",
        ),
        (
            "!has(self.from) || !has(self.after)",
            "from says what the first environment takes, and one with after takes what arrived there: leave one out",
        ),
        (
            "!self.auto || has(self.from) || has(self.after)",
            "auto needs to know what to promote: set from.series (what pipelines made) or after (what arrived there)",
        ),
    ).config()

    after: PolicyName | None = None
    """The environment before this one: a digest must have arrived there first."""
    serves: Serves | None = None
    """What runs here. With it, a digest has arrived here when it has served here."""
    requires: Requires = Requires()
    """What must hold."""
    time_zone: str = Field(default="Etc/UTC", pattern=ZONE_PATTERN, max_length=64)
    """IANA time zone of the windows, e.g. `Europe/Berlin`."""
    windows: tuple[Window, ...] = Field(default=(), max_length=16)
    """Hours in which a promotion may begin; none for always."""
    freezes: tuple[Freeze, ...] = Field(default=(), max_length=32)
    """Times in which none may begin."""
    auto: bool = False
    """Make a Promotion of each new digest that there is for this environment. It waits for what is required."""
    from_: Source | None = Field(default=None, alias="from")
    """What `auto` promotes where there is no environment before."""
    hold: Hold | None = None
    """Keep a digest here: `starctl hold ENVIRONMENT --reason WHY`; `starctl release ENVIRONMENT` clears it."""
    successful_history_limit: int = Field(default=10, ge=1, le=1000)
    """Succeeded Promotions to this place that are kept."""
    failed_history_limit: int = Field(default=5, ge=0, le=1000)
    """Failed Promotions to this place that are kept."""


class PromotedStatus(Model):
    """A digest that was promoted here."""

    digest: str
    """Which."""
    promotion: str = ""
    """The Promotion's metadata.name."""
    uid: str = ""
    """The Promotion's metadata.uid."""
    commit: str = ""
    """The commit."""
    at: str = ""
    """RFC 3339, UTC: when."""


class PromotionPolicyStatus(Status):
    """What is here, and who waits."""

    standing: str = ""
    """The digest that was promoted last."""
    promoted: tuple[PromotedStatus, ...] = Field(default=(), max_length=MAX_PROMOTED)
    """What was promoted, the latest first."""
    waiting: int = 0
    """Promotions that have not begun."""
    running: int = 0
    """Promotions that have begun and not ended."""
    made: tuple[str, ...] = Field(default=(), max_length=MAX_MADE)
    """Beginnings of the digests that `auto` has made a Promotion of, the latest first."""


class PromotionPolicy(Resource[PromotionPolicySpec, PromotionPolicyStatus]):
    """An environment: it governs every Promotion of its namespace to the same place, whether that names it or not."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "PromotionPolicy",
        "promotionpolicies",
        "ppol",
        columns=(
            PHASE,
            Column("After", ".spec.after"),
            Column("Standing", ".status.standing"),
            Column("Waiting", ".status.waiting", "integer"),
            Column("Auto", ".spec.auto", "boolean"),
            Column("Held", ".spec.hold.digest", priority=1),
            AGE,
            WHY,
        ),
        run_to_completion=False,
    )
    status: PromotionPolicyStatus = PromotionPolicyStatus()
