"""The teacher's work: tasks times passes, in an order that every shard and every retry agrees on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.data import RankingTask
from star_contracts.settings import EvaluationSettings, TaskSplit
from star_jobs.datasets.snapshot import Dataset, drawn, split_of
from star_jobs.teacher.records import part_name


@dataclass(frozen=True)
class WorkItem:
    """One run of MARS to make."""

    task: RankingTask
    pass_index: int
    seed: int

    @property
    def name(self) -> str:
        """The object that its record is kept in."""
        return part_name(self.task, self.pass_index)


def chosen_tasks(dataset: Dataset, split: TaskSplit, limit: int | None) -> list[RankingTask]:
    """Return the tasks to work on, `limit` at most.

    Training tasks are taken from the beginning of their file, which goes round the types. The test file goes type by
    type: of its tasks equally many of each type are drawn, as an Evaluation draws them with its default seed, so that
    `limit` tasks of n types are those of an Evaluation with `settings.samples` = `limit` / n.
    """
    if split is TaskSplit.TRAIN or limit is None:
        return dataset.tasks(split_of(split), limit=limit)
    by_type = dataset.by_type("test")
    share, extra = divmod(limit, max(1, len(by_type)))
    seed = EvaluationSettings().seed
    return [
        task for place, of_type in enumerate(by_type.values()) for task in drawn(of_type, share + (place < extra), seed)
    ]


def work_items(tasks: Sequence[RankingTask], passes: int, seed: int | None = None) -> list[WorkItem]:
    """Return all runs: the first pass over all tasks, then the second, and so on.

    The training file goes round the task types, so any beginning of the list is balanced (paper A.1). `seed` is the
    user's (sampling.seed); each run's own seed follows from it, the task and the pass.
    """
    return [WorkItem(task, index, run_seed(task.task_id, index, seed)) for index in range(passes) for task in tasks]


def run_seed(task_id: str, pass_index: int, seed: int | None = None) -> int:
    """Return the seed of one run: 31 bits, as some servers take no more."""
    return derived_seed(f"{seed or 0}/{task_id}/{pass_index}")


def derived_seed(key: str) -> int:
    """Return 31 bits of a key's digest."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1
