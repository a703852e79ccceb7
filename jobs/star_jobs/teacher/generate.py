"""Stage `generate-trajectories`: MARS over this shard's part of tasks x passes.

Each finished run is one object under the job's work prefix, written as soon as it ends: a pod that is killed loses the
runs in flight and no other, and its successor makes only what is missing. Shards share nothing.

The calls of one run follow upon each other, so the engine is kept busy by many runs at a time: somewhat more than there
may be calls in flight, and towards the end of the list, where no new runs can fill the gaps, three times as many.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from star_contracts.errors import JobWarning, Reason
from star_contracts.job import GenerateTrajectories
from star_jobs.datasets.snapshot import Dataset, split_of
from star_jobs.errors import TerminalFailure
from star_jobs.llm.budget import TokenBudget
from star_jobs.llm.client import LLMClient
from star_jobs.lookup import SignalStore
from star_jobs.previous import fetch_previous
from star_jobs.runtime import JobContext, Outcome
from star_jobs.teacher.earlier import ANSWERS, EarlierRuns
from star_jobs.teacher.ledger import Ledger
from star_jobs.teacher.mars import run_mars
from star_jobs.teacher.pool import work_off
from star_jobs.teacher.records import FOLDER, RunRecord
from star_jobs.teacher.team import Team, open_clients
from star_jobs.teacher.worklist import WorkItem, chosen_tasks, work_items
from star_jobs.trajectory.format import PLANNER
from star_jobs.trajectory.tools import ToolBox

_ENDING = 2
"""Widths of runs that are started early at the end of the list."""
_REFUSED_AT_FIRST = 20
"""When this many runs, the first ones, were all refused by the endpoint, the rest will be too."""


def run(stage: GenerateTrajectories, job: JobContext) -> Outcome:
    """Make this shard's missing trajectories; leaves part objects, no artifact.

    Raises JobFailure: InvalidJobSpec when tools are asked for without a look-up store, Interrupted on SIGTERM, and what
    the LLM client raises.
    """
    if stage.agents.tools and stage.signals is None:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC,
            "agents.tools needs a look-up store, and there is none; name a verbalization or set agents.tools to false",
        )
    shard = _Shard.open(stage, job)
    missing = shard.missing()
    job.log.info("trajectories to make", missing=len(missing), found=shard.found)
    warnings: tuple[JobWarning, ...] = ()
    if missing:
        wanted = [(item.task.task_id, item.pass_index) for item in missing]
        earlier, warnings = EarlierRuns.open(fetch_previous(job, stage.previous, [ANSWERS]), wanted)
        asyncio.run(_generate(stage, job, shard, missing, earlier))
    return Outcome(kind=None, inputs=_inputs(stage), metrics=shard.metrics(), warnings=warnings)


def _inputs(stage: GenerateTrajectories) -> dict[str, str]:
    inputs = {"dataset": stage.dataset.digest}
    return inputs | ({"signals": stage.signals.digest} if stage.signals else {})


@dataclass
class _Shard:
    """This pod's part of the work, and what came of it."""

    job: JobContext
    dataset: Dataset
    items: list[WorkItem]
    truth: dict[str, str]
    done: set[str]
    found: int = 0
    """Trajectories that were there when this pod started."""
    made: int = 0
    kept: int = 0
    hits: int = 0
    refused: int = 0
    reused: int = 0
    """Of those made, without a call: all answers were an earlier run's."""
    calls_reused: int = 0
    regenerated: int = 0
    """Trajectories that another pod finished while this one worked on them too."""
    totals: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, stage: GenerateTrajectories, job: JobContext) -> "_Shard":
        dataset = Dataset(job.fetch(stage.dataset))
        split = split_of(stage.split)
        tasks = chosen_tasks(dataset, stage.split, stage.tasks)
        if not tasks:
            raise TerminalFailure(
                Reason.INVALID_DATASET, f"the dataset has no {split} tasks; set tasks.{split} of the RecDataset above 0"
            )
        items = job.mine(work_items(tasks, stage.passes, stage.sampling.seed))
        truth = dataset.ground_truth(split)
        if unanswered := [task.task_id for task in tasks if task.task_id not in truth]:
            raise TerminalFailure(
                Reason.INVALID_DATASET,
                f"{split} task {unanswered[0]} has no ground truth; prepare the RecDataset again",
            )
        done = set(job.work.list(FOLDER)) & {item.name for item in items}
        return cls(job, dataset, items, truth, done, found=len(done))

    def missing(self) -> list[WorkItem]:
        """Return the runs that are still to be made, in order."""
        return [item for item in self.items if item.name not in self.done]

    async def keep(self, item: WorkItem, record: RunRecord) -> None:
        """Write a finished run, unless another pod was quicker, and report progress."""
        if await asyncio.to_thread(self.job.work.get, item.name) is not None:
            self.regenerated += 1
        else:
            await asyncio.to_thread(self.job.work.put, item.name, record.model_dump_json(by_alias=True).encode())
        self.made += 1
        self.done.add(item.name)
        self._count(record)
        self.job.progress(
            len(self.done), len(self.items), "trajectories", kept=float(self.kept), hr1=round(self.hits / self.made, 4)
        )

    def _count(self, record: RunRecord) -> None:
        trajectory = record.trajectory
        self.reused += record.reused
        self.calls_reused += record.saved.calls
        if trajectory is None:
            self.refused += 1
            if self.refused == self.made >= min(_REFUSED_AT_FIRST, len(self.items)):
                raise TerminalFailure(Reason.INVALID_JOB_SPEC, f"no task could be worked on: {record.failure}")
            return
        self.kept += trajectory.kept
        self.hits += trajectory.hit_rank == 1

    def metrics(self) -> dict[str, float]:
        """Return what this pod did."""
        counts = {"made": self.made, "found": self.found, "kept": self.kept, "regenerated": self.regenerated}
        counts |= {"reused": self.reused, "callsReused": self.calls_reused}
        return {name: float(value) for name, value in counts.items()} | self.totals


