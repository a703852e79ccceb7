"""What calls of a language model may take and what they cost: set in a resource, obeyed by jobs."""

from pydantic import Field

from star_contracts.base import Model

_MILLION = 1_000_000


class RateLimits(Model):
    """A provider's limits on one endpoint. All pods of a run share them in equal parts."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Calls a minute at most; retries count. No limit by default."""
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000_000)
    """Tokens of prompts and answers a minute at most. No limit by default."""


class TokenPrices(Model):
    """What tokens cost, in any currency; `cost` in a run's metrics is in the same one."""

    prompt_per_million: float = Field(default=0.0, ge=0, le=1_000_000)
    """For a million tokens of prompts."""
    completion_per_million: float = Field(default=0.0, ge=0, le=1_000_000)
    """For a million generated tokens."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what these tokens cost."""
        total = prompt_tokens * self.prompt_per_million + completion_tokens * self.completion_per_million
        return total / _MILLION
