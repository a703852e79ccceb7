"""From trajectories to ms-swift's training rows (paper 3.4.1, Table 3). Pure.

A row is a chat: the student's prompt, then the answer as consecutive assistant messages, one a segment. ms-swift joins
them into one turn and takes each one's `loss` switch, so tool answers are read but never learnt (ms-swift
documentation, "Custom dataset": the `loss` field).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from star_contracts.data import Item, Trajectory
from star_contracts.errors import Reason
from star_contracts.settings import Variant
from star_jobs.errors import TerminalFailure
from star_jobs.models.chat_template import END_OF_TURN, chatml
from star_jobs.models.tokens import TokenCounter
from star_jobs.trajectory.format import Segment, VariantUnavailable, serialize
from star_jobs.trajectory.prompt import ShownTask, student_messages

Row = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a sequence may be."""

    max_length: int
    """Tokens of prompt and answer together."""
    count: TokenCounter
    answer_prefix: str = ""
    """What the model's template puts before an answer: shown, not learnt."""
    samples: int | None = None
    """Rows at most; all by default."""


@dataclass
class TrainingSet:
    """The rows, and what was left out and why."""

    rows: list[Row] = field(default_factory=list)
    too_long: int = 0
    other_variant: int = 0
    """Runs that lack a phase of the variant."""
    longest: int = 0
    """Tokens of the longest row kept."""


def build(
    trajectories: Iterable[Trajectory],
    tasks: Mapping[str, ShownTask],
    items: Mapping[str, Item],
    variant: Variant,
    limits: Limits,
) -> TrainingSet:
    """Return the training rows of the kept trajectories.

    Raises TerminalFailure: InvalidDataset when a trajectory is about a task the dataset does not have,
    NothingToTrainOn when no row is left.
    """
    made = TrainingSet()
    for trajectory in trajectories:
        if len(made.rows) == limits.samples:
            break
        if trajectory.kept:
            _add(made, trajectory, _task_of(trajectory, tasks), items, variant, limits)
    if not made.rows:
        raise TerminalFailure(Reason.NOTHING_TO_TRAIN_ON, _why_nothing(made, variant, limits))
    return made


def to_row(messages: list[Any], segments: Iterable[Segment], answer_prefix: str) -> Row:
    """Return one training row."""
    answer = [{"role": "assistant", "content": answer_prefix, "loss": False}] if answer_prefix else []
    answer += [{"role": "assistant", "content": s.text, "loss": s.trainable} for s in segments]
    return {"messages": [*messages, *answer]}


def _add(
    made: TrainingSet,
    trajectory: Trajectory,
    task: ShownTask,
    items: Mapping[str, Item],
    variant: Variant,
    limits: Limits,
) -> None:
    try:
        segments = serialize(trajectory, variant)
    except VariantUnavailable:
        made.other_variant += 1
        return
    messages = student_messages(task, items, variant)
    pieces = [chatml(messages), limits.answer_prefix, *(s.text for s in segments), f"{END_OF_TURN}\n"]
    length = sum(limits.count(piece) for piece in pieces)
    if length > limits.max_length:
        made.too_long += 1
        return
    made.longest = max(made.longest, length)
    made.rows.append(to_row([dict(m) for m in messages], segments, limits.answer_prefix))


def _task_of(trajectory: Trajectory, tasks: Mapping[str, ShownTask]) -> ShownTask:
    task = tasks.get(trajectory.task_id)
    if task is None:
        raise TerminalFailure(
            Reason.INVALID_DATASET,
            f"trajectory of task {trajectory.task_id}: the dataset has no such training task; "
            "use the dataset that the trajectories were made on",
        )
    return task


def _why_nothing(made: TrainingSet, variant: Variant, limits: Limits) -> str:
    if made.too_long:
        return (
            f"all {made.too_long} trajectories are longer than hyperparameters.maxLength ({limits.max_length} tokens): "
            "raise it"
        )
    if made.other_variant:
        return (
            f"none of the {made.other_variant} trajectories has the phases of variant {variant.value}: "
            "run a teacher with those agents, or choose another variant"
        )
    return "the trajectories artifact has no kept trajectory: raise the TeacherRun's tasks or passes"
