"""Stage `verbalize-signals`: this shard's neighbours and long histories -> words (paper 3.2, 3.3, E, F.2).

A part whose file exists is never made again, so a killed pod costs the parts in flight only. An entry of the previous
store that was made from the same is taken over, without a call. An entry whose answers stay unusable is kept without
words and counted; a model that fails at most of them ends the stage.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.data import Signal, SignalCategory
from star_contracts.job import VerbalizeSignals
from star_contracts.settings import Sampling
from star_jobs.datasets.snapshot import Dataset
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused
from star_jobs.lookup import SignalStore
from star_jobs.previous import fetch_previous
from star_jobs.runtime import JobContext, Outcome
from star_jobs.teacher.pool import work_off
from star_jobs.teacher.worklist import derived_seed
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.parts import Part, needed_files, parts
from star_jobs.verbalize.pasts import Pasts
from star_jobs.verbalize.prompting import Prompter, UnusableAnswer
from star_jobs.verbalize.shard import Shard
from star_jobs.verbalize.summaries import Summarizer
from star_jobs.verbalize.worklist import CHUNK, PARTS, Chunk, Entry

ATTEMPTS = 3
"""Answers asked for before an entry is left without categories."""
_WARMER = 0.4
"""Temperature of a second attempt, at least; of a third twice as much."""


def run(stage: VerbalizeSignals, job: JobContext) -> Outcome:
    """Make this shard's missing part files; leaves no artifact.

    Raises JobFailure: LLMOutputInvalid when most entries get no usable answer, Interrupted on SIGTERM, and what the
    LLM client raises.
    """
    dataset = Dataset(job.fetch(stage.dataset, only=needed_files(stage)))
    mine = job.mine(parts(stage, dataset, Neighbours(job.fetch(stage.neighbours))))
    finished = set(job.work.list(PARTS))
    missing = [part for part in mine if part.name not in finished]
    shard = Shard(job, stage.llm.model, _size(mine), found=_size(mine) - _size(missing))
    job.log.info("entries to verbalize", entries=_size(missing), found=shard.found)
    shard.report()
    before = fetch_previous(job, stage.previous if missing else None)
    if missing:
        previous = SignalStore.open(before.folder) if before.folder is not None else None
        prompter = Prompter(dataset.items, stage.sampling, stage.llm.model)
        asyncio.run(_verbalize(stage, shard, _Source(prompter, previous), missing))
        if shard.found + shard.made < shard.total:
            job.raise_if_stopping()
    return Outcome(None, metrics=shard.metrics(), warnings=before.warnings)


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
        return before.model_copy(update={"neighbours": entry.neighbours, "snapshot": entry.snapshot})


async def _verbalize(stage: VerbalizeSignals, shard: Shard, source: _Source, missing: Sequence[Chunk | Pasts]) -> None:
    started = time.monotonic()
    async with LLMClient(stage.llm, pods=shard.job.spec.shard.count) as client:
        writer = _Writer(client, source, stage.sampling, shard)
        summarizer = Summarizer(client, source.prompter.items, stage.sampling, source.previous, shard)

        async def make(part: Chunk | Pasts) -> None:
            if isinstance(part, Chunk):
                await shard.keep(part, await asyncio.gather(*map(writer.signal, part.entries())))
            else:
                users = await asyncio.gather(*map(summarizer.of_user, part.beginnings()))
                await shard.keep(part, [summary for user in users for summary in user])

        # A part more than fills the endpoint's slots: none is idle while a part's last answer is waited for.
        width = stage.llm.concurrency // min(CHUNK, len(missing[0])) + 2
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
    shard: Shard

    async def signal(self, entry: Entry) -> Signal:
        """Return the entry's signal; without categories when no answer was usable."""
        made_from = self.source.prompter.fingerprint(entry)
        reused = self.source.reusable(entry, made_from)
        if reused is not None:
            self.shard.reused += 1
            return reused
        await self.client.wait_ready()
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
            kind=entry.kind,
            key=entry.key,
            categories=categories,
            neighbours=entry.neighbours,
            made_from=made_from,
            snapshot=entry.snapshot,
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


def _size(some: Sequence[Part]) -> int:
    return sum(map(len, some))
