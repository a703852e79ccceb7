"""What every kind has: metadata, status, conditions, and how a kind describes itself to Kubernetes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from pydantic import ConfigDict, Field, JsonValue

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model
from star_contracts.errors import JobWarning
from star_contracts.names import GROUP, VERSION

API_VERSION = f"{GROUP}/{VERSION}"
CONDITION_TYPE_PATTERN = r"^[A-Z][A-Za-z]*$"
RULES = "x-kubernetes-validations"
"""In a schema: what is checked at admission, in CEL."""
PRESERVE = "x-kubernetes-preserve-unknown-fields"
"""On a field whose content the operator checks, not the API server."""
BARE = "x-star-bare"
"""On a block whose fields are explained elsewhere: the schema has them without their descriptions."""
MAX_COUNTED_SHARDS = 1000
"""Above this the counts would weigh more than the rest of the resource, at every write."""
REASON_PATTERN = r"^[A-Z][A-Za-z0-9]*$"


def list_map(key: str) -> dict[str, JsonValue]:
    """Return the schema extension of a list whose entries are told apart by a field, for server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Phase(StrEnum):
    """One word for people. Machines read the conditions."""

    PENDING = "Pending"
    """Seen, not decided yet."""
    WAITING = "Waiting"
    """An input is missing or not ready; the Ready condition says which."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: nothing runs, nothing is lost."""
    QUEUED = "Queued"
    """Handed to a queue (Kueue) that has not admitted it yet."""
    RUNNING = "Running"
    """Pods work on it, or are about to."""
    SUCCEEDED = "Succeeded"
    """Done; status.artifact is what it made."""
    FAILED = "Failed"
    """Given up; the Ready condition says why and what to do."""
    GATED = "Gated"
    """StarDeployment: the checkpoint failed its gates and takes no traffic. Promotion: it failed a requirement."""
    DEGRADED = "Degraded"
    """StarDeployment: serving, but not as asked."""
    READY = "Ready"
    """StarDeployment: serving as asked. Checkpoint: usable. PromotionPolicy: it governs its place."""


class Condition(Model):
    """A condition as in the Kubernetes API conventions (metav1.Condition)."""

    type: str = Field(pattern=CONDITION_TYPE_PATTERN, max_length=64)
    """What is said, e.g. `Ready`."""
    status: str = Field(pattern=r"^(True|False|Unknown)$")
    """Whether it holds."""
    reason: str = Field(pattern=REASON_PATTERN, max_length=128)
    """Why, as a stable word for machines."""
    message: str = Field(max_length=4096)
    """Why, as a sentence for people that says what to do."""
    observed_generation: int = 0
    """metadata.generation this was said about."""
    last_transition_time: str = ""
    """RFC 3339, UTC."""


class Progress(Model):
    """How far the running step is."""

    done: int = Field(ge=0)
    """Units done."""
    total: int = Field(ge=0)
    """Units in all."""
    unit: str
    """What is counted: `trajectories`, `steps`, ..."""
    step: str = ""
    """The step being counted."""
    done_by_shard: tuple[int, ...] = Field(default=(), max_length=MAX_COUNTED_SHARDS)
    """What each shard has done, by its index: what an operator that starts anew goes on from. For 2 to 1000 shards."""
    total_by_shard: tuple[int, ...] = Field(default=(), max_length=MAX_COUNTED_SHARDS)
    """What each shard has to do, by its index."""


class ArtifactStatus(Model):
    """The artifact a resource produced."""

    uri: S3Uri
    """Its prefix in the store."""
    digest: Digest
    """sha256 of its manifest, which pins every byte."""
    bytes: int = 0
    """Size of its files."""


class InputStatus(Model):
    """What a resource is made from, as it was when it was started."""

    role: str
    """What it is used as: `dataset`, `signals`, `trajectories`, `model`, `llm`, `previous`, ..."""
    kind: str = ""
    """Kind of the resource that it was taken from; empty for what is named by its URI."""
    name: str = ""
    """metadata.name of that resource."""
    uid: str = ""
    """metadata.uid of that resource: another one of the name is another input."""
    uri: S3Uri | None = None
    """Prefix of the artifact; none where it is done without."""
    digest: Digest | None = None
    """The artifact's digest."""
    warning: JobWarning | None = None
    """Why it is done without."""


class StepStatus(Model):
    """One step of a run, as far as it came."""

    name: str
    """The step, e.g. `train`."""
    phase: Phase
    """How far it is."""
    artifact: ArtifactStatus | None = None
    """What it made."""
    metrics: dict[str, float] = {}
    """Figures it reported."""
    reused: bool = False
    """True when the step's artifact was found by its work hash and nothing was run."""
    warnings: tuple[JobWarning, ...] = ()
    """What a person should know although it succeeded; the condition `Warnings` tells it."""


