"""Stage `sample-difficulty`: how often does the starting checkpoint solve each training task (paper A.1).

Several responses are sampled a task through the very loop that serves the student; a response solves it when it
ranks the ground truth first. Finished chunks of tasks are kept in the work area: a killed pod costs those in flight.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from star_contracts.artifact import ArtifactKind
from star_contracts.data import RankingTask
from star_contracts.errors import Reason
from star_contracts.job import SampleDifficulty
from star_contracts.settings import Sampling, Variant
from star_jobs.datasets.snapshot import Dataset
from star_jobs.errors import JobFailure, TerminalFailure
from star_jobs.grpo.difficulty import SAMPLES, Instance, classify, metrics, select
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused
from star_jobs.lookup import SignalStore
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage import to_line
from star_jobs.trajectory import student
from star_jobs.trajectory.prompt import shown
from star_jobs.trajectory.reward import hit_rank
from star_jobs.trajectory.student import StudentAnswer
from star_jobs.trajectory.tools import ToolBox

CHUNK_TASKS = 16
"""Tasks whose results are written together. Part of the work's layout: a change starts unfinished samplings anew."""

Ask = Callable[[RankingTask, int], Awaitable[StudentAnswer]]
"""(task, which response) -> the student's answer."""


def run(stage: SampleDifficulty, job: JobContext) -> Outcome:
    """Sample, classify, select and write `samples.jsonl`."""
    dataset = Dataset(job.fetch(stage.dataset, only=("*.jsonl",)))
    tasks = dataset.tasks("train", limit=stage.sampling.tasks)
    if not tasks:
        raise TerminalFailure(
            Reason.NOTHING_TO_TRAIN_ON, "the dataset has no training tasks: raise the RecDataset's tasks.train"
        )
    try:
        instances = asyncio.run(_sample(stage, job, dataset, tasks))
    except* JobFailure as group:
        raise first_failure(group) from None
    chosen = select(instances, stage.sampling)
    found = metrics(chosen)
    job.log.info("difficulty", **found)
    if not any(instance.kept for instance in chosen):
        raise TerminalFailure(
            Reason.NOTHING_TO_TRAIN_ON,
            f"none of {len(chosen)} tasks is solved sometimes and missed sometimes by the starting checkpoint: "
            "set sampling.keepUnsolved, or raise sampling.tasks or sampling.samples",
        )
    job.output.add_bytes(b"".join(to_line(instance) for instance in chosen), SAMPLES)
    inputs = {"dataset": stage.dataset.digest} | ({"signals": stage.signals.digest} if stage.signals else {})
    return Outcome(kind=ArtifactKind.SAMPLES, inputs=inputs, metrics=found)


def first_failure(group: BaseExceptionGroup[JobFailure]) -> JobFailure:
    """Return the failure that ended the others: chunks run side by side and fail together."""
    first = group.exceptions[0]
    return first_failure(first) if isinstance(first, BaseExceptionGroup) else first


async def _sample(
    stage: SampleDifficulty, job: JobContext, dataset: Dataset, tasks: Sequence[RankingTask]
) -> list[Instance]:
    truth = dataset.ground_truth("train")
    store = SignalStore.open(job.fetch(stage.signals)) if stage.signals is not None else None
    has_tools = stage.variant is not Variant.WITHOUT_TOOLS
    toolbox = ToolBox(store, dataset.items) if store is not None and has_tools else None
    async with LLMClient(stage.llm) as client:

        async def ask(task: RankingTask, response: int) -> StudentAnswer:
            sampling = Sampling(temperature=stage.temperature, top_p=1.0, max_tokens=stage.max_tokens, seed=response)
            asked = shown(task, store)
            return await student.answer(client, asked, dataset.items, toolbox, sampling, variant=stage.variant)

        sampler = Sampler(client.wait_ready, ask, truth, stage.sampling.samples, job)
        return await sampler.all(tasks, in_flight=chunks_in_flight(stage.llm.concurrency, stage.sampling.samples))


def chunks_in_flight(concurrency: int, samples: int) -> int:
    """Return how many chunks keep `concurrency` calls going while the last answers of one are waited for."""
    return 1 + math.ceil(concurrency / (CHUNK_TASKS * samples))


@dataclass
class Sampler:
    """Samples tasks chunk by chunk; what is in the work area already is not asked again."""

    ready: Callable[[], Awaitable[None]]
    """Awaited before anything is asked."""
    ask: Ask
    truth: Mapping[str, str]
    samples: int
    job: JobContext
    finished: list[Instance] = field(default_factory=list)

    async def all(self, tasks: Sequence[RankingTask], in_flight: int) -> list[Instance]:
        """Return an instance a task, in the tasks' order. Raises JobFailures, several together as a group."""
        chunks = [tasks[start : start + CHUNK_TASKS] for start in range(0, len(tasks), CHUNK_TASKS)]
        slots = asyncio.Semaphore(in_flight)

        async def limited(index: int) -> list[Instance]:
            async with slots:
                self.job.raise_if_stopping()
                part = await self.chunk(f"samples/{index:05d}.jsonl", chunks[index])
                self._report(part, len(tasks))
                return part

        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(limited(index)) for index in range(len(chunks))]
        return [instance for part in parts for instance in part.result()]

    async def chunk(self, name: str, tasks: Sequence[RankingTask]) -> list[Instance]:
        """Return a chunk's instances, from the work area where they are there."""
        data = await asyncio.to_thread(self.job.work.get, name)
        if data is not None:
            return [Instance.model_validate_json(line) for line in data.splitlines()]
        await self.ready()
        part = list(await asyncio.gather(*(self.one(task) for task in tasks)))
        await asyncio.to_thread(self.job.work.put, name, b"".join(to_line(instance) for instance in part))
        return part

    async def one(self, task: RankingTask) -> Instance:
        """Sample one task's responses and count those that solve it; a prompt the server refuses is never solved."""
        try:
            answers = await asyncio.gather(*(self.ask(task, response) for response in range(self.samples)))
        except RequestRefused as refusal:
            self.job.log.warning("prompt refused", task=task.task_id, error=refusal.message)
            answers = []
        solved = sum(hit_rank(answer.ranking, self.truth[task.task_id]) == 1 for answer in answers)
        return Instance(
            task_id=task.task_id,
            samples=self.samples,
            solved=solved,
            well_formed=sum(answer.format_error is None for answer in answers),
            difficulty=classify(solved, self.samples),
        )

    def _report(self, part: Sequence[Instance], total: int) -> None:
        self.finished.extend(part)
        share = sum(i.solved for i in self.finished) / sum(i.samples for i in self.finished)
        self.job.progress(len(self.finished), total, "tasks", hitAt1=round(share, 4))
