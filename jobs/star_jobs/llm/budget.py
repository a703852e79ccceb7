"""A token budget: the end of a run that would cost more than its owner will pay."""

from dataclasses import dataclass

from star_contracts.data import Usage
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure


@dataclass
class TokenBudget:
    """Tokens that this pod may spend, over all its clients. Calls in flight when it is used up end as usual."""

    limit: int | None = None
    """This pod's share; None for no limit."""
    total: int | None = None
    """The budget that the share is of."""
    spent: int = 0
    """Tokens of prompts and answers, those of earlier pods of this shard included."""

    @classmethod
    def share(cls, total: int | None, pods: int, spent: int = 0) -> "TokenBudget":
        """Return one pod's equal part of a budget."""
        return cls(max(1, total // pods) if total else None, total, spent)

    def spend(self, usage: Usage) -> None:
        """Count a call."""
        self.spent += usage.prompt_tokens + usage.completion_tokens

    def check(self) -> None:
        """Raise TerminalFailure(TokenBudgetSpent) when nothing is left for another call."""
        if self.limit is not None and self.spent >= self.limit:
            raise TerminalFailure(
                Reason.TOKEN_BUDGET_SPENT,
                f"the token budget is used up: {self.spent} of {self.limit} tokens are spent (this pod's share of "
                f"tokenBudget {self.total}); what is finished is kept: create the run again under the same name with a "
                "larger tokenBudget, or with fewer tasks or passes",
            )
