"""Progress reports: an HTTP POST from a job pod to the operator, authenticated by its projected service-account token.

A report is a hint for people. A lost one never fails a job, and the operator writes status at most every few seconds.
"""

from pydantic import Field, FiniteFloat

from star_contracts.base import Model

PROGRESS_PATH = "/v1/progress"
TOKEN_AUDIENCE = "star-operator"  # noqa: S105 - an audience, not a secret
TOKEN_PATH = "/var/run/secrets/star/token"  # noqa: S105


class ProgressTarget(Model):
    """Where and as whom a job reports progress."""

    url: str
    """Full URL of the operator's progress endpoint."""
    kind: str
    namespace: str
    name: str
    uid: str
    attempt: int
    step: str


class ProgressReport(Model):
    """One report. Counts are of this shard alone; the operator adds the shards up."""

    target: ProgressTarget
    shard: int = Field(default=0, ge=0)
    shards: int = Field(default=1, ge=1)
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    unit: str
    """What is counted: `trajectories`, `steps`, `entries`, `tasks`."""
    metrics: dict[str, FiniteFloat] = {}
    """Live figures such as `loss` or `reward`; shown in status.metrics."""
