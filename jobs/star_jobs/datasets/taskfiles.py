"""The test tasks that AgentRecBench brings along: one file a task, one for its ground truth."""

import re
from pathlib import Path
from typing import Any

from star_contracts.data import TaskType
from star_jobs.datasets.faults import Fault, FileReport, Malformed, Tally
from star_jobs.datasets.ids import Ids
from star_jobs.datasets.limits import MAX_CANDIDATES, MAX_TASK_BYTES
from star_jobs.datasets.lines import json_object
from star_jobs.datasets.platforms import required
from star_jobs.datasets.signatures import HEAD_BYTES, described
from star_jobs.datasets.source import SourceTask
from star_jobs.datasets.values import identifier, shown

TASKS = "task files"
"""What stats.json calls them all together."""
_TYPE_FOLDERS = {
    **{type_.value: type_ for type_ in TaskType},
    "cold_start_user": TaskType.USER_COLD_START,
    "cold_start_item": TaskType.ITEM_COLD_START,
    "long": TaskType.LONG_TERM,
    "short": TaskType.SHORT_TERM,
}
_NO_TYPE = re.compile(r"tasks?|example|track\d*|amazon|goodreads|yelp")
"""Folders of the AgentSociety Challenge, whose tasks are classic."""
_BOM = "\ufeff"


def read_tasks(folder: Path, catalogue: Ids, max_malformed: float, files: dict[str, FileReport]) -> list[SourceTask]:
    """Read the tasks of a source that can be used; those that cannot are counted in `files`.

    Raises TerminalFailure(InvalidDataset), naming the first bad file, when they are too many.
    """
    tally, tasks = Tally(TASKS, max_malformed, "files", spare=1), []
    paths = sorted(folder.rglob("task_*.json"), key=lambda p: (p.parent.as_posix(), _index(p), p.name))
    for path in paths:
        tally.saw(1)
        where = path.relative_to(folder)
        try:
            tasks.append(_task(path, where, catalogue))
        except Malformed as error:
            tally.bad(f"{where}: {error}", error.fault)
    if paths:
        files[TASKS] = tally.finish()
    return tasks


def _task(path: Path, where: Path, catalogue: Ids) -> SourceTask:
    """Read one task with its ground truth. Raises Malformed."""
    type_ = _type(where)
    truth_path = path.parent.parent / "groundtruth" / path.name.replace("task_", "groundtruth_", 1)
    task, answer = _object(path), _object(truth_path)
    try:
        truth = identifier(answer.get("ground truth"), "ground truth")
    except Malformed as error:
        raise Malformed(Fault.UNREADABLE_TASK, f"{truth_path.name} cannot be read: {error}") from error
    try:
        candidates, user_id = _candidates(task.get("candidate_list")), required(task, "user_id")
    except Malformed as error:
        raise Malformed(error.fault, f"the task cannot be read: {error}") from error
    unknown = [item for item in candidates if catalogue.code(item) is None]
    if unknown:
        raise Malformed(Fault.UNKNOWN_ITEM, f"candidate {shown(unknown[0])} is not in the item table")
    if len(set(candidates)) != len(candidates):
        twice = next(item for item in candidates if candidates.count(item) > 1)
        raise Malformed(Fault.DUPLICATE_CANDIDATE, f"candidate {shown(twice)} is there twice")
    if truth not in candidates:
        what = f"its ground truth is not one candidate: {shown(truth)} is not in the list"
        raise Malformed(Fault.NO_ANSWER, what)
    return SourceTask(type_, user_id, candidates, truth)


def _object(path: Path) -> dict[str, Any]:
    """Read a file that must hold one JSON object. Raises Malformed, whatever is in it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TASK_BYTES + 1)
        if len(data) > MAX_TASK_BYTES:
            raise Malformed(Fault.UNREADABLE_TASK, f"it is larger than {MAX_TASK_BYTES} bytes")
        if (what := described(data[:HEAD_BYTES])) is not None:
            raise Malformed(Fault.UNREADABLE_TASK, f"it is {what}")
        return json_object(data.decode().removeprefix(_BOM))
    except OSError as error:
        what = f"{path.name} cannot be read: {error.strerror}"
    except ValueError as error:  # Malformed, too
        what = f"{path.name} cannot be read: {error}"
    raise Malformed(Fault.UNREADABLE_TASK, what)


def _candidates(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Malformed(Fault.UNREADABLE_TASK, f"candidate_list is no list but {shown(value)}")
    if not 2 <= len(value) <= MAX_CANDIDATES:
        what = f"candidate_list has {len(value)} candidates, where 2 to {MAX_CANDIDATES} make a task"
        raise Malformed(Fault.CANDIDATE_COUNT, what)
    return tuple(identifier(item, "a candidate") for item in value)


def _type(where: Path) -> TaskType:
    """Return the type that a task's folders name. Raises Malformed for a folder that is not known."""
    folders = where.parts[:-1]
    named = [_TYPE_FOLDERS[part] for part in folders if part in _TYPE_FOLDERS]
    unknown = [part for part in folders if not _NO_TYPE.fullmatch(part.lower())]
    if named or not unknown:
        return named[0] if named else TaskType.CLASSIC
    what = f"its folder {shown(unknown[0])} is none of the task types {', '.join(TaskType)}"
    raise Malformed(Fault.UNKNOWN_TASK_TYPE, what)


def _index(path: Path) -> int:
    digits = path.stem.removeprefix("task_")
    return int(digits) if digits.isdecimal() else 0
