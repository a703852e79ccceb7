"""Tasks and leak rules, for any interactions: each rule is a property of every task."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from star_contracts.data import Item, TaskType
from star_contracts.errors import Reason
from star_contracts.settings import LeakageRules, Negatives, TaskSettings
from star_jobs.datasets import tasks as tasks_module
from star_jobs.datasets.columns import Columns
from star_jobs.datasets.faults import Tally
from star_jobs.datasets.histories import Histories
from star_jobs.datasets.ids import Ids, Numbering
from star_jobs.datasets.leakage import safe_mask
from star_jobs.datasets.plan import Draft, Plan, make_plan, renewed_at
from star_jobs.datasets.source import SourceTables, SourceTask
from star_jobs.datasets.tables import interactions_frame
from star_jobs.datasets.tasks import MomentFinder, Thresholds, shown_positions, shuffled, task_seed, window
from star_jobs.errors import TerminalFailure

ITEMS = 60
Life = list[tuple[int, int]]


@dataclass(frozen=True)
class World:
    """A source and what was asked of it."""

    source: SourceTables
    tasks: TaskSettings
    rules: LeakageRules

    def plan(self) -> Plan:
        return make_plan(self.source, self.tasks, self.rules)


def source_of(lives: list[Life], **changes: object) -> SourceTables:
    """Interactions from each user's list of (item, time stamp)."""
    rows = [(f"u{user}", f"i{item}", time) for user, life in enumerate(lives) for item, time in life]
    items = {item: Item(item_id=item, title=f"Item {item}") for item in sorted(f"i{n}" for n in range(ITEMS))}
    values: dict[str, object] = {"platform": "test", "users": {}, "items": items, "interactions": histories_of(rows)}
    return SourceTables(**(values | changes))  # type: ignore[arg-type]


def histories_of(rows: Sequence[tuple[str, str, int]], others: Sequence[str] = ()) -> Histories:
    """Histories of (user, item, time) in source order; `others` are users without interactions."""
    catalogue, people, columns = Ids.of(f"i{n}" for n in range(ITEMS)), Numbering(), Columns()
    codes = {item: code for code, item in enumerate(catalogue)}
    people.add(others)
    columns.append(
        np.arange(len(rows)),
        people.add([user for user, _, _ in rows]),
        np.array([codes[item] for _, item, _ in rows], np.int32),
        np.array([time for _, _, time in rows], np.int64),
        np.full(len(rows), 3.0),
    )
    return columns.histories(people, catalogue, Tally("lives", 1.0))


def frame(histories: Histories) -> pl.DataFrame:
    """All interactions, in source order."""
    return interactions_frame(histories, np.arange(len(histories.items))).sort("row")


# Few time stamps and repeated items on purpose: ties and second visits are where leaks hide.
lives = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 20)), min_size=3, max_size=18)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    types = draw(st.lists(st.sampled_from(list(TaskType)), min_size=1, max_size=5, unique=True))
    wanted = TaskSettings(
        types=tuple(types),
        candidates=draw(st.integers(2, 12)),
        negatives=draw(st.sampled_from(Negatives)),
        train=draw(st.integers(1, 20)),
        test=draw(st.integers(1, 2)),
        test_renewal=draw(st.sampled_from([0.0, 0.5])),
        history_length=draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 3)),
    )
    rules = LeakageRules(
        drop_ground_truth_reviews=draw(st.booleans()),
        truncate_history=draw(st.booleans()),
        exclude_test_users=draw(st.booleans()),
    )
    return World(source_of(draw(st.lists(lives, min_size=14, max_size=22))), wanted, rules)


def plan_or_reject(world: World) -> Plan:
    try:
        return world.plan()
    except TerminalFailure:  # a world too small for the tasks drawn for it
        assume(False)
        raise


def history(draft: Draft, world: World) -> list[int]:
    """The item codes a task shows."""
    length = window(draft.moment.type, world.tasks.history_length)
    positions = shown_positions(draft.histories, draft.moment, world.rules, length)
    return [int(code) for code in draft.histories.items[positions]]


def truth(draft: Draft) -> str:
    return draft.histories.catalogue[draft.moment.item]


relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@relaxed
@given(worlds())
def test_candidates_are_one_answer_and_items_the_user_never_touched(world: World) -> None:
    plan = plan_or_reject(world)
    taken = frame(world.source.interactions).group_by("user_id").agg("item_id")
    touched = dict(zip(taken["user_id"], map(set, taken["item_id"]), strict=True))
    anybodys = set().union(*touched.values())
    for draft in (*plan.test, *plan.train):
        negatives = set(draft.candidates) - {truth(draft)}
        assert len(draft.candidates) == len(set(draft.candidates)) == world.tasks.candidates
        assert len(negatives) == world.tasks.candidates - 1
        assert not negatives & touched[draft.histories.users[draft.moment.user]]
        assert negatives <= anybodys, "popularity alone would tell the others from the answer"


