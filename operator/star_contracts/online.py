"""Online figures: what a gateway counts of its recommendations and their feedback, sent to the operator as counts.

The same road as progress reports: an HTTP POST, authenticated by the pod's projected service-account token. A report
carries the counts of one gateway process over a rolling window; the operator adds processes up, so that a figure is
made of sums and never of means. A lost report is followed by the next.
"""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from star_contracts.base import Model
from star_contracts.progress import MAX_COUNT, NamespaceName, ObjectName, ObjectUid, ShortText

ONLINE_PATH = "/v1/online"
REPORT_SECONDS = 30.0
"""A gateway reports so often."""
WINDOW_SECONDS = 86_400
"""What a gateway counts goes so far back; what a process that has ended had counted is gone with it."""
MAX_REVISIONS = 8
"""Of one report: those that took traffic last."""
RANKS = (1, 3, 5)
Revision = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class OnlineTarget(Model):
    """Where and for which StarDeployment a gateway reports."""

    url: str = Field(max_length=1024)
    """Full URL of the operator's endpoint."""
    namespace: NamespaceName
    name: ObjectName
    uid: ObjectUid


class OnlineCounts(Model):
    """Counts of one revision."""

    recommendations: Count = 0
    """Rankings that were answered."""
    chosen: Count = 0
    """Recommendations of which a user took an item (click, like or purchase), each counted once."""
    hits1: Count = 0
    """Those whose item stood at the first place."""
    hits3: Count = 0
    """Those whose item stood among the first three."""
    hits5: Count = 0
    """Those whose item stood among the first five."""

    @model_validator(mode="after")
    def _nested(self) -> "OnlineCounts":
        if not self.hits1 <= self.hits3 <= self.hits5 <= self.chosen:
            raise ValueError("the counts must rise: hits1, hits3, hits5, chosen")
        return self

    def plus(self, other: "OnlineCounts") -> "OnlineCounts":
        """Return the sums."""
        return OnlineCounts.sum((self, other))

    @staticmethod
    def sum(counts: "Iterable[OnlineCounts]") -> "OnlineCounts":
        """Return the sums."""
        parts = [(one.recommendations, one.chosen, one.hits1, one.hits3, one.hits5) for one in counts]
        sums = (min(MAX_COUNT, total) for total in map(sum, zip(*parts, strict=True)))
        return OnlineCounts(**dict(zip(OnlineCounts.model_fields, sums, strict=False)))


class OnlineReport(Model):
    """What one gateway process has counted within its window."""

    target: OnlineTarget
    instance: ShortText
    """The process: another one after each start."""
    revisions: dict[Revision, OnlineCounts] = Field(max_length=MAX_REVISIONS)
    """By the revision that answered."""