class Status(Model):
    """What the operator found and did; only it writes here."""

    phase: Phase = Phase.PENDING
    """One word for people."""
    observed_generation: int = 0
    """metadata.generation the status speaks of."""
    conditions: tuple[Condition, ...] = Field(default=(), json_schema_extra=list_map("type"))
    """What machines read; `Ready` says whether the resource is usable, and why not."""
    attempt: int = 0
    """Counts from 1; 0 before the first attempt."""
    steps: tuple[StepStatus, ...] = Field(default=(), json_schema_extra=list_map("name"))
    """The steps of the present attempt, in order."""
    progress: Progress | None = None
    """How far the running step is."""
    progress_text: str = ""
    """`done/total unit` of the running step, for the printer column."""
    headline: str = ""
    """The one figure that matters, for the printer column, e.g. `hrAvg 0.61`."""
    artifact: ArtifactStatus | None = None
    """What the resource made, once it succeeded."""
    metrics: dict[str, float] = {}
    """Headline figures."""
    models: dict[str, str] = {}
    """Models of a hub that the run works with, by role, each `org/name@<commit>`: what their names stood for when it
    began."""
    inputs: tuple[InputStatus, ...] = Field(default=(), json_schema_extra=list_map("role"))
    """What it was started on: read here from then on, whatever becomes of the resources that its spec names."""
    retry_at: str | None = None
    """When the next attempt starts, while one is waited for."""
    start_time: str | None = None
    """RFC 3339, UTC: when the first attempt began."""
    completion_time: str | None = None
    """RFC 3339, UTC: when it succeeded or was given up."""


class TrainingStatus(Status):
    """What a training job's status has besides."""

    checkpoint: str = ""
    """metadata.name of the Checkpoint that records what it made: the job's own name, unless that records another
    model."""


class ObjectMeta(Model):
    """The parts of metav1.ObjectMeta the operator reads; the rest is left alone."""

    model_config = ConfigDict(extra="ignore")

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


@dataclass(frozen=True)
class Column:
    """An additional printer column (`kubectl get`)."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    """0 is always shown, 1 only with `-o wide`."""


PHASE = Column("Phase", ".status.phase")
PROGRESS = Column("Progress", ".status.progressText")
HEADLINE = Column("Result", ".status.headline")
AGE = Column("Age", ".metadata.creationTimestamp", "date")
WHY = Column("Why", ".status.conditions[?(@.type=='Ready')].message", priority=1)
DIGEST = Column("Digest", ".status.artifact.digest", priority=1)


@dataclass(frozen=True)
class Scale:
    """The scale subresource: what `kubectl scale` and a HorizontalPodAutoscaler read and write."""

    spec: str
    """Path of the number wanted."""
    status: str
    """Path of the number there are."""
    selector: str
    """Path of the pods' label selector, as text."""


class Scope(StrEnum):
    """Where resources of a kind are."""

    NAMESPACED = "Namespaced"
    CLUSTER = "Cluster"


@dataclass(frozen=True)
class KindInfo:
    """How a kind is called in Kubernetes, and what is special about it."""

    kind: str
    plural: str
    short: str
    columns: tuple[Column, ...] = (PHASE, PROGRESS, HEADLINE, AGE, WHY, DIGEST)
    run_to_completion: bool = True
    mutable: tuple[str, ...] = ("suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds")
    """Spec fields that may change after creation; all others are immutable when `run_to_completion`."""
    scale: Scale | None = None
    scope: Scope = Scope.NAMESPACED


SpecT = TypeVar("SpecT", bound=Model)
StatusT = TypeVar("StatusT", bound=Status)


class Resource(Model, Generic[SpecT, StatusT]):
    """A custom resource: one subclass a kind, with its `INFO`."""

    INFO: ClassVar[KindInfo]

    api_version: str = API_VERSION
    kind: str
    metadata: ObjectMeta
    spec: SpecT
    status: StatusT

    @classmethod
    def spec_type(cls) -> type[Model]:
        """Return the model of this kind's spec."""
        annotation: Any = cls.model_fields["spec"].annotation
        return cast("type[Model]", annotation)

    @classmethod
    def status_type(cls) -> type[Status]:
        """Return the model of this kind's status."""
        annotation: Any = cls.model_fields["status"].annotation
        return cast("type[Status]", annotation)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        """Read an API object. Status fields of a newer version are dropped rather than refused.

        Raises pydantic.ValidationError when the spec does not fit, which admission should have prevented.
        """
        return cls.model_validate({**body, "status": _known_status(cls, body)})

    @classmethod
    def parse_status(cls, body: dict[str, Any]) -> Status:
        """Read an API object's status alone. Raises pydantic.ValidationError as `parse` does."""
        return cls.status_type().model_validate(_known_status(cls, body))


def _known_status(cls: type[Resource[Any, Any]], body: dict[str, Any]) -> dict[str, Any]:
    known = {field.alias or name for name, field in cls.status_type().model_fields.items()}
    return {name: value for name, value in (body.get("status") or {}).items() if name in known}


class CEL:
    """Builds `x-kubernetes-validations` for a model's JSON schema."""

    def __init__(self, *rules: tuple[str, str]) -> None:
        self.rules = rules

    def config(self) -> ConfigDict:
        """Return a model configuration that carries the rules into the schema."""
        return ConfigDict(
            json_schema_extra={RULES: [{"rule": rule, "message": message} for rule, message in self.rules]}
        )
