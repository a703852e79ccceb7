"""StarDeployment: a checkpoint that passed its gates, served by vLLM behind the gateway."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from star_contracts.base import Model
from star_contracts.settings import MAX_TOOL_CALLS, EvaluationSettings, Sampling
from star_operator.api.common import (
    MEASURED_VARIANT,
    ONE_POD,
    AgainstRef,
    Compute,
    DatasetRef,
    ModelRef,
    PodTemplate,
    PoolName,
    Resources,
    SecretKeyRef,
    VerbalizationRef,
)
from star_operator.api.meta import AGE, CEL, HEADLINE, PHASE, WHY, Column, KindInfo, Resource, Scale, Status, list_map
from star_operator.api.serving import ServingTemplate
from star_operator.api.signatures import RequireSignatures

METRIC_PATTERN = r"^[A-Za-z][A-Za-z0-9_.]*$"
ORIGIN_PATTERN = r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$"
MAX_SERVED = 32
"""Rows of what has served."""
Origin = Annotated[str, Field(pattern=ORIGIN_PATTERN, max_length=253)]
"""Scheme, host and port as browsers send them in `Origin`: no path and no slash at the end."""


class Comparison(StrEnum):
    """How a measured figure is held against the threshold."""

    AT_LEAST = "AtLeast"
    AT_MOST = "AtMost"


class GateRule(Model):
    """One figure of the evaluation that must be reached."""

    model_config = CEL(
        (
            "has(self.value) != has(self.baseline)",
            "set exactly one of value (a number) and baseline (another metric of the same report, e.g. random.hrAvg)",
        ),
    ).config()

    metric: str = Field(pattern=METRIC_PATTERN, max_length=63)
    """A metric of the Evaluation's report: `hrAvg`, `hr1`, `hr3`, `hr5`, `valid`, `latencyP95`, ..."""
    comparison: Comparison = Comparison.AT_LEAST
    """Which way the metric is held against value or baseline."""
    value: float | None = Field(default=None, ge=-1e12, le=1e12)
    """The threshold as a number."""
    baseline: str | None = Field(default=None, pattern=METRIC_PATTERN, max_length=63)
    """The threshold as another metric of the same report, e.g. `random.hrAvg`."""


class Gates(Model):
    """What a checkpoint must show before it takes traffic."""

    model_config = CEL(MEASURED_VARIANT, ONE_POD).config()

    settings: EvaluationSettings = EvaluationSettings()
    """How it is evaluated."""
    against: AgainstRef | None = None
    """An evaluation, or a run of the teacher, on the same tasks to compare with in pairs, for rules on `against.ciLow`
    and its like."""
    rules: tuple[GateRule, ...] = Field(min_length=1, max_length=32)
    """All of them must hold."""
    compute: Compute = Compute()
    """Where the evaluator runs."""


class RolloutStep(Model):
    """A share of the traffic for some time."""

    weight: int = Field(ge=1, le=99)
    """Percent of the users whom the new revision answers. A user stays with a revision as long as the shares allow."""
    pause_seconds: int = Field(ge=1, le=604800)
    """How long, before the next step."""


class Rollout(Model):
    """How a revision that has passed its gates takes over."""

    model_config = CEL(
        (
            "self.steps.map(step, step.weight).isSorted() && "
            "self.steps.all(step, self.steps.exists_one(other, other.weight == step.weight))",
            "steps must have rising weights",
        ),
    ).config()

    steps: tuple[RolloutStep, ...] = Field(default=(), max_length=16)
    """One after the other; after the last it gets everything. None: everything at once."""


class Gateway(Model):
    """The HTTP front of the deployment."""

    model_config = CEL(
        ("!self.open || !has(self.apiKeys)", "open admits everybody, so that apiKeys would keep nobody out; name one"),
    ).config()

    replicas: int | None = Field(default=None, ge=0, le=64)
    """Pods of the gateway. Left out, its Deployment starts with one and is nobody's but an autoscaler's to scale."""
    resources: Resources = Resources()
    """CPU and memory of each."""
    pool: PoolName = "cpu"
    """Where they run."""
    pod_template: PodTemplate | None = None
    """Labels, annotations and identity of the pods, beyond those that the cluster gives them."""
    api_keys: SecretKeyRef | None = None
    """Secret key with one API key a line. Without it the operator makes one, which starctl shows (docs/gateway.md)."""
    open: bool = False
    """Admit everybody who reaches the gateway, without a key. Not together with `apiKeys`."""
    sampling: Sampling = Sampling()
    """How the student is sampled."""
    best_of: int = Field(default=1, ge=1, le=16)
    """Answers sampled a request; the best one by vote is returned."""
    max_tool_calls: int = Field(default=MAX_TOOL_CALLS, ge=0, le=64)
    """Tool calls answered in one generation before the student has to go on without; 0 serves a student of variant
    WithoutTools, which is shown the verbalization's summaries alone."""
    deadline_seconds: int = Field(default=60, ge=1, le=3600)
    """A request that takes longer is answered 504."""
    max_in_flight: int = Field(default=256, ge=1, le=100000)
    """Requests admitted at once by one pod; more are answered 429 with Retry-After."""
    allowed_origins: tuple[Origin, ...] = Field(default=(), max_length=32)
    """Origins whose pages may call the gateway from a browser (CORS), as `https://shop.example`; `*` allows all. None
    by default."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the gateway's Service."""


