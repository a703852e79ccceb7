"""A finished dataset artifact, read from its local folder. The file layout is documented in docs/artifacts.md."""

import json
import random
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from star_contracts.data import GroundTruth, Item, RankingTask, TaskType
from star_contracts.errors import Reason
from star_contracts.settings import TaskSettings, TaskSplit
from star_jobs.errors import TerminalFailure
from star_jobs.storage.records import read_jsonl

if TYPE_CHECKING:
    import polars

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

ITEMS = "items.jsonl"
INTERACTIONS = "interactions.parquet"
STATS = "stats.json"
TABLES = "tables"
USER_TABLE = f"{TABLES}/user.jsonl"


def split_of(split: TaskSplit) -> Split:
    """Return a split's name in the files."""
    return "test" if split is TaskSplit.TEST else "train"


def tasks_file(split: Split) -> str:
    """Return the path of a split's tasks in the artifact."""
    return f"tasks/{split}.jsonl"


def truth_file(split: Split) -> str:
    """Return the path of a split's ground truth in the artifact."""
    return f"truth/{split}.jsonl"


def drawn(tasks: Sequence[RankingTask], count: int | None, seed: int) -> list[RankingTask]:
    """Draw `count` of some tasks, kept in their order; all where there are no more, or no count is given."""
    if count is None or count >= len(tasks):
        return list(tasks)
    generator = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return [tasks[index] for index in sorted(generator.sample(range(len(tasks)), count))]


class Dataset:
    """A dataset snapshot. Files are read when first asked for and kept."""

    def __init__(self, folder: Path) -> None:
        """Open the folder a dataset artifact was fetched into.

        Raises TerminalFailure(ArtifactCorrupted) when it is not one.
        """
        self.folder = folder
        if not (folder / ITEMS).is_file():
            raise TerminalFailure(
                Reason.ARTIFACT_CORRUPTED, f"{folder} holds no {ITEMS}: the reference does not point to a dataset"
            )

    @cached_property
    def items(self) -> Mapping[str, Item]:
        """The catalogue by item id."""
        return {item.item_id: item for item in read_jsonl(self.folder / ITEMS, Item)}

    def tasks(
        self, split: Split, types: Collection[TaskType] | None = None, limit: int | None = None
    ) -> list[RankingTask]:
        """Return a split's tasks in file order, of the given types, `limit` at most.

        The training file goes round the task types, so a limited list is balanced as well. Raises
        TerminalFailure(InvalidDataset) when a type is asked for that the split does not have.
        """
        tasks = self._tasks[split]
        if types is not None:
            missing = sorted(set(types) - {task.type for task in tasks})
            if missing:
                raise TerminalFailure(
                    Reason.INVALID_DATASET,
                    f"the dataset has no {split} tasks of type {', '.join(missing)}: "
                    "add them to the RecDataset's tasks.types, or ask for other types",
                )
            tasks = [task for task in tasks if task.type in types]
        return tasks[:limit]

    def by_type(self, split: Split) -> dict[TaskType, list[RankingTask]]:
        """Return a split's tasks by type, types and tasks in file order."""
        tasks: dict[TaskType, list[RankingTask]] = {}
        for task in self._tasks[split]:
            tasks.setdefault(task.type, []).append(task)
        return tasks

    def ground_truth(self, split: Split) -> dict[str, str]:
        """Return task id -> item id."""
        return {truth.task_id: truth.item_id for truth in read_jsonl(self.folder / truth_file(split), GroundTruth)}

    @cached_property
    def history_length(self) -> int:
        """Most recent interactions in a task's history, and so in that of a user who is served.

        Snapshots that were prepared before this was recorded have the default.
        """
        stats = json.loads((self.folder / STATS).read_bytes())
        return int(stats.get("historyLength", TaskSettings().history_length))

    def profiles(self) -> dict[str, dict[str, str]]:
        """Return user id -> what the user table tells of the user, as it stands in a task's `profile`."""
        with (self.folder / USER_TABLE).open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        return {row["user_id"]: {k: v for k, v in row.items() if k not in ("user_id", "source")} for row in records}

    def interactions(self) -> "polars.DataFrame":
        """Return the training-safe interactions: user_id, item_id (str), timestamp (int, s), rating (float or null).

        What a test task asks for is not in it, nor what came after in that user's life.
        """
        return self.scan_interactions().collect()

    def scan_interactions(self) -> "polars.LazyFrame":
        """Return the same without reading it yet."""
        import polars  # here: the trainers' images read tasks and items only

        return polars.scan_parquet(self.folder / INTERACTIONS)

    @cached_property
    def _tasks(self) -> dict[str, list[RankingTask]]:
        return {split: list(read_jsonl(self.folder / tasks_file(split), RankingTask)) for split in SPLITS}