@relaxed
@given(worlds())
def test_the_order_of_candidates_follows_from_ids_and_recorded_seed_alone(world: World) -> None:
    plan = plan_or_reject(world)
    for draft in (*plan.test, *plan.train):
        assert draft.candidates == shuffled(set(draft.candidates), draft.seed)


@relaxed
@given(worlds())
def test_rule_truncate_history(world: World) -> None:
    plan = plan_or_reject(world)
    for draft in (*plan.test, *plan.train):
        start, end = draft.histories.span(draft.moment.user)
        life = draft.histories.items[start:end].tolist()
        before = life[: life.index(draft.moment.item)]
        length = window(draft.moment.type, world.tasks.history_length)
        if world.rules.truncate_history:
            assert history(draft, world) == before[-length:]
        assert len(history(draft, world)) <= length


@relaxed
@given(worlds())
def test_rule_drop_ground_truth_reviews(world: World) -> None:
    plan = plan_or_reject(world)
    if world.rules.drop_ground_truth_reviews:
        for draft in (*plan.test, *plan.train):
            assert draft.moment.item not in history(draft, world)


@relaxed
@given(worlds())
def test_rule_exclude_test_users(world: World) -> None:
    plan = plan_or_reject(world)
    if not world.rules.exclude_test_users:
        return
    users, answers = {draft.moment.user for draft in plan.test}, {draft.moment.item for draft in plan.test}
    names = {truth(draft) for draft in plan.test}
    for draft in plan.train:
        assert draft.moment.user not in users
        assert not names & set(draft.candidates)
        assert not answers & {draft.moment.item, *history(draft, world)}


@relaxed
@given(worlds())
def test_safe_interactions_give_no_answer_away(world: World) -> None:
    plan = plan_or_reject(world)
    mask = safe_mask(plan.full, plan.answers(), world.rules)
    safe = interactions_frame(plan.full, mask.nonzero()[0])
    pairs = set(zip(safe["user_id"], safe["item_id"], strict=True))
    source = frame(world.source.interactions).sort("timestamp", "row")
    for draft in (*plan.test, *plan.train):
        user, answer = draft.histories.users[draft.moment.user], truth(draft)
        if world.rules.drop_ground_truth_reviews or world.rules.truncate_history:
            assert (user, answer) not in pairs
        if world.rules.truncate_history:
            life = source.filter(pl.col("user_id") == user)
            cut = life["item_id"].to_list().index(answer)
            kept = set(safe.filter(pl.col("user_id") == user)["row"])
            assert kept <= set(life["row"][:cut])
    others = ~source["user_id"].is_in({d.histories.users[d.moment.user] for d in (*plan.test, *plan.train)})
    assert set(source.filter(others)["row"]) <= set(safe["row"])


