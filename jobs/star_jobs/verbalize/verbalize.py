"""Stage `verbalize-signals`: this shard's neighbours -> words, one part file a chunk (paper 3.3, F.2).

A chunk whose part file exists is never made again, so a killed pod costs the chunks in flight only. An entry of the
previous store that was made from the same is taken over, without a call. An entry whose answers stay unusable keeps
its neighbours, gets no categories and is counted; a model that fails at most of them ends the stage.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.data import Signal, SignalCategory
from star_contracts.errors import Reason
from star_contracts.job import VerbalizeSignals
from star_contracts.settings import Sampling
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused
from star_jobs.lookup import SignalStore
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage import to_line
from star_jobs.teacher.pool import work_off
from star_jobs.teacher.worklist import derived_seed
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.prompting import Prompter, UnusableAnswer
from star_jobs.verbalize.worklist import PARTS, Chunk, Entry, chunks

ATTEMPTS = 3
"""Answers asked for before an entry is left without categories."""
_WARMER = 0.4
"""Temperature of a second attempt, at least; of a third twice as much."""
_JUDGED_FROM = 40
"""Entries before a model is judged by the share without categories."""


def run(stage: VerbalizeSignals, job: JobContext) -> Outcome:
    """Make this shard's missing part files; leaves no artifact.

    Raises JobFailure: LLMOutputInvalid when most entries get no usable answer, Interrupted on SIGTERM, and what the
    LLM client raises.
    """
    dataset = Dataset(job.fetch(stage.dataset, only=["items.jsonl", "tasks/*"]))
    mine = job.mine(chunks(dataset, Neighbours(job.fetch(stage.neighbours)), stage.scope, stage.limit))
    finished = set(job.work.list(PARTS))
    missing = [chunk for chunk in mine if chunk.name not in finished]
    shard = _Shard(job, stage.llm.model, _size(mine), found=_size(mine) - _size(missing))
    job.log.info("signals to verbalize", entries=_size(missing), found=shard.found)
    shard.report()
    if missing:
        previous = SignalStore.open(job.fetch(stage.previous)) if stage.previous else None
        prompter = Prompter(dataset.items, stage.sampling, stage.llm.model)
        asyncio.run(_verbalize(stage, shard, _Source(prompter, previous), missing))
        if shard.found + shard.made < shard.total:
            job.raise_if_stopping()
    return Outcome(None, metrics=shard.metrics())


@dataclass
class _Shard:
    """This pod's part of the work, and what came of it."""

    job: JobContext
    model: str
    total: int
    found: int
    """Entries whose part was there when this pod started."""
    made: int = 0
    reused: int = 0
    """Of those made, taken over from the previous store."""
    unusable: int = 0
    """Entries left without categories."""
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

    async def keep(self, chunk: Chunk, signals: Sequence[Signal]) -> None:
        """Write a finished chunk and report progress."""
        await asyncio.to_thread(self.job.work.put, chunk.name, b"".join(map(to_line, signals)))
        self.made += len(signals)
        self.report()

    def report(self) -> None:
        """Report progress."""
        self.job.progress(self.found + self.made, self.total, "entries", withoutCategories=self.unusable)

    def metrics(self) -> dict[str, float]:
        """Return what this pod did."""
        return {
            "made": self.made - self.reused,
            "reused": self.reused,
            "found": self.found,
            "withoutCategories": self.unusable,
            "calls": self.calls,
            "completionTokens": self.tokens,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class _Source:
    """Where an entry's words come from."""

    prompter: Prompter
    previous: SignalStore | None

    def reusable(self, entry: Entry, made_from: str) -> Signal | None:
        """Return the previous store's entry when it was made from the same and has words, with today's neighbours."""
        before = self.previous.get(entry.kind, entry.key) if self.previous else None
        if before is None or not before.categories or before.made_from != made_from:
            return None
        return before.model_copy(update={"neighbours": entry.neighbours})


async def _verbalize(stage: VerbalizeSignals, shard: _Shard, source: _Source, missing: Sequence[Chunk]) -> None:
    started = time.monotonic()
    async with LLMClient(stage.llm, pods=shard.job.spec.shard.count) as client:
        await client.wait_ready()
        writer = _Writer(client, source, stage.sampling, shard)

        async def make(chunk: Chunk) -> None:
            signals = await asyncio.gather(*(writer.signal(entry) for entry in chunk.entries()))
            await shard.keep(chunk, signals)

        # A chunk more than fills the endpoint's slots: none is idle while a chunk's last answer is waited for.
        width = stage.llm.concurrency // len(missing[0]) + 2
        try:
            await work_off(missing, width, make, shard.job.stopping)
        finally:
            shard.calls, shard.tokens = client.usage.calls, client.usage.completion_tokens
            shard.seconds = time.monotonic() - started


@dataclass(frozen=True)
class _Writer:
    """Asks for one entry's words, several times if need be."""

    client: LLMClient
    source: _Source
    sampling: Sampling
    shard: _Shard

    async def signal(self, entry: Entry) -> Signal:
        """Return the entry's signal; without categories when no answer was usable."""
        made_from = self.source.prompter.fingerprint(entry)
        reused = self.source.reusable(entry, made_from)
        if reused is not None:
            self.shard.reused += 1
            return reused
        categories: tuple[SignalCategory, ...] = ()
        for attempt in range(ATTEMPTS):
            try:
                categories = await self._ask(entry, attempt)
                break
            except UnusableAnswer as error:
                self.shard.problem = str(error)
            except RequestRefused as error:  # the same request is refused again
                self.shard.problem = error.message
                break
        self.shard.judge(usable=bool(categories))
        return Signal(
            kind=entry.kind, key=entry.key, categories=categories, neighbours=entry.neighbours, made_from=made_from
        )

    async def _ask(self, entry: Entry, attempt: int) -> tuple[SignalCategory, ...]:
        # Each attempt draws anew (a greedy one would repeat itself), and a retried pod draws what the killed one did.
        seed = derived_seed(f"{self.sampling.seed or 0}/{entry.kind}/{entry.key}/{attempt}")
        temperature = max(self.sampling.temperature, _WARMER * attempt)
        reply = await self.client.chat(
            self.source.prompter.messages(entry),
            sampling=self.sampling.model_copy(update={"seed": seed, "temperature": temperature}),
            schema=self.source.prompter.schema(entry),
        )
        return self.source.prompter.read(entry, reply.text)


def _size(some: Sequence[Chunk]) -> int:
    return sum(map(len, some))