class StarDeploymentSpec(Model):
    """Which checkpoint, under which gates, served how."""

    model_config = CEL(
        (
            "!has(self.gates) || !self.gates.settings.tools || has(self.verbalization)",
            "gates.settings.tools needs verbalization (where tool calls are looked up); "
            "name one or set gates.settings.tools to false",
        ),
    ).config()

    checkpoint: ModelRef
    """A Checkpoint by name, optionally pinned by digest, or an artifact by URI and digest."""
    dataset: DatasetRef
    """The RecDataset the gateway takes titles and histories from, and the gates take test tasks from."""
    verbalization: VerbalizationRef | None = None
    """The Verbalization that summaries and the student's tool calls are looked up in; without it the student has no
    tools."""
    gates: Gates | None = None
    """Without gates the checkpoint is served unmeasured."""
    require_signatures: RequireSignatures | None = None
    """Whose signatures the checkpoint must have. What is unsigned, signed by others, or altered starts no serving pod;
    what serves already goes on."""
    rollout: Rollout = Rollout()
    """How a new checkpoint that has passed takes over from the one that serves."""
    server: ServingTemplate = ServingTemplate()
    """The vLLM servers of each revision."""
    gateway: Gateway = Gateway()
    """The HTTP front."""
    suspend: bool = False
    """Scale to nothing and keep the configuration."""


class RevisionStatus(Model):
    """One revision: a checkpoint with its gate's verdict."""

    name: str
    """Short name: the first digits of the digest."""
    uri: str = ""
    """Where its checkpoint is."""
    checkpoint: str = ""
    """The Checkpoint by which `spec.checkpoint` named it; empty for a URI."""
    digest: str
    """Digest of its checkpoint."""
    gate: str = ""
    """`Passed`, `Failed`, `Running` or empty."""
    evaluation: str = ""
    """The Evaluation that measured it."""
    ready_replicas: int = 0
    """Its servers that are ready."""
    weight: int = 0
    """Its share of the traffic, in percent: no more than its ready servers carry, where others can have the rest."""
    since: str = ""
    """RFC 3339, UTC: since when it has that share."""
    target: int | None = None
    """What it is to have by the steps of the roll-out, in percent, while it takes over from another."""
    replaces: str = ""
    """The revision that it takes over from; empty once it has everything, with all of its servers ready."""


class OnlineStatus(Model):
    """What the gateways count of their recommendations and the feedback on them; the figures are in `metrics`."""

    revision: str
    """The revision that they are of."""
    recommendations: int = 0
    """Rankings that it answered within the window."""
    chosen: int = 0
    """Recommendations of which an item was taken: click, like or purchase."""
    window_seconds: int = 0
    """How far back they go."""
    as_of: str = ""
    """RFC 3339, UTC: when they were added up. Figures that stay are confirmed every half hour."""


class ServedStatus(Model):
    """How long a checkpoint has served with one share of the traffic."""

    digest: str
    """Digest of the checkpoint."""
    uri: str = ""
    """Where it is."""
    checkpoint: str = ""
    """The Checkpoint by which `spec.checkpoint` named it; a roll-back to that name does not need it any more."""
    weight: int = 0
    """Its share, in percent."""
    since: str = ""
    """RFC 3339, UTC: when it had that share first."""
    until: str = ""
    """RFC 3339, UTC: up to when it was counted."""
    seconds: int = 0
    """How long it had that share with all of its servers answering: neither suspended nor short of any."""
    serving: bool = False
    """It still has it."""
    metrics: dict[str, float] = {}
    """The deployment's figures when it was counted last with all of the traffic."""


class StarDeploymentStatus(Status):
    """What is served."""

    revisions: tuple[RevisionStatus, ...] = Field(default=(), json_schema_extra=list_map("name"))
    """The checkpoint that serves, and one that is being measured or rolled out."""
    served: tuple[ServedStatus, ...] = Field(default=(), max_length=MAX_SERVED)
    """What has served for how long, the latest first. Promotion to the next environment counts from here."""
    serving_digest: str = ""
    """Digest of the checkpoint that takes traffic."""
    url: str = ""
    """In-cluster URL of the gateway."""
    replicas: int = 0
    """Servers there are, of all revisions."""
    ready_replicas: int = 0
    """Servers that are ready and take traffic."""
    full_replicas: int | None = None
    """Ready servers that count as carrying all of the traffic: `server.replicas`, of which those that are added count
    once they answer."""
    online: OnlineStatus | None = None
    """How its recommendations are taken, once users' feedback comes in."""
    selector: str = ""
    """Label selector of the servers' pods, for autoscalers."""


class StarDeployment(Resource[StarDeploymentSpec, StarDeploymentStatus]):
    """STAR, live."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "StarDeployment",
        "stardeployments",
        "star",
        columns=(
            PHASE,
            Column("Ready", ".status.readyReplicas", "integer"),
            HEADLINE,
            Column("Serving", ".status.servingDigest"),
            AGE,
            WHY,
            Column("URL", ".status.url", priority=1),
        ),
        run_to_completion=False,
        mutable=(),
        scale=Scale(".spec.server.replicas", ".status.replicas", ".status.selector"),
    )
    status: StarDeploymentStatus = StarDeploymentStatus()