async def _generate(
    stage: GenerateTrajectories, job: JobContext, shard: _Shard, missing: Sequence[WorkItem], earlier: EarlierRuns
) -> None:
    started = time.monotonic()
    ledger, pods = Ledger(job.work, job.shard_index), job.spec.shard.count
    spent = await asyncio.to_thread(ledger.read) if stage.token_budget else 0
    budget = TokenBudget.share(stage.token_budget, pods, spent)
    budget.check()
    store = SignalStore.open(job.fetch(stage.signals)) if stage.signals is not None else None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ledger.following(budget))
        clients = await open_clients(stage, stack, pods, budget)
        team = _team(stage, shard.dataset, store, clients, earlier)

        async def make(item: WorkItem) -> None:
            await shard.keep(item, await run_mars(team, item, shard.truth[item.task.task_id]))

        different = list({id(client): client for client in clients.values()}.values())
        # A few runs more than calls in flight: somebody always waits for a free slot.
        width = sum(client.endpoint.concurrency for client in different) * 5 // 4 + 1
        try:
            await work_off(missing, width, make, job.stopping, ending=_ENDING * width)
        finally:
            shard.totals = _totals(different) | {"seconds": round(time.monotonic() - started, 1)}
    if shard.missing():
        job.raise_if_stopping()


def _totals(clients: Sequence[LLMClient]) -> dict[str, float]:
    """Return what this pod spent, on runs that were lost too."""
    return {
        "promptTokens": float(sum(client.usage.prompt_tokens for client in clients)),
        "completionTokens": float(sum(client.usage.completion_tokens for client in clients)),
        "calls": float(sum(client.usage.calls for client in clients)),
        "retries": float(sum(client.retries for client in clients)),
        "cost": round(sum(client.cost for client in clients), 6),
    }


def _team(
    stage: GenerateTrajectories,
    dataset: Dataset,
    store: SignalStore | None,
    clients: dict[str, LLMClient],
    earlier: EarlierRuns,
) -> Team:
    return Team(
        clients=clients,
        agents=stage.agents,
        sampling=stage.sampling,
        filter=stage.filter,
        items=dataset.items,
        toolbox=ToolBox(store, dataset.items) if store is not None and stage.agents.tools else None,
        summaries=store,
        earlier=earlier,
        own_planner=PLANNER in stage.agent_llms,
    )
