"""What a job tells the operator when it ends: a `JobResult` in the container's termination message.

Exit codes say the same for whoever reads only them: 0 done, 65 terminal, 75 retryable (sysexits' EX_DATAERR and
EX_TEMPFAIL). A Job's podFailurePolicy maps them, so Kubernetes itself retries only what can succeed.
"""

from enum import IntEnum, StrEnum

from pydantic import Field, FiniteFloat, model_validator

from star_contracts.artifact import ArtifactRef, Digest, Inventory
from star_contracts.base import Model
from star_contracts.errors import JobWarning
from star_contracts.promotion import PromotionOutcome

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes the kubelet keeps of a termination message (Kubernetes API, container.terminationMessagePath)."""


class ExitCode(IntEnum):
    """Exit codes of `star-job`."""

    DONE = 0
    TERMINAL = 65
    RETRYABLE = 75


class ErrorClass(StrEnum):
    """Whether running the same work again can help."""

    RETRYABLE = "Retryable"
    TERMINAL = "Terminal"


class JobError(Model):
    """Why a job ended without its artifact."""

    error_class: ErrorClass
    reason: str = Field(pattern=r"^[A-Z][A-Za-z0-9]{2,63}$")
    """A stable CamelCase word for machines, e.g. `StoreUnreachable`; becomes the condition's reason."""
    message: str
    """One sentence for people: which input or field, what was wrong, what to do. Never a secret."""


class JobResult(Model):
    """The termination message of a job container."""

    artifact: ArtifactRef | None = None
    bytes: int = 0
    """Total size of the artifact's files."""
    metrics: dict[str, FiniteFloat] = {}
    reused: bool = False
    """True when the artifact was found by its work hash and nothing was run."""
    source: Inventory | None = None
    """Which version of its raw files the job found, where it reads any."""
    files: dict[str, Digest] = {}
    """Digests of an artifact's files by path, where the operator tells of them: a proof's."""
    warnings: tuple[JobWarning, ...] = ()
    """What a person should know although the job succeeded."""
    promotion: PromotionOutcome | None = None
    """What a promotion's Job did, or found."""
    error: JobError | None = None

    @model_validator(mode="after")
    def _no_artifact_with_error(self) -> "JobResult":
        if self.error is not None and self.artifact is not None:
            raise ValueError("a job result has an artifact or an error, not both")
        return self

    def exit_code(self) -> ExitCode:
        """Return the exit code that says the same as this result."""
        if self.error is None:
            return ExitCode.DONE
        return ExitCode.TERMINAL if self.error.error_class is ErrorClass.TERMINAL else ExitCode.RETRYABLE

    def termination_message(self) -> str:
        """Return the JSON for the termination message, its sentences shortened to fit the kubelet's limit."""
        text = self.model_dump_json(by_alias=True, exclude_none=True)
        excess = len(text.encode()) - TERMINATION_MESSAGE_LIMIT
        if excess <= 0:
            return text
        if self.warnings:  # they are in the manifest, too
            return self.model_copy(update={"warnings": self.warnings[:-1]}).termination_message()
        if self.error is None:
            return text
        keep = max(0, len(self.error.message.encode()) - excess - 64)
        shorter = self.error.message.encode()[:keep].decode(errors="ignore") + " …"
        error = self.error.model_copy(update={"message": shorter})
        return self.model_copy(update={"error": error, "metrics": {}}).model_dump_json(by_alias=True, exclude_none=True)
