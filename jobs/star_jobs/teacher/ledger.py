"""What a shard has spent of the token budget, over all its pods: one small object, written every few seconds.

A pod that dies hard forgets at most the tokens of the last `INTERVAL_SECONDS`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from star_jobs.llm.budget import TokenBudget
from star_jobs.storage import WorkArea

INTERVAL_SECONDS = 5.0


@dataclass(frozen=True)
class Ledger:
    """The account of one shard."""

    work: WorkArea
    shard: int

    @property
    def name(self) -> str:
        """The object it is kept in."""
        return f"spent/{self.shard:05d}.json"

    def read(self) -> int:
        """Return the tokens that earlier pods of this shard spent."""
        kept = self.work.get(self.name)
        return int(json.loads(kept)["tokens"]) if kept else 0

    def write(self, tokens: int) -> None:
        """Note the tokens spent so far."""
        self.work.put(self.name, json.dumps({"tokens": tokens}).encode())

    @asynccontextmanager
    async def following(self, budget: TokenBudget) -> AsyncIterator[None]:
        """Keep the account up to date while the block runs, and at its end; does nothing without a budget."""
        if budget.limit is None:
            yield
            return
        writer = asyncio.create_task(self._follow(budget))
        try:
            yield
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            await asyncio.to_thread(self.write, budget.spent)

    async def _follow(self, budget: TokenBudget) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await asyncio.to_thread(self.write, budget.spent)
