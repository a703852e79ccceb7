"""From trajectories to training rows."""

import pytest

from star_contracts.errors import Reason
from star_contracts.settings import Variant
from star_jobs.errors import TerminalFailure
from star_jobs.sft.data import Limits, build
from star_jobs.trajectory.prompt import shown, student_messages
from tests.support import world
from tests.support.training import train_tasks, trajectory

TASKS = {task.task_id: shown(task, None) for task in train_tasks()}
ITEMS = {item.item_id: item for item in world.ITEMS}
WIDE = Limits(max_length=10_000, count=len)


def test_tool_answers_are_shown_but_not_learnt() -> None:
    task = next(iter(TASKS.values()))
    (row,) = build([trajectory(task)], TASKS, ITEMS, Variant.FULL, WIDE).rows
    messages = row["messages"]
    assert messages[:2] == student_messages(task, ITEMS)
    answer = messages[2:]
    assert {message["role"] for message in answer} == {"assistant"}
    masked = [message["content"] for message in answer if not message["loss"]]
    assert masked == [" <tool_response>quiet films</tool_response>\n"]
    text = "".join(message["content"] for message in answer)
    assert text.startswith('<plan><JSON>["user_profile"]</JSON></plan>')
    assert text.endswith("</recommend>")


def test_variants() -> None:
    run = trajectory(TASKS["classic-0"])
    without = build([run], TASKS, ITEMS, Variant.WITHOUT_TOOLS, WIDE).rows[0]["messages"]
    assert [m["loss"] for m in without[2:]] == [True]
    assert "tool_call" not in without[0]["content"] + without[2]["content"]
    plan = build([run], TASKS, ITEMS, Variant.PLANNER_ONLY, WIDE).rows[0]["messages"]
    assert plan[2]["content"] == '<plan><JSON>["user_profile"]</JSON></plan>'


def test_what_a_template_puts_before_an_answer_is_not_learnt() -> None:
    limits = Limits(max_length=10_000, count=len, answer_prefix="<think>\n\n</think>\n\n")
    row = build([trajectory(TASKS["classic-0"])], TASKS, ITEMS, Variant.FULL, limits).rows[0]
    assert row["messages"][2] == {"role": "assistant", "content": "<think>\n\n</think>\n\n", "loss": False}


def test_long_and_dropped_trajectories_are_left_out_and_counted() -> None:
    runs = [trajectory(task, thinking="It fits." + "!" * (1000 * (n % 2))) for n, task in enumerate(TASKS.values())]
    runs.append(trajectory(TASKS["classic-0"], kept=False))
    made = build(runs, TASKS, ITEMS, Variant.FULL, Limits(max_length=1200, count=len))
    assert (len(made.rows), made.too_long) == (3, 3)
    assert made.longest <= 1200


def test_no_more_samples_than_asked_for_the_first_ones() -> None:
    runs = [trajectory(task) for task in TASKS.values()]
    all_rows = build(runs, TASKS, ITEMS, Variant.FULL, WIDE).rows
    some = build(runs, TASKS, ITEMS, Variant.FULL, Limits(max_length=10_000, count=len, samples=4)).rows
    assert len(all_rows) > 4
    assert some == all_rows[:4]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("runs", "variant", "said"),
    [
        ([], Variant.FULL, "no kept trajectory"),
        ([trajectory(TASKS["classic-0"], kept=False)], Variant.FULL, "no kept trajectory"),
        ([trajectory(TASKS["classic-0"], thinking="x" * 5000)], Variant.FULL, "maxLength"),
        (
            [trajectory(TASKS["classic-0"]).model_copy(update={"steps": trajectory(TASKS["classic-0"]).steps[1:]})],
            Variant.PLANNER_ONLY,
            "PlannerOnly",
        ),
    ],
)
def test_nothing_to_train_on(runs: list, variant: Variant, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(TerminalFailure, match=said) as raised:
        build(runs, TASKS, ITEMS, variant, Limits(max_length=3000, count=len))
    assert raised.value.reason is Reason.NOTHING_TO_TRAIN_ON


@pytest.mark.bad_input
def test_trajectories_of_another_dataset() -> None:
    stranger = trajectory(TASKS["classic-0"].model_copy(update={"task_id": "elsewhere"}))
    with pytest.raises(TerminalFailure, match="elsewhere") as raised:
        build([stranger], TASKS, ITEMS, Variant.FULL, WIDE)
    assert raised.value.reason is Reason.INVALID_DATASET