@relaxed
@given(worlds())
def test_training_tasks_are_balanced_and_no_user_serves_a_type_twice(world: World) -> None:
    plan = plan_or_reject(world)
    counts = Counter(draft.moment.type for draft in plan.train)
    assert max(counts.values()) <= -(-world.tasks.train // len(world.tasks.types))
    assert sum(counts.values()) <= world.tasks.train
    assert len({(draft.moment.type, draft.moment.user) for draft in plan.train}) == len(plan.train)
    assert len({draft.moment.user for draft in plan.test}) == len(plan.test)
    assert len({draft.task_id for draft in (*plan.test, *plan.train)}) == len(plan.test) + len(plan.train)


@relaxed
@given(worlds())
def test_a_type_falls_short_only_when_it_has_no_more(world: World) -> None:
    plan = plan_or_reject(world)
    counts = Counter(draft.moment.type for draft in plan.train)
    test = {draft.moment.user for draft in plan.test} if world.rules.exclude_test_users else set()
    answers = {draft.moment.item for draft in plan.test} if world.rules.exclude_test_users else set()
    known = plan.full.without(test, answers)
    then = plan.full.first_in_time(renewed_at(len(plan.full.items), world.tasks.test_renewal))
    share, extra = divmod(world.tasks.train, len(world.tasks.types))
    for place, type_ in enumerate(world.tasks.types):
        possible = sum(
            negatives_left(plan.full, then, answers, user) >= world.tasks.candidates - 1
            for user, _, _ in plain_moments(known, plan.full, type_, world.tasks)
        )
        assert counts[type_] == min(share + (place < extra), possible)
    order = [draft.moment.type for draft in plan.train]
    for end in range(len(order)):  # any beginning of the training file is balanced as well
        seen = Counter(order[:end])
        behind = [type_ for type_ in world.tasks.types if seen[type_] < max(seen.values(), default=0) - 1]
        assert all(seen[type_] == counts[type_] for type_ in behind)


def negatives_left(full: Histories, then: Histories, excluded: set[int], user: int) -> int:
    """How many items others had taken by `then` and this user never did."""
    return len(set(then.items.tolist()) - excluded - set(full.items[slice(*full.span(user))].tolist()))


def plain_moments(
    histories: Histories, full: Histories, type_: TaskType, wanted: TaskSettings
) -> list[tuple[int, int, int]]:
    """(user, cut, ground truth) of every possible task, as the module's table defines them, user by user."""
    limits = Thresholds.of(full)
    needed = {
        TaskType.USER_COLD_START: 1,
        TaskType.LONG_TERM: min(wanted.history_length, tasks_module.LONG_WINDOW),
    }.get(type_, tasks_module.MIN_HISTORY)
    found = []
    for user in range(len(histories.users)):
        start, end = histories.span(user)
        life = histories.items[start:end].tolist()
        cold = [item for item in life if full.popularity()[item] <= limits.item_interactions]
        asked = cold if type_ is TaskType.ITEM_COLD_START else life
        rare = full.activity()[user] <= limits.user_interactions or type_ is not TaskType.USER_COLD_START
        if len(life) >= 2 and asked and rare and life.index(asked[-1]) >= needed:
            found.append((user, start + life.index(asked[-1]), asked[-1]))
    return found


@relaxed
@given(st.lists(lives, min_size=1, max_size=12), st.sampled_from(TaskType), st.integers(1, 12), st.integers(1, 30))
def test_moments_are_those_of_the_plain_definition(
    people: list[Life], type_: TaskType, length: int, batch: int
) -> None:
    full, wanted = source_of(people).interactions, TaskSettings(history_length=length)
    with mock.patch.object(tasks_module, "_BATCH", batch):
        found = MomentFinder(full, wanted, full).find(type_)
    moments = [found[at] for at in range(len(found))]
    assert [(m.user, m.cut, m.item) for m in moments] == plain_moments(full, full, type_, wanted)
    assert {m.type for m in moments} <= {type_}


@settings(deadline=None)
@given(st.sets(st.text(max_size=4), max_size=12), st.integers(0, 2**31), st.randoms())
def test_a_shuffle_knows_ids_and_seed_alone(ids: set[str], seed: int, rng: random.Random) -> None:
    mixed = list(ids)
    rng.shuffle(mixed)
    assert shuffled(mixed, seed) == shuffled(sorted(ids), seed)
    assert set(shuffled(mixed, seed)) == ids


@settings(deadline=None)
@given(st.integers(0, 99), st.text(max_size=5), st.text(max_size=5), st.integers(0, 99), st.text(max_size=5))
def test_a_tasks_seed_follows_from_settings_task_and_user(
    seed: int, task_id: str, user: str, other_seed: int, other_user: str
) -> None:
    found = task_seed(seed, task_id, user)
    assert found == task_seed(seed, task_id, user)
    assert 0 <= found < 2**31
    if (seed, user) != (other_seed, other_user):
        assert found != task_seed(other_seed, task_id, other_user)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.randoms())
def test_equal_input_gives_equal_tasks_whatever_the_order_of_users(world: World, rng: random.Random) -> None:
    plan = plan_or_reject(world)
    rows = frame(world.source.interactions).select("user_id", "item_id", "timestamp").rows()
    people = sorted({user for user, _, _ in rows})
    rng.shuffle(people)
    again = [row for user in people for row in rows if row[0] == user]
    other = make_plan(source_of([], interactions=histories_of(again)), world.tasks, world.rules)
    for one, two in zip((*plan.test, *plan.train), (*other.test, *other.train), strict=True):
        assert (one.task_id, one.candidates, one.seed) == (two.task_id, two.candidates, two.seed)


def test_types_mean_what_they_say() -> None:
    # Users 0-3 have 6 interactions, 4-15 have 30; items 50 and up are cold.
    lives = [[(n * 3 % 50, n) for n in range(6)] for _ in range(4)]
    for user in range(4, 16):
        common = [((user + n) % 40, n) for n in range(25)]
        lives.append([*common, (50 + user % 8, 25), *((40 + n, 30 + n) for n in range(4))])
    wanted = TaskSettings(candidates=5, train=0, test=2, history_length=20)
    plan = make_plan(source_of(lives), wanted, LeakageRules())
    by_type = {type_: [d for d in plan.test if d.moment.type is type_] for type_ in TaskType}
    assert {type_: len(drafts) for type_, drafts in by_type.items()} == dict.fromkeys(TaskType, 2)
    world = World(source_of(lives), wanted, LeakageRules())
    assert all(d.histories.users[d.moment.user] in ("u0", "u1", "u2", "u3") for d in by_type[TaskType.USER_COLD_START])
    assert all(int(truth(d)[1:]) >= 50 for d in by_type[TaskType.ITEM_COLD_START])
    assert all(len(history(d, world)) == 20 for d in by_type[TaskType.LONG_TERM])
    assert all(len(history(d, world)) == 4 for d in by_type[TaskType.SHORT_TERM])


