"""What is measured: the test tasks that the settings ask for, with their ground truth, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from star_contracts.data import Item, RankingTask, TaskType
from star_contracts.errors import Reason
from star_contracts.settings import EvaluationSettings
from star_jobs.datasets.snapshot import ITEMS, Dataset, drawn
from star_jobs.errors import TerminalFailure
from star_jobs.storage import read_jsonl

SOURCE = "source"
"""Attribute of an item that names its platform, in datasets that have it (AgentRecBench: amazon, goodreads, yelp)."""


@dataclass(frozen=True)
class Suite:
    """Test tasks and their answers."""

    tasks: tuple[RankingTask, ...]
    """Grouped by type, in the order of the settings; within a type in the dataset's order."""
    truth: dict[str, str]
    """Task id -> item id."""
    platforms: Mapping[str, str] = field(default_factory=dict)
    """Task id -> platform, of the tasks whose answer names one."""

    def platform(self, task: RankingTask) -> str | None:
        """Return a task's platform: that of its candidates, which are all of one."""
        return self.platforms.get(task.task_id)


def choose_suite(dataset: Dataset, settings: EvaluationSettings) -> Suite:
    """Choose the tasks; fewer than the dataset has are drawn with the settings' seed.

    Raises TerminalFailure(InvalidDataset): a type that the dataset does not have, a task without a usable answer.
    """
    by_type = dataset.by_type("test")
    _check_types(settings.types, by_type)
    chosen_types = dict.fromkeys(settings.types)
    tasks = tuple(task for kind in chosen_types for task in drawn(by_type[kind], settings.samples, settings.seed))
    truth = dataset.ground_truth("test")
    for task in tasks:
        if truth.get(task.task_id) not in task.candidates:
            raise TerminalFailure(
                Reason.INVALID_DATASET,
                f"test task {task.task_id!r} has no ground truth among its candidates; prepare the dataset again",
            )
    chosen = {task.task_id: truth[task.task_id] for task in tasks}
    return Suite(tasks=tasks, truth=chosen, platforms=_platforms(dataset, chosen))


def _check_types(wanted: Sequence[TaskType], by_type: dict[TaskType, list[RankingTask]]) -> None:
    missing = [kind for kind in wanted if kind not in by_type]
    if missing:
        exists = ", ".join(sorted(by_type)) or "none"
        raise TerminalFailure(
            Reason.INVALID_DATASET,
            f"settings.types asks for {', '.join(missing)}, and the dataset has test tasks of these types: {exists}; "
            "ask for those, or add the others to the RecDataset's tasks.types",
        )


def _platforms(dataset: Dataset, truth: Mapping[str, str]) -> dict[str, str]:
    """Read the answers' platforms out of the catalogue, which may be too large to be held for this alone."""
    answers = set(truth.values())
    sources = {
        item.item_id: item.attributes[SOURCE]
        for item in read_jsonl(dataset.folder / ITEMS, Item)
        if item.item_id in answers and SOURCE in item.attributes
    }
    return {task: sources[item] for task, item in truth.items() if item in sources}
