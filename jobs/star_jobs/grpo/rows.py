"""From the RL set to training rows: one prompt a task, with what the reward and the tools need to know. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from star_contracts.data import Item
from star_contracts.errors import Reason
from star_contracts.settings import Variant
from star_jobs.errors import TerminalFailure
from star_jobs.grpo.difficulty import Instance
from star_jobs.llm.messages import ChatMessage
from star_jobs.models.chat_template import chatml
from star_jobs.models.tokens import TokenCounter
from star_jobs.trajectory.prompt import ShownTask, student_messages, style_of


@dataclass(frozen=True)
class PromptRow:
    """One instance of the RL set."""

    task_id: str
    messages: tuple[ChatMessage, ...]
    truth: str
    """Item id of the ground truth."""
    tool_chars: int
    """Characters of one tool answer at most."""


@dataclass
class PromptSet:
    """The rows, and what was left out."""

    rows: list[PromptRow] = field(default_factory=list)
    too_long: int = 0


@dataclass(frozen=True)
class Tasks:
    """What a dataset says about the RL set's tasks."""

    tasks: Mapping[str, ShownTask]
    truth: Mapping[str, str]
    items: Mapping[str, Item]


def build(
    instances: Iterable[Instance], source: Tasks, variant: Variant, count: TokenCounter, max_prompt_length: int
) -> PromptSet:
    """Return the rows of the kept instances whose prompt fits.

    Raises TerminalFailure: InvalidDataset for a task the dataset does not have, NothingToTrainOn when none is left.
    """
    made = PromptSet()
    for instance in instances:
        if not instance.kept:
            continue
        row = to_row(instance.task_id, source, variant)
        if count(chatml(row.messages)) > max_prompt_length:
            made.too_long += 1
        else:
            made.rows.append(row)
    if not made.rows:
        raise TerminalFailure(Reason.NOTHING_TO_TRAIN_ON, _why_nothing(made, max_prompt_length))
    return made


def to_row(task_id: str, source: Tasks, variant: Variant) -> PromptRow:
    """Return the row of one task. Raises TerminalFailure(InvalidDataset) when the dataset does not have it."""
    task, truth = source.tasks.get(task_id), source.truth.get(task_id)
    if task is None or truth is None:
        raise TerminalFailure(
            Reason.INVALID_DATASET,
            f"sample {task_id}: the dataset has no such training task; use the dataset the samples were taken from",
        )
    return PromptRow(
        task_id=task_id,
        messages=tuple(student_messages(task, source.items, variant)),
        truth=truth,
        tool_chars=style_of(len(task.candidates)).tool_chars,
    )


def batch_size(wanted: int, mini_batch: int, rows: int) -> tuple[int, int]:
    """Return (instances a step, instances an update) that the rows can fill.

    An engine drops a last batch that is not full, so a set smaller than one batch would train nothing.
    """
    mini = min(mini_batch, wanted, rows)
    return min(wanted, rows) // mini * mini, mini


def steps(rows: int, batch: int, epochs: int, max_steps: int | None) -> tuple[int, int]:
    """Return (steps in all, passes over the rows that they need)."""
    per_epoch = max(1, rows // batch)
    total = per_epoch * epochs if max_steps is None else max_steps
    return total, max(epochs, -(-total // per_epoch))


def divisor_at_most(value: int, limit: int) -> int:
    """Return the largest divisor of `value` that is at most `limit`."""
    return next(n for n in range(min(value, max(1, limit)), 0, -1) if value % n == 0)


def as_messages(row: PromptRow) -> list[dict[str, Any]]:
    """Return a row's chat as plain dictionaries."""
    return [dict(message) for message in row.messages]


def _why_nothing(made: PromptSet, limit: int) -> str:
    if made.too_long:
        return (
            f"all {made.too_long} prompts of the RL set are longer than hyperparameters.maxPromptLength "
            f"({limit} tokens): raise it"
        )
    return (
        "the RL set is empty: the starting checkpoint solves its tasks always or never; "
        "set sampling.keepUnsolved, or raise sampling.tasks or sampling.samples"
    )
