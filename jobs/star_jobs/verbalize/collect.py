"""Stage `collect-signals`: the shards' part files -> the look-up store (layout: `star_jobs.lookup.layout`)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from star_contracts.artifact import ArtifactKind
from star_contracts.data import Signal, SignalKind
from star_contracts.errors import Reason
from star_contracts.job import CollectSignals
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.lookup import SignalStore, write_store
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage.records import parse_jsonl
from star_jobs.storage.s3 import CONCURRENCY
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.worklist import PARTS, Chunk, chunks

_BATCH = 8 * CONCURRENCY
"""Part files in memory at once."""


def run(stage: CollectSignals, job: JobContext) -> Outcome:
    """Build the store from all parts.

    Raises TerminalFailure: ArtifactNotFound when parts are missing, ArtifactCorrupted when one does not hold its
    entries, LLMOutputInvalid when most entries have no categories, NothingKept when there is no entry at all.
    """
    dataset = Dataset(job.fetch(stage.dataset, only=["items.jsonl", "tasks/*"]))
    wanted = chunks(dataset, Neighbours(job.fetch(stage.neighbours)), stage.scope, stage.limit)
    _require_all(wanted, job)
    reader = _Reader(job, SignalStore.open(job.fetch(stage.previous)) if stage.previous else None)
    entries = write_store(job.scratch / "store", reader.signals(wanted))
    total = sum(entries.values())
    _require_substance(total, reader.without_categories)
    job.output.add_tree(job.scratch / "store")
    metrics = {
        "entries": total,
        "itemEntries": entries[SignalKind.ITEM_CF],
        "userEntries": entries[SignalKind.USER_CF],
        "withoutCategories": reader.without_categories,
        "reused": reader.reused,
        "made": total - reader.reused,
    }
    inputs = {"dataset": stage.dataset.digest, "neighbours": stage.neighbours.digest}
    if stage.previous is not None:
        inputs["previous"] = stage.previous.digest
    return Outcome(ArtifactKind.VERBALIZATION, inputs, metrics)


class _Reader:
    """Reads part files, several at once, in order, and counts."""

    def __init__(self, job: JobContext, previous: SignalStore | None) -> None:
        self._job = job
        self._previous = previous
        self.without_categories = 0
        self.reused = 0
        """Entries with the words that the previous store has."""

    def signals(self, wanted: Sequence[Chunk]) -> Iterator[Signal]:
        """Yield all signals."""
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for start in range(0, len(wanted), _BATCH):
                self._job.raise_if_stopping()
                for part in pool.map(self._read, wanted[start : start + _BATCH]):
                    self.without_categories += sum(not signal.categories for signal in part)
                    self.reused += sum(map(self._is_reused, part))
                    yield from part
                self._job.progress(min(start + _BATCH, len(wanted)), len(wanted), "parts")

    def _is_reused(self, signal: Signal) -> bool:
        before = self._previous.get(signal.kind, signal.key) if self._previous else None
        return before is not None and bool(before.categories) and before.made_from == signal.made_from

    def _read(self, chunk: Chunk) -> list[Signal]:
        part = list(parse_jsonl(self._job.work.get(chunk.name) or b"", Signal, chunk.name))
        if [(signal.kind, signal.key) for signal in part] != [(chunk.kind, key) for key in chunk.keys]:
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{self._job.work.uri}/{chunk.name} does not hold the {len(chunk)} entries it should: delete it "
                "and run the Verbalization again",
            )
        return part


def _require_all(wanted: Sequence[Chunk], job: JobContext) -> None:
    there = set(job.work.list(PARTS))
    missing = [chunk.name for chunk in wanted if chunk.name not in there]
    if missing:
        raise TerminalFailure(
            Reason.ARTIFACT_NOT_FOUND,
            f"{len(missing)} of {len(wanted)} parts are missing under {job.work.uri}, the first is {missing[0]}: "
            "run the Verbalization again, which makes only what is missing",
        )


def _require_substance(total: int, without_categories: int) -> None:
    if total == 0:
        raise TerminalFailure(
            Reason.NOTHING_KEPT,
            "no user or item has neighbours: raise neighbours.maxDegree, or bring a dataset with more interactions",
        )
    if without_categories * 2 > total:
        raise TerminalFailure(
            Reason.LLM_OUTPUT_INVALID,
            f"{without_categories} of {total} entries have no categories, as the model's answers were not usable: "
            "choose a more capable model or raise sampling.maxTokens",
        )