def test_popular_negatives_are_popular() -> None:
    crowd = [[(n, n) for n in range(10)] for _ in range(50)]
    crowd += [[(10 + n if n < 5 else 10 + 3 * user + n, n) for n in range(8)] for user in range(10)]
    sampler_pops = {}
    for mode in Negatives:
        wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=4, train=0, test=50, negatives=mode)
        plan = make_plan(source_of(crowd), wanted, LeakageRules())
        popularity = plan.full.popularity()
        codes = {item: code for code, item in enumerate(plan.full.catalogue)}
        drawn = [popularity[codes[c]] for d in plan.test for c in d.candidates if c != truth(d)]
        sampler_pops[mode] = sum(drawn) / len(drawn)
    assert sampler_pops[Negatives.POPULARITY] > 2 * sampler_pops[Negatives.UNIFORM]


def test_answers_stand_anywhere_among_the_candidates() -> None:
    rng = random.Random(1)
    lives = [[(item, n) for n, item in enumerate(rng.sample(range(ITEMS), 8))] for _ in range(600)]
    wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=5, train=0, test=500)
    plan = make_plan(source_of(lives), wanted, LeakageRules())
    places = Counter(draft.candidates.index(truth(draft)) for draft in plan.test)
    assert all(60 <= places[place] <= 140 for place in range(5)), places


def test_a_seed_changes_the_draw() -> None:
    lives = [[(item, item) for item in range(user, user + 10)] for user in range(30)]
    wanted = TaskSettings(types=(TaskType.CLASSIC,), test=2, train=5, candidates=5)
    plans = [make_plan(source_of(lives), wanted.model_copy(update={"seed": s}), LeakageRules()) for s in (0, 1)]
    assert [d.candidates for d in plans[0].test] != [d.candidates for d in plans[1].test]


def test_tasks_of_the_source_are_used_shuffled_and_cut() -> None:
    lives = [[(item + 20 * (user > 3), item) for item in range(8)] for user in range(8)]
    given_tasks = [
        SourceTask(TaskType.CLASSIC, "u0", tuple(f"i{n}" for n in (5, 20, 21, 22)), "i5"),
        SourceTask(TaskType.CLASSIC, "stranger", tuple(f"i{n}" for n in (6, 20, 21, 22)), "i6"),
    ]
    wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=4, test=10, train=5)
    rows = [(f"u{user}", f"i{item}", time) for user, life in enumerate(lives) for item, time in life]
    interactions = histories_of(rows, others=["stranger"])
    world = World(source_of([], interactions=interactions, tasks=given_tasks), wanted, LeakageRules())
    plan = world.plan()
    assert [set(d.candidates) for d in plan.test] == [set(t.candidates) for t in given_tasks]
    assert history(plan.test[0], world) == [plan.full.catalogue.index(f"i{n}") for n in range(5)]
    assert history(plan.test[1], world) == []
    assert all(d.histories.users[d.moment.user] not in ("u0", "stranger") for d in plan.train)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"candidates": 59}, "lower tasks.candidates"),
        ({"test": 100}, "lower tasks.test"),
        ({"history_length": 50, "types": (TaskType.LONG_TERM,)}, "take it out of tasks.types"),
    ],
)
def test_settings_the_data_cannot_meet_are_refused(changes: dict[str, object], says: str) -> None:
    lives = [[((user + item) % ITEMS, item) for item in range(10)] for user in range(30)]
    values: dict[str, object] = {"types": (TaskType.CLASSIC,), "test": 2, "train": 5, "candidates": 5}
    wanted = TaskSettings.model_validate(values | changes)
    with pytest.raises(TerminalFailure, match=says) as failure:
        make_plan(source_of(lives), wanted, LeakageRules())
    assert failure.value.reason is Reason.INVALID_DATASET


@pytest.mark.bad_input
def test_a_source_without_interactions_is_refused() -> None:
    with pytest.raises(TerminalFailure, match="no usable interaction"):
        make_plan(source_of([]), TaskSettings(), LeakageRules())


def test_short_windows_never_exceed_the_history_length() -> None:
    assert [window(TaskType.SHORT_TERM, n) for n in (1, 2, 6, 50)] == [1, 2, 3, 10]
    assert window(TaskType.LONG_TERM, 50) == 50
    assert tasks_module.MIN_HISTORY == 5
