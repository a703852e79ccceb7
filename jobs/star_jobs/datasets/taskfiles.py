"""The test tasks that AgentRecBench brings along: one file a task, one for its ground truth."""

from pathlib import Path

from star_contracts.data import TaskType
from star_jobs.datasets.ids import Ids
from star_jobs.datasets.lines import json_object
from star_jobs.datasets.platforms import required
from star_jobs.datasets.source import Fault, FileReport, Malformed, SourceTask, Tally

TASKS = "task files"
"""What stats.json calls them all together."""
_TYPE_FOLDERS = {
    **{type_.value: type_ for type_ in TaskType},
    "cold_start_user": TaskType.USER_COLD_START,
    "cold_start_item": TaskType.ITEM_COLD_START,
    "long": TaskType.LONG_TERM,
    "short": TaskType.SHORT_TERM,
}


def read_tasks(folder: Path, catalogue: Ids, max_malformed: float, files: dict[str, FileReport]) -> list[SourceTask]:
    """Read the tasks of a source that can be used; those that cannot are counted in `files`.

    Raises TerminalFailure(InvalidDataset), naming the first bad file, when they are too many.
    """
    tally, tasks = Tally(TASKS, max_malformed, "files"), []
    paths = sorted(folder.rglob("task_*.json"), key=lambda p: (p.parent.as_posix(), _index(p)))
    for path in paths:
        tally.saw(1)
        shown = path.relative_to(folder)
        try:
            tasks.append(_task(path, shown, catalogue))
        except Malformed as error:
            tally.bad(f"{shown}: {error}", error.fault)
    if paths:
        files[TASKS] = tally.finish()
    return tasks


def _task(path: Path, shown: Path, catalogue: Ids) -> SourceTask:
    truth_path = path.parent.parent / "groundtruth" / path.name.replace("task_", "groundtruth_", 1)
    try:
        task, truth = json_object(path.read_text()), str(json_object(truth_path.read_text())["ground truth"])
        candidates = tuple(str(item) for item in task["candidate_list"])
        user_id = required(task, "user_id")
    except (OSError, KeyError, TypeError, ValueError) as error:
        what = f"the task or its {truth_path.name} cannot be read: {error}"
        raise Malformed(Fault.UNREADABLE_TASK, what) from error
    unknown = [item for item in candidates if catalogue.code(item) is None]
    if unknown:
        raise Malformed(Fault.UNKNOWN_ITEM, f"candidate {unknown[0]!r} is not in the item table")
    if len(set(candidates)) != len(candidates):
        twice = next(item for item in candidates if candidates.count(item) > 1)
        raise Malformed(Fault.DUPLICATE_CANDIDATE, f"candidate {twice!r} is there twice")
    if truth not in candidates:
        raise Malformed(Fault.NO_ANSWER, f"its ground truth is not one candidate: {truth!r} is not in the list")
    types = [_TYPE_FOLDERS[part] for part in shown.parts if part in _TYPE_FOLDERS]
    return SourceTask(types[0] if types else TaskType.CLASSIC, user_id, candidates, truth)


def _index(path: Path) -> int:
    digits = path.stem.removeprefix("task_")
    return int(digits) if digits.isdecimal() else 0
