"""A dataset that has grown gives mostly the tasks it gave before."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_contracts.data import TaskType
from star_contracts.settings import LeakageRules, Negatives, TaskSettings
from star_jobs.datasets.draws import draw_some, lowest, numbers
from star_jobs.datasets.ids import Ids
from star_jobs.datasets.plan import Plan, make_plan, renewed_at
from tests.unit.star_jobs.datasets.test_tasks import histories_of, source_of

quick = settings(max_examples=60, deadline=None)
ids = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=40, unique=True)


@quick
@given(ids, ids, st.integers(1, 20), st.text(max_size=8))
def test_whoever_is_drawn_stays_drawn_but_for_as_many_as_come_before_them(
    old: list[str], more: list[str], count: int, draw: str
) -> None:
    grown = sorted({*old, *more})
    before, after = (
        [group[at] for at in lowest(numbers(Ids.of(group)), draw, count)] for group in (sorted(old), grown)
    )
    assert len(before) == min(count, len(old))
    assert [one for one in after if one in old] == before[: sum(one in old for one in after)]


def test_each_draw_has_an_order_of_its_own_and_favours_nobody() -> None:
    everybody = numbers(Ids.of(f"u{n}" for n in range(500)))
    firsts = Counter(int(lowest(everybody, f"{seed}/train/classic", 1)[0]) for seed in range(2000))
    assert len(firsts) > 450
    assert max(firsts.values()) <= 16
    halves = [set(lowest(everybody, name, 250).tolist()) for name in ("0/train/classic", "0/test/classic")]
    assert 90 <= len(halves[0] & halves[1]) <= 160


@quick
@given(
    st.integers(33, 64),
    st.integers(33, 64),
    st.sets(st.integers(0, 63), max_size=12),
    st.integers(1, 12),
    st.integers(),
)
def test_more_arrivals_change_no_draw_but_their_own(
    one: int, other: int, barred: set[int], count: int, seed: int
) -> None:
    few, many = sorted((one, other))
    before = list(draw_some(np.arange(few, dtype=np.int32), barred, count, random.Random(seed)))
    after = list(draw_some(np.arange(many, dtype=np.int32), barred, count, random.Random(seed)))
    assert len(set(after)) == len(after) == count
    kept = [code for code in after if code < few]
    assert kept == before[: len(kept)]
    assert not set(after) & barred


def test_draws_are_even_or_as_often_as_a_code_arrived() -> None:
    arrived = np.array([*range(40), *([7] * 40)], np.int32)
    drawn = Counter(code for seed in range(4000) for code in draw_some(arrived, {3}, 1, random.Random(seed)))
    assert drawn.pop(3, 0) == 0
    assert 0.45 < drawn.pop(7) / 4000 < 0.60
    assert all(25 <= count <= 90 for count in drawn.values()), drawn


@pytest.mark.parametrize("left", [0, 1, 3])
def test_what_is_left_of_a_pool_is_found_however_little_it_is(left: int) -> None:
    arrived = np.arange(5000, dtype=np.int32)
    found = list(draw_some(arrived, range(5000 - left), 3, random.Random(1)))
    assert sorted(found) == list(range(5000 - left, 5000))


@pytest.mark.parametrize(("negatives", "least"), [(Negatives.UNIFORM, 0.7), (Negatives.POPULARITY, 0.55)])
def test_a_week_later_most_tasks_are_the_same_to_the_last_candidate(negatives: Negatives, least: float) -> None:
    """400 users; then a tenth of them goes on, and twenty come: the end of a source, as it grows in life.

    Few test tasks, as each hides one of these few items from all others; by popularity each new interaction is drawn.
    """
    rng = random.Random(4)
    rows = [(f"u{user}", f"i{rng.randrange(50)}", rng.randrange(1000)) for user in range(400) for _ in range(12)]
    rows.sort(key=lambda row: row[2])
    new = [(f"u{user}", f"i{rng.randrange(51)}", 2000 + n) for n, user in enumerate([*range(40), *range(500, 520)] * 6)]
    wanted = TaskSettings(
        types=(TaskType.CLASSIC, TaskType.SHORT_TERM), train=200, test=2, candidates=5, negatives=negatives
    )
    plans = [
        make_plan(source_of([], interactions=histories_of(some)), wanted, LeakageRules()) for some in (rows, rows + new)
    ]
    before, after = (dict(tasks(plan)) for plan in plans)
    same = sum(before.get(name) == task for name, task in after.items()) / len(after)
    assert same >= least, "a tenth of the users has another last item, and so another task"
    assert any(task != before[name] for name, task in after.items() if name in before), "and those are other tasks"


@quick
@given(st.integers(1, 10**10), st.floats(0.01, 10))
def test_test_tasks_are_drawn_at_the_powers_of_the_renewal(count: int, renewal: float) -> None:
    drawn = renewed_at(count, renewal)
    assert 1 <= drawn <= count < drawn * (1 + renewal) + 1, "they are never older than the renewal says"
    assert renewed_at(drawn, renewal) == renewed_at(max(drawn, count - 1), renewal) == drawn, "and stay in between"


def test_without_a_renewal_they_are_drawn_of_all_there_is() -> None:
    for renewal in (0, 1e-320, 1e-17, 1e-9):
        assert [renewed_at(count, renewal) for count in (1, 7, 100)] == [1, 7, 100]


@quick
@given(st.integers(0, 2**32), st.sampled_from(Negatives))
def test_between_two_drawings_the_only_other_tasks_are_those_of_users_who_went_on(
    seed: int, negatives: Negatives
) -> None:
    rng = random.Random(seed)
    rows = [(f"u{rng.randrange(40)}", f"i{rng.randrange(40)}", rng.randrange(1000)) for _ in range(600)]
    people = [f"u{user}" for user in [*rng.sample(range(40), 5), 50, 51]]
    new = [(rng.choice(people), f"i{rng.randrange(60)}", 2000 + n) for n in range(30)]
    wanted = TaskSettings(
        types=(TaskType.CLASSIC, TaskType.SHORT_TERM),
        train=60,
        test=3,
        test_renewal=0.25,
        candidates=4,
        negatives=negatives,
    )
    then = renewed_at(600, 0.25)
    assert then == renewed_at(630, 0.25), "no drawing lies in between"
    plans = [
        make_plan(source_of([], interactions=histories_of(some)), wanted, LeakageRules()) for some in (rows, rows + new)
    ]
    first, second = (dict(whole_tasks(plan)) for plan in plans)
    others = [name for name, (user, task) in second.items() if user not in people and first.get(name) != (user, task)]
    assert not set(others) & set(first), "a task that stays is as it was"
    assert len(others) <= len(set(first) - set(second)), "another one comes only where one of those has gone"
    answers = [{plan.full.catalogue[draft.moment.item] for draft in plan.test} for plan in plans]
    assert answers[0] == answers[1], "what is hidden from training is the same, so nothing is laid bare by waiting"
    assert {draft.task_id for draft in plans[0].test} == {draft.task_id for draft in plans[1].test}


def whole_tasks(plan: Plan) -> list[tuple[str, tuple[str, tuple[object, ...]]]]:
    """Each task's id, user, and what it shows and asks."""
    found: list[tuple[str, tuple[str, tuple[object, ...]]]] = []
    for draft in (*plan.test, *plan.train):
        start = draft.histories.span(draft.moment.user)[0]
        life = draft.histories.items[start : draft.moment.cut].tolist()
        shown = [draft.histories.catalogue[item] for item in life]
        asked = (draft.candidates, draft.seed, draft.histories.catalogue[draft.moment.item], tuple(shown))
        found.append((draft.task_id, (draft.histories.users[draft.moment.user], asked)))
    return found


def tasks(plan: Plan) -> list[tuple[str, tuple[object, ...]]]:
    """Each task's id, and what it asks."""
    return [
        (one.task_id, (one.candidates, one.seed, plan.full.catalogue[one.moment.item]))
        for one in (*plan.test, *plan.train)
    ]
