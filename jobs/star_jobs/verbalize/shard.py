"""This pod's part of a Verbalization's work, and what came of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.lookup.layout import Entry
from star_jobs.runtime import JobContext
from star_jobs.storage import to_line
from star_jobs.verbalize.parts import Part

_JUDGED_FROM = 40
"""Entries before a model is judged by the share without words."""


@dataclass
class Shard:
    """Counts, judges, keeps and reports."""

    job: JobContext
    model: str
    total: int
    """Entries of this pod."""
    found: int
    """Entries whose part was there when this pod started."""
    made: int = 0
    reused: int = 0
    """Of those made, taken over from the previous store."""
    unusable: int = 0
    """Entries left without words."""
    judged: int = 0
    problem: str = ""
    tokens: int = 0
    calls: int = 0
    seconds: float = 0

    def judge(self, *, usable: bool) -> None:
        """Count an entry's answer. Raises TerminalFailure(LLMOutputInvalid) when most are not usable."""
        self.judged += 1
        self.unusable += not usable
        if self.unusable * 2 > self.judged >= min(_JUDGED_FROM, self.total - self.found - self.reused):
            raise TerminalFailure(
                Reason.LLM_OUTPUT_INVALID,
                f"model {self.model!r} gave no usable answer for {self.unusable} of {self.judged} entries (the last: "
                f"{self.problem[:200]}); check that the llm endpoint supports response_format json_schema, raise "
                "sampling.maxTokens, or choose a more capable model",
            )

    async def keep(self, part: Part, entries: Sequence[Entry]) -> None:
        """Write a finished part and report progress."""
        await asyncio.to_thread(self.job.work.put, part.name, b"".join(map(to_line, entries)))
        self.made += len(entries)
        self.report()

    def report(self) -> None:
        """Report progress."""
        self.job.progress(self.found + self.made, self.total, "entries", withoutWords=self.unusable)

    def metrics(self) -> dict[str, float]:
        """Return what this pod did."""
        return {
            "made": self.made - self.reused,
            "reused": self.reused,
            "found": self.found,
            "withoutWords": self.unusable,
            "calls": self.calls,
            "completionTokens": self.tokens,
            "seconds": round(self.seconds, 1),
        }
