"""The teacher's work: training tasks times passes, in an order that every shard and every retry agrees on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from star_contracts.data import RankingTask
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


def work_items(tasks: Sequence[RankingTask], passes: int, seed: int | None = None) -> list[WorkItem]:
    """Return all runs: the first pass over all tasks, then the second, and so on.

    The dataset's order goes round the task types, so any beginning of the list is balanced (paper A.1). `seed` is the
    user's (sampling.seed); each run's own seed follows from it, the task and the pass.
    """
    return [WorkItem(task, index, run_seed(task.task_id, index, seed)) for index in range(passes) for task in tasks]


def run_seed(task_id: str, pass_index: int, seed: int | None = None) -> int:
    """Return the seed of one run: 31 bits, as some servers take no more."""
    return derived_seed(f"{seed or 0}/{task_id}/{pass_index}")


def derived_seed(key: str) -> int:
    """Return 31 bits of a key's digest."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1
