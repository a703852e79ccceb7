"""Getting the student's answers: many at once, kept as part files, so that a killed pod costs a few chunks at most."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

from pydantic import ValidationError

from star_contracts.base import Model
from star_contracts.data import Item, RankingTask, Usage
from star_contracts.settings import EvaluationSettings, Sampling
from star_jobs.errors import JobFailure
from star_jobs.evaluate.agents import answer_alone
from star_jobs.evaluate.suite import Suite
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused
from star_jobs.runtime import JobContext
from star_jobs.storage import to_line
from star_jobs.trajectory.prompt import SummarySource, shown
from star_jobs.trajectory.reward import hit_rank
from star_jobs.trajectory.student import StudentAnswer, answer
from star_jobs.trajectory.tools import ToolBox

T = TypeVar("T")

CHUNK = 8
"""Tasks in one part file. Part of the work's layout: changing it makes unfinished evaluations start again."""


class AnswerRecord(Model):
    """One answer of the student, as measured."""

    task_id: str
    sample: int
    """0-based, of the `best_of` answers to the task."""
    ranking: tuple[str, ...] = ()
    """As written by the student."""
    rank: int | None = None
    """1-based place of the ground truth; None for a miss."""
    valid: bool = False
    """True when every candidate is ranked exactly once."""
    format_error: str | None = None
    """Where the answer departs from the trained format."""
    refused: bool = False
    """True when the model server refused the prompt, e.g. as too long; counted as a miss."""
    tool_calls: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0
    """From the first token asked for to the last received, tool look-ups included. Answers outnumber calls in flight,
    and what an answer's calls waited for those of other answers is not counted."""
    text: str = ""


@dataclass(frozen=True)
class Examinee:
    """The measured model and what it needs to answer."""

    client: LLMClient
    items: Mapping[str, Item]
    toolbox: ToolBox | None
    summaries: SummarySource | None = None
    """Of the beginnings of long histories."""

    async def answer(self, task: RankingTask, sample: int, settings: EvaluationSettings, truth: str) -> AnswerRecord:
        """Let the student answer once; a poor answer is a miss, not an error. Raises JobFailure as the client does."""
        sampling = settings.sampling
        if sampling.seed is not None:
            sampling = sampling.model_copy(update={"seed": sampling.seed + sample})
        try:
            given = await self._ask(task, sampling, settings)
        except RequestRefused as refusal:
            return AnswerRecord(task_id=task.task_id, sample=sample, refused=True, format_error=refusal.message)
        return _record(given, task, sample, truth)

    async def _ask(self, task: RankingTask, sampling: Sampling, settings: EvaluationSettings) -> StudentAnswer:
        asked = shown(task, self.summaries)
        if settings.single_agent is not None:
            return await answer_alone(self.client, asked, self.items, sampling, settings.single_agent)
        return await answer(self.client, asked, self.items, self.toolbox, sampling, variant=settings.variant)


async def collect_answers(
    examinee: Examinee, suite: Suite, settings: EvaluationSettings, job: JobContext
) -> list[list[AnswerRecord]]:
    """Return `best_of` answers for each task, in the suite's order; what an earlier pod answered is not asked again.

    Raises JobFailure: the endpoint's (LLMUnreachable, ...), the store's, or Interrupted.
    """
    chunks = [suite.tasks[start : start + CHUNK] for start in range(0, len(suite.tasks), CHUNK)]
    done: dict[int, list[list[AnswerRecord]]] = await asyncio.to_thread(_finished, chunks, settings.best_of, job)
    waiting = [index for index in range(len(chunks)) if index not in done]
    waiting.reverse()

    async def work() -> None:
        while waiting:
            index = waiting.pop()
            records = await _answer_chunk(examinee, chunks[index], suite, settings, job)
            lines = b"".join(to_line(record) for row in records for record in row)
            await asyncio.to_thread(job.work.put, _part(index), lines)
            done[index] = records
            _report(done, len(suite.tasks), job)

    _report(done, len(suite.tasks), job)
    if waiting:
        await examinee.client.wait_ready()
    at_once = ceil(examinee.client.endpoint.concurrency / (CHUNK * settings.best_of)) + 1
    await _together([work() for _ in range(min(at_once, len(waiting)))])
    return [row for index in range(len(chunks)) for row in done[index]]


async def _answer_chunk(
    examinee: Examinee, tasks: Sequence[RankingTask], suite: Suite, settings: EvaluationSettings, job: JobContext
) -> list[list[AnswerRecord]]:
    async def one(task: RankingTask, sample: int) -> AnswerRecord:
        job.raise_if_stopping()
        return await examinee.answer(task, sample, settings, suite.truth[task.task_id])

    flat = await _together([one(task, sample) for task in tasks for sample in range(settings.best_of)])
    return [flat[start : start + settings.best_of] for start in range(0, len(flat), settings.best_of)]


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the first failure ends the others and is raised as itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except* JobFailure as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _finished(
    chunks: Sequence[Sequence[RankingTask]], best_of: int, job: JobContext
) -> dict[int, list[list[AnswerRecord]]]:
    """Read the part files there are. One that is not what it should be is answered again."""
    names = set(job.work.list("answers"))
    found = {}
    for index, tasks in enumerate(chunks):
        if _part(index) not in names:
            continue
        records = _parse_part(job.work.get(_part(index)) or b"")
        expected = [(task.task_id, sample) for task in tasks for sample in range(best_of)]
        if [(record.task_id, record.sample) for record in records] == expected:
            found[index] = [records[start : start + best_of] for start in range(0, len(records), best_of)]
        else:
            job.log.warning("part file is not usable; answering its tasks again", part=_part(index))
    return found


def _parse_part(data: bytes) -> list[AnswerRecord]:
    try:
        return [AnswerRecord.model_validate_json(line) for line in data.splitlines()]
    except ValidationError:
        return []


def _record(given: StudentAnswer, task: RankingTask, sample: int, truth: str) -> AnswerRecord:
    return AnswerRecord(
        task_id=task.task_id,
        sample=sample,
        ranking=given.ranking,
        rank=hit_rank(given.ranking, truth),
        valid=given.valid,
        format_error=given.format_error,
        tool_calls=len(given.tool_calls),
        usage=given.usage,
        seconds=round(given.seconds - given.waited, 4),
        text=given.text,
    )


def _report(done: Mapping[int, list[list[AnswerRecord]]], total: int, job: JobContext) -> None:
    rows = [row for rows in done.values() for row in rows]
    answers = [record for row in rows for record in row]
    valid = sum(record.valid for record in answers) / len(answers) if answers else 0.0
    job.progress(len(rows), total, "tasks", valid=valid)


def _part(index: int) -> str:
    return f"answers/{index:06d}.jsonl"
