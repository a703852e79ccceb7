"""Progress reports: an HTTP POST from a job pod to the operator, authenticated by its projected service-account token.

A report is a hint for people. A lost one never fails a job, and the operator writes status at most every few seconds.
"""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from star_contracts.base import Model

PROGRESS_PATH = "/v1/progress"
TOKEN_AUDIENCE = "star-operator"  # noqa: S105 - an audience, not a secret
MAX_SHARDS = 10_000
"""As many as any kind's `shards` allows."""
MAX_COUNT = 2**53
"""The largest count that JSON readers agree on."""
MAX_METRICS = 64
TOKEN_PATH = "/var/run/secrets/star/token"  # noqa: S105


LATER = (429, 503)
"""Answers of an operator that takes a report later, or of a replica of it that does not lead: another try may reach the
one that does."""
LONGEST_PAUSE_SECONDS = 30.0


def pause_seconds(retry_after: str | None) -> float:
    """Return how long to wait before a report is sent once more (RFC 9110, Retry-After in seconds)."""
    text = retry_after or ""
    return min(LONGEST_PAUSE_SECONDS, float(text)) if text.isascii() and text.isdigit() else 1.0


REPORTING_KINDS = ("RecDataset", "Verbalization", "TeacherRun", "SFTJob", "GRPOJob", "Evaluation")
"""Kinds whose pods report progress: all that run to completion."""
ReportingKind = Annotated[str, StringConstraints(pattern=f"^({'|'.join(REPORTING_KINDS)})$")]
_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
NamespaceName = Annotated[str, StringConstraints(pattern=f"^{_LABEL}$", max_length=63)]
"""RFC 1123, a label."""
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
"""RFC 1123, a subdomain: it becomes a part of a URL's path."""
ObjectUid = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9-]{1,64}$")]
StepName = Annotated[str, StringConstraints(pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
ShortText = Annotated[str, Field(max_length=253)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
MetricName = Annotated[str, Field(min_length=1, max_length=63)]


class ProgressTarget(Model):
    """Where and as whom a job reports progress."""

    url: str
    """Full URL of the operator's progress endpoint."""
    kind: ReportingKind
    namespace: NamespaceName
    name: ObjectName
    uid: ObjectUid
    attempt: int = Field(ge=0, le=MAX_COUNT)
    step: StepName


class ProgressReport(Model):
    """One report. Counts are of this shard alone; the operator adds the shards up.

    All is bounded: the operator keeps reports in memory and writes their sum into a status.
    """

    target: ProgressTarget
    shard: int = Field(default=0, ge=0)
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS)
    done: int = Field(ge=0, le=MAX_COUNT)
    total: int = Field(ge=0, le=MAX_COUNT)
    unit: Annotated[str, Field(max_length=63)]
    """What is counted: `trajectories`, `steps`, `entries`, `tasks`."""
    metrics: dict[MetricName, Figure] = Field(default={}, max_length=MAX_METRICS)
    """Live figures such as `loss` or `reward`; shown in status.metrics."""

    @model_validator(mode="after")
    def _one_of_the_shards(self) -> "ProgressReport":
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} is none of {self.shards}: they are counted from 0")
        return self
