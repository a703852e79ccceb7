"""From the RL set to rows, batches and steps."""

import pytest

from star_contracts.errors import Reason
from star_contracts.settings import Variant
from star_jobs.errors import TerminalFailure
from star_jobs.grpo.difficulty import Difficulty, Instance
from star_jobs.grpo.rows import Tasks, batch_size, build, divisor_at_most, steps
from star_jobs.trajectory.prompt import shown, student_messages
from tests.support import world
from tests.support.training import train_tasks

TASKS = {task.task_id: shown(task, None) for task in train_tasks()}
ITEMS = {item.item_id: item for item in world.ITEMS}
SOURCE = Tasks(TASKS, {task.task_id: task.candidates[2] for task in TASKS.values()}, ITEMS)


def instance(task_id: str, *, kept: bool = True) -> Instance:
    return Instance(task_id=task_id, samples=8, solved=4, difficulty=Difficulty.MEDIUM, kept=kept)


def test_rows_of_the_kept_instances() -> None:
    made = build([instance("classic-1"), instance("classic-2", kept=False)], SOURCE, Variant.FULL, len, 10_000)
    (row,) = made.rows
    assert list(row.messages) == student_messages(TASKS["classic-1"], ITEMS)
    assert row.truth == TASKS["classic-1"].candidates[2]
    assert row.tool_chars == 160


def test_a_student_without_tools_is_told_of_none() -> None:
    row = build([instance("classic-1")], SOURCE, Variant.WITHOUT_TOOLS, len, 10_000).rows[0]
    assert "tool_call" not in row.messages[0]["content"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "limit", "said"), [([instance("classic-1")], 10, "maxPromptLength"), ([], 10_000, "keepUnsolved")]
)
def test_nothing_to_train_on(given: list[Instance], limit: int, said: str) -> None:
    with pytest.raises(TerminalFailure, match=said) as raised:
        build(given, SOURCE, Variant.FULL, len, limit)
    assert raised.value.reason is Reason.NOTHING_TO_TRAIN_ON


@pytest.mark.bad_input
def test_samples_of_another_dataset() -> None:
    with pytest.raises(TerminalFailure, match="elsewhere") as raised:
        build([instance("elsewhere")], SOURCE, Variant.FULL, len, 10_000)
    assert raised.value.reason is Reason.INVALID_DATASET


@pytest.mark.parametrize(
    ("wanted", "mini", "rows", "expected"),
    [(32, 4, 500, (32, 4)), (32, 4, 10, (8, 4)), (32, 4, 3, (3, 3)), (4, 8, 100, (4, 4)), (6, 4, 100, (4, 4))],
)
def test_batches_are_never_larger_than_the_set(wanted: int, mini: int, rows: int, expected: tuple[int, int]) -> None:
    assert batch_size(wanted, mini, rows) == expected


def test_steps() -> None:
    assert steps(500, 32, 1, None) == (15, 1)
    assert steps(12, 4, 2, None) == (6, 2)
    assert steps(12, 4, 1, 10) == (10, 4)
    assert steps(12, 4, 3, 2) == (2, 3)


def test_divisors() -> None:
    assert [divisor_at_most(16, n) for n in (1, 3, 4, 5, 100)] == [1, 2, 4, 4, 16]
