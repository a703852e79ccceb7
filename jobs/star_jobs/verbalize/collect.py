"""Stage `collect-signals`: the shards' part files -> the look-up store (layout: `star_jobs.lookup.layout`)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from star_contracts.artifact import ArtifactKind
from star_contracts.base import canonical_json
from star_contracts.data import Signal, SignalCategory, SignalKind, Summary
from star_contracts.errors import Reason
from star_contracts.job import CollectSignals
from star_jobs.datasets.snapshot import STATS, Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.lookup import SignalStore, write_store
from star_jobs.lookup.layout import SUMMARY, Entry, identity
from star_jobs.previous import fetch_previous
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage.records import parse_jsonl
from star_jobs.storage.s3 import CONCURRENCY
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.parts import Part, needed_files, parts
from star_jobs.verbalize.worklist import PARTS

_BATCH = 8 * CONCURRENCY
"""Part files in memory at once."""


def run(stage: CollectSignals, job: JobContext) -> Outcome:
    """Build the store from all parts.

    Raises TerminalFailure: ArtifactNotFound when parts are missing, ArtifactCorrupted when one does not hold its
    entries, LLMOutputInvalid when most entries have no words, NothingKept when there is no entry at all.
    """
    dataset = Dataset(job.fetch(stage.dataset, only=needed_files(stage)))
    wanted = parts(stage, dataset, Neighbours(job.fetch(stage.neighbours)))
    _require_all(wanted, job)
    before = fetch_previous(job, stage.previous).folder
    reader = _Reader(job, SignalStore.open(before) if before is not None else None)
    entries = write_store(job.scratch / "store", reader.entries(wanted))
    total = sum(entries.values())
    _require_substance(total, reader.without_words)
    job.output.add_tree(job.scratch / "store")
    kept = {snapshot: count for snapshot, count in sorted(reader.snapshots.items()) if snapshot != stage.dataset.digest}
    metrics = {
        "entries": total,
        "itemEntries": entries[SignalKind.ITEM_CF],
        "userEntries": entries[SignalKind.USER_CF],
        "summaries": entries[SUMMARY],
        "withoutWords": reader.without_words,
        "reused": reader.reused,
        "made": total - reader.reused,
        "keptWithinTolerance": sum(kept.values()),
    }
    job.output.add_bytes(canonical_json(metrics | {"keptFrom": kept}), STATS)
    inputs = {"dataset": stage.dataset.digest, "neighbours": stage.neighbours.digest}
    if stage.previous is not None:
        inputs["previous"] = stage.previous.digest
    return Outcome(ArtifactKind.VERBALIZATION, inputs, metrics)


class _Reader:
    """Reads part files, several at once, in order, and counts."""

    def __init__(self, job: JobContext, previous: SignalStore | None) -> None:
        self._job = job
        self._previous = previous
        self.without_words = 0
        self.reused = 0
        """Entries with the words that the previous store has."""
        self.snapshots: Counter[str] = Counter()
        """Signals by the dataset in which their neighbours were found."""

    def entries(self, wanted: Sequence[Part]) -> Iterator[Entry]:
        """Yield all entries."""
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for start in range(0, len(wanted), _BATCH):
                self._job.raise_if_stopping()
                for part in pool.map(self._read, wanted[start : start + _BATCH]):
                    self.without_words += sum(not words(entry) for entry in part)
                    self.reused += sum(map(self._is_reused, part))
                    self.snapshots.update(one.snapshot for one in part if isinstance(one, Signal) and one.snapshot)
                    yield from part
                self._job.progress(min(start + _BATCH, len(wanted)), len(wanted), "parts")

    def _is_reused(self, entry: Entry) -> bool:
        before = known(self._previous, entry)
        if before is None or not words(before):
            return False
        return (before.made_from, words(before)) == (entry.made_from, words(entry))

    def _read(self, part: Part) -> list[Entry]:
        found: list[Entry] = list(parse_jsonl(self._job.work.get(part.name) or b"", part.record, part.name))
        if list(map(identity, found)) != part.identities():
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED,
                f"{self._job.work.uri}/{part.name} does not hold the {len(part)} entries it should: delete it "
                "and run the Verbalization again",
            )
        return found


def words(entry: Entry) -> tuple[SignalCategory, ...] | str:
    """Return what a model wrote of an entry; empty when it gave nothing usable."""
    return entry.text if isinstance(entry, Summary) else entry.categories


def known(store: SignalStore | None, entry: Entry) -> Entry | None:
    """Return what a store has for an entry's key."""
    if store is None:
        return None
    return store.summary(entry.key) if isinstance(entry, Summary) else store.get(entry.kind, entry.key)


def _require_all(wanted: Sequence[Part], job: JobContext) -> None:
    there = set(job.work.list(PARTS))
    missing = [part.name for part in wanted if part.name not in there]
    if missing:
        raise TerminalFailure(
            Reason.ARTIFACT_NOT_FOUND,
            f"{len(missing)} of {len(wanted)} parts are missing under {job.work.uri}, the first is {missing[0]}: "
            "run the Verbalization again, which makes only what is missing",
        )


def _require_substance(total: int, without_words: int) -> None:
    if total == 0:
        raise TerminalFailure(
            Reason.NOTHING_KEPT,
            "no user or item has neighbours: raise neighbours.maxDegree, or bring a dataset with more interactions",
        )
    if without_words * 2 > total:
        raise TerminalFailure(
            Reason.LLM_OUTPUT_INVALID,
            f"{without_words} of {total} entries have no words, as the model's answers were not usable: "
            "choose a more capable model or raise sampling.maxTokens",
        )
