"""Requests and answers of the gateway's own endpoints (snake_case JSON, like the OpenAI endpoints beside them)."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from star_contracts.data import Interaction, SignalKind

ShortText = Annotated[str, StringConstraints(max_length=256)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
"""As long as datasets take them."""
MAX_INTEGER = 2**31 - 1
LATEST_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999: larger numbers are no Unix times in seconds."""


class ApiModel(BaseModel):
    """A request or an answer: unknown fields are refused, so that a typo is an error and not a default.

    Lists stop at their first bad element: a body may hold hundreds of thousands, and each error is an object.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class HistoryEvent(ApiModel):
    """One thing the user did."""

    item_id: Identifier
    timestamp: Annotated[int, Field(ge=0, le=LATEST_TIMESTAMP)] | None = None
    """Unix time in seconds, not milliseconds; without it, the order in the list counts (oldest first)."""
    rating: float | None = None
    text: Annotated[str, StringConstraints(max_length=20_000)] = ""
    """The user's review."""

    def interaction(self, position: int) -> Interaction:
        """Return it in the form of a task's history."""
        timestamp = position if self.timestamp is None else self.timestamp
        return Interaction(item_id=self.item_id, timestamp=timestamp, rating=self.rating, text=self.text)


class RecommendRequest(ApiModel):
    """Rank candidates for a user."""

    user_id: Identifier | None = None
    """Routes the user to the same revision each time, and finds the history of a user the dataset knows."""
    history: Annotated[list[HistoryEvent], Field(max_length=10_000, fail_fast=True)] | None = None
    """Oldest first. Needed for a user the dataset does not know; replaces the stored history of one it does."""
    profile: Annotated[dict[ShortText, ShortText], Field(max_length=32)] | None = None
    """What is known about the user, e.g. `age`; replaces the stored profile of a user the dataset knows."""
    candidates: Annotated[list[Identifier], Field(min_length=2, max_length=1000, fail_fast=True)]
    """Item ids to rank. Their order does not matter: the gateway shuffles them before the student sees them."""
    top_k: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    """Ranked items to return; all by default."""
    best_of: Annotated[int, Field(ge=1, le=16)] | None = None
    """Answers to sample and merge into one ranking (paper C); the deployment's setting by default."""
    explain: bool = True
    """Return the student's reasoning and its tool calls."""
    deadline_seconds: Annotated[float, Field(gt=0)] | None = None
    """Give up earlier than the deployment's deadline."""


class RankSource(StrEnum):
    """Where a position in the ranking comes from."""

    STUDENT = "student"
    FALLBACK = "fallback"
    """No answer of the student was valid: the candidates as the caller sent them."""


class RankedItem(ApiModel):
    """One place of the ranking."""

    rank: int
    item_id: str
    title: str


class ReasoningSection(ApiModel):
    """One phase of the student's reasoning, e.g. `plan`, `user_profile`, `recommend`."""

    section: str
    thinking: str
    output: str


class ToolCallMade(ApiModel):
    """One collaborative look-up that the student asked for."""

    tool: SignalKind | str
    argument: str
    response: str


class TokenUsage(ApiModel):
    """What all sampled answers cost together."""

    prompt_tokens: int
    completion_tokens: int
    calls: int
    """Requests to the model: one for an answer, and one more after each tool call."""


class Recommendation(ApiModel):
    """The answer to a `RecommendRequest`."""

    request_id: str
    """Name it in `/v1/feedback`."""
    user_id: str | None
    ranking: list[RankedItem]
    source: RankSource
    valid: bool
    """False when no answer of the student ranked every candidate exactly once."""
    answers: int
    """Answers sampled."""
    valid_answers: int
    reasoning: list[ReasoningSection] = []
    format_error: str | None = None
    """Where the answer shown departs from the trained format; its ranking may be valid all the same."""
    text: str | None = None
    """The answer as generated, instead of `reasoning`, when it cannot be taken apart."""
    tool_calls: list[ToolCallMade] = []
    revision: str
    checkpoint: str
    """Digest of the checkpoint that answered."""
    usage: TokenUsage
    latency_seconds: float
    warnings: list[str] = []
    """What was left out of the request, and why."""


class BatchRequest(ApiModel):
    """Several independent requests."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=1000, fail_fast=True)]


class BatchResult(ApiModel):
    """The outcome of one of them: exactly one of the two is set."""

    index: int
    recommendation: Recommendation | None = None
    problem: dict[str, Any] | None = None
    """The problem document that the request alone would have been answered with."""


class BatchResponse(ApiModel):
    """Outcomes in the order of the requests."""

    results: list[BatchResult]


class FeedbackEvent(StrEnum):
    """What the user did with a recommended item."""

    VIEW = "view"
    CLICK = "click"
    LIKE = "like"
    DISLIKE = "dislike"
    PURCHASE = "purchase"
    SKIP = "skip"


class Feedback(ApiModel):
    """What became of a recommendation."""

    request_id: Identifier
    """`request_id` of the recommendation."""
    item_id: Identifier
    event: FeedbackEvent
    user_id: Identifier | None = None
    revision: Identifier | None = None
    rank: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    """Place at which the item was shown."""
    value: float | None = None
    """A rating, a price, seconds watched: whatever goes with the event."""


class FeedbackAccepted(ApiModel):
    """The answer to a `Feedback`."""

    accepted: Literal[True] = True
    durable: bool
    """True when it will also be written to the store, not only to the log."""
