"""What every kind has: metadata, status, conditions, and how a kind describes itself to Kubernetes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import ConfigDict, Field

from star_contracts.artifact import Digest, S3Uri
from star_contracts.base import Model
from star_contracts.names import GROUP, VERSION

API_VERSION = f"{GROUP}/{VERSION}"


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
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    GATED = "Gated"
    """StarDeployment: the checkpoint failed its gates and takes no traffic."""
    DEGRADED = "Degraded"
    """StarDeployment: serving, but not as asked."""
    READY = "Ready"
    """StarDeployment: serving as asked. Checkpoint: usable."""


class Condition(Model):
    """A condition as in the Kubernetes API conventions (metav1.Condition)."""

    type: str = Field(pattern=r"^[A-Z][A-Za-z]*$", max_length=64)
    status: str = Field(pattern=r"^(True|False|Unknown)$")
    reason: str = Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=128)
    message: str = Field(max_length=4096)
    observed_generation: int = 0
    last_transition_time: str = ""
    """RFC 3339, UTC."""


class Progress(Model):
    """How far the running step is."""

    done: int = Field(ge=0)
    total: int = Field(ge=0)
    unit: str
    step: str = ""
    """The step being counted."""


class ArtifactStatus(Model):
    """The artifact a resource produced."""

    uri: S3Uri
    digest: Digest
    bytes: int = 0


class StepStatus(Model):
    """One step of a run, as far as it came."""

    name: str
    phase: Phase
    artifact: ArtifactStatus | None = None
    metrics: dict[str, float] = {}
    reused: bool = False
    """True when the step's artifact was found by its work hash and nothing was run."""


class Status(Model):
    """Status of every kind; kinds that need more add fields."""

    phase: Phase = Phase.PENDING
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    attempt: int = 0
    """Counts from 1; 0 before the first attempt."""
    steps: tuple[StepStatus, ...] = ()
    progress: Progress | None = None
    progress_text: str = ""
    """`done/total unit` of the running step, for the printer column."""
    headline: str = ""
    """The one figure that matters, for the printer column, e.g. `hrAvg 0.61`."""
    artifact: ArtifactStatus | None = None
    metrics: dict[str, float] = {}
    start_time: str | None = None
    completion_time: str | None = None


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
class KindInfo:
    """How a kind is called in Kubernetes, and what is special about it."""

    kind: str
    plural: str
    short: str
    columns: tuple[Column, ...] = (PHASE, PROGRESS, HEADLINE, AGE, WHY, DIGEST)
    run_to_completion: bool = True
    mutable: tuple[str, ...] = ("suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds")
    """Spec fields that may change after creation; all others are immutable when `run_to_completion`."""


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
    def parse(cls, body: dict[str, Any]) -> "Resource[SpecT, StatusT]":
        """Read an API object. Status fields of a newer version are dropped rather than refused.

        Raises pydantic.ValidationError when the spec does not fit, which admission should have prevented.
        """
        status = {k: v for k, v in (body.get("status") or {}).items() if k in _status_fields(cls)}
        return cls.model_validate({**body, "status": status})


def _status_fields(cls: type[Resource[Any, Any]]) -> set[str]:
    return {field.alias or name for name, field in cls.status_type().model_fields.items()}


class CEL:
    """Builds `x-kubernetes-validations` for a model's JSON schema."""

    def __init__(self, *rules: tuple[str, str]) -> None:
        self.rules = rules

    def config(self) -> ConfigDict:
        """Return a model configuration that carries the rules into the schema."""
        return ConfigDict(
            json_schema_extra={
                "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in self.rules]
            }
        )
