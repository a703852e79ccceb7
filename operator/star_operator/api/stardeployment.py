"""StarDeployment: a checkpoint that passed its gates, served by vLLM behind the gateway."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from star_contracts.base import Model
from star_contracts.settings import EvaluationSettings, Sampling
from star_operator.api.common import Compute, ModelRef, Ref, Resources, SecretKeyRef
from star_operator.api.meta import AGE, CEL, HEADLINE, PHASE, WHY, Column, KindInfo, Resource, Status
from star_operator.api.serving import ServerTemplate


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

    metric: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", max_length=63)
    """A metric of the Evaluation's report: `hrAvg`, `hr1`, `hr3`, `hr5`, `valid`, `latencyP95`, ..."""
    comparison: Comparison = Comparison.AT_LEAST
    value: float | None = None
    baseline: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", max_length=63)


class Gates(Model):
    """What a checkpoint must show before it takes traffic."""

    settings: EvaluationSettings = EvaluationSettings()
    """How it is evaluated."""
    rules: tuple[GateRule, ...] = Field(min_length=1, max_length=32)
    compute: Compute = Compute()
    """Where the evaluator runs."""


class Gateway(Model):
    """The HTTP front of the deployment."""

    replicas: int = Field(default=1, ge=0, le=64)
    resources: Resources = Resources()
    pool: str = "cpu"
    api_keys: SecretKeyRef | None = None
    """Secret key with one API key a line; without it everybody in the cluster may ask."""
    sampling: Sampling = Sampling()
    best_of: int = Field(default=1, ge=1, le=16)
    max_tool_calls: int = Field(default=8, ge=0, le=64)
    deadline_seconds: int = Field(default=60, ge=1, le=3600)
    max_in_flight: int = Field(default=256, ge=1, le=100000)
    port: int = Field(default=8080, ge=1, le=65535)


class StarDeploymentSpec(Model):
    """Which checkpoint, under which gates, served how."""

    checkpoint: ModelRef
    """A Checkpoint by name, optionally pinned by digest, or an artifact by URI and digest."""
    dataset: Ref
    verbalization: Ref | None = None
    gates: Gates | None = None
    """Without gates the checkpoint is served unmeasured."""
    server: ServerTemplate = ServerTemplate()
    gateway: Gateway = Gateway()
    suspend: bool = False
    """Scale to nothing and keep the configuration."""


class RevisionStatus(Model):
    """One revision: a checkpoint with its gate's verdict."""

    name: str
    digest: str
    gate: str = ""
    """`Passed`, `Failed`, `Running` or empty."""
    evaluation: str = ""
    ready_replicas: int = 0
    weight: int = 0


class StarDeploymentStatus(Status):
    """What is served."""

    revisions: tuple[RevisionStatus, ...] = ()
    serving_digest: str = ""
    """Digest of the checkpoint that takes traffic."""
    url: str = ""
    """In-cluster URL of the gateway."""
    ready_replicas: int = 0


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
    )
    status: StarDeploymentStatus = StarDeploymentStatus()
