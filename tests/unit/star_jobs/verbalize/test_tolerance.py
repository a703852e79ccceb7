"""Lists of neighbours that are kept within a tolerance: which ones, and none that rests on what is held out."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_contracts.artifact import ArtifactRef
from star_contracts.data import SignalKind, TaskType
from star_contracts.job import ComputeNeighbours
from star_contracts.settings import LeakageRules, NeighbourSettings, TaskSettings
from star_jobs.datasets.leakage import safe_mask
from star_jobs.datasets.plan import make_plan
from star_jobs.datasets.tables import interactions_frame
from star_jobs.errors import TerminalFailure
from star_jobs.lookup import SignalStore
from star_jobs.verbalize import tolerance
from star_jobs.verbalize.graph import Graph
from star_jobs.verbalize.neighbours import KINDS
from star_jobs.verbalize.pairs import Neighbours, Origin, write_block, write_edges, write_ids, write_origin
from star_jobs.verbalize.tolerance import Settled, Tolerance, comparable
from tests.support.fakellm import fake_llm
from tests.support.jobs import Finished
from tests.unit.star_jobs.datasets.test_tasks import histories_of, source_of
from tests.unit.star_jobs.verbalize.conftest import Library, tidy

Visit = tuple[str, str, int]
Lists = dict[tuple[SignalKind, str], tuple[str, ...]]
Edges = set[tuple[str, str]]
NEAR = NeighbourSettings(k=4, tolerance=0.5)
WANTED = TaskSettings(types=(TaskType.CLASSIC,), candidates=3, train=4, test=2)


@dataclass(frozen=True)
class Week:
    """What a week's neighbours were made of, and what they are."""

    near: Neighbours
    graph: Graph
    lists: Lists
    since: dict[tuple[SignalKind, str], str]

    @property
    def edges(self) -> Edges:
        """The graph's edges."""
        pairs = self.graph.edges.tocoo()
        users, items = self.graph.users.to_list(), self.graph.items.to_list()
        return {(users[user], items[item]) for user, item in zip(pairs.row, pairs.col, strict=True)}


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def week(folder: Path, number: int, visits: pl.DataFrame, before: Week | None, near: NeighbourSettings = NEAR) -> Week:
    """A week's neighbours, going on from those of the week before, as the stage makes them."""
    graph = Graph.of(visits.lazy())
    earlier = None
    if before is not None and comparable(before.near, near):
        earlier = Tolerance(before.near, graph, near.tolerance)
    here = folder / f"week-{number}"
    write_ids(here, graph.items, graph.users)
    for kind, found in KINDS.items():
        for start, block in found(graph, near):
            settled = earlier.settle(kind, start, block) if earlier is not None else Settled(block)
            write_block(here, kind, start, settled.block, settled.since)
    snapshots = (*(earlier.snapshots if earlier is not None else ()), digest(number))
    write_origin(here, Origin(dataset=digest(number), settings=near, snapshots=snapshots))
    write_edges(here, graph.edges)
    made = Neighbours(here)
    lists: Lists = {}
    since: dict[tuple[SignalKind, str], str] = {}
    for kind in SignalKind:
        for part in made.parts(kind):
            for one in made.lists(kind, part, made.rows(kind, part)):
                lists[kind, one.key], since[kind, one.key] = one.items, one.since
    return Week(made, graph, lists, since)


def frame(visits: Sequence[Visit]) -> pl.DataFrame:
    """Visits as a snapshot has them."""
    rows = [(user, item, time, 3.0) for user, item, time in visits]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    return table.sort("user_id", "timestamp", maintain_order=True)


def safe(visits: Sequence[Visit]) -> pl.DataFrame:
    """The training-safe interactions of a snapshot that is made of visits."""
    plan = make_plan(source_of([], interactions=histories_of(visits)), WANTED, LeakageRules())
    kept = safe_mask(plan.full, plan.answers(), LeakageRules()).nonzero()[0]
    return interactions_frame(plan.full, kept).sort("user_id", "timestamp", maintain_order=True)


def to_be_kept(before: Week, now: Week, fresh: Lists, share: float) -> set[tuple[SignalKind, str]]:
    """Whose earlier list is to be kept, by the module's four rules, in plain Python."""
    lost, kept = before.edges - now.edges, set()
    had: dict[str, int] = defaultdict(int)
    has: dict[str, int] = defaultdict(int)
    for count, edges in ((had, before.edges), (has, now.edges)):
        for user, item in edges:
            count[f"user {user}"] += 1
            count[f"item {item}"] += 1
    losers = {name for user, item in lost for name in (f"user {user}", f"item {item}")}
    items = set(now.graph.items)
    for (kind, key), old in before.lists.items():
        today, word = fresh.get((kind, key), ()), "item" if kind is SignalKind.ITEM_CF else "user"
        own = f"{word} {key}"
        longer = max(len(old), len(today))
        allowed = share * had[own] if word == "item" else 0
        near = longer - len({*old} & {*today}) <= share * longer
        whole = own not in losers and not {f"item {item}" for item in old} & losers and {*old} <= items
        if whole and has[own] and near and has[own] - had[own] <= allowed and old != today:
            kept.add((kind, key))
    return kept


slow = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def some_visits(rng: random.Random, count: int, first: int, users: int, items: int) -> list[Visit]:
    """Visits at growing times, of few users, so that lists overlap."""
    return [(f"u{rng.randrange(users)}", f"i{rng.randrange(items)}", first + n) for n in range(count)]


@slow
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(0, 25), st.integers(0, 6))
def test_what_is_kept_are_the_lists_that_the_rules_name(seed: int, share: float, more: int, gone: int) -> None:
    rng = random.Random(seed)
    old = some_visits(rng, 90, 0, 14, 16)
    left = [visit for visit in old if visit not in rng.sample(old, gone)]
    near = NEAR.model_copy(update={"tolerance": share})
    with TemporaryDirectory() as name:
        before = week(Path(name), 1, frame(old), None, near)
        today = frame([*left, *some_visits(rng, more, 1000, 16, 18)])
        now, alone = week(Path(name), 2, today, before, near), week(Path(name), 3, today, None, near)
    expected = to_be_kept(before, now, alone.lists, share)
    assert {key for key, since in now.since.items() if since == digest(1)} == expected
    for key, items in now.lists.items():
        assert items == (before.lists[key] if key in expected else alone.lists[key])
    assert now.lists.keys() >= alone.lists.keys()


def kept_and_spoiled(seed: int) -> tuple[int, int]:
    """How many lists are kept in four weeks of a source that grows, and how many of them rest on what is held out.

    Each week other users are asked about, and other answers held out. What a list rests on are its key's own
    interactions in the week in which it was computed, and those of others then with the items that it names.
    """
    rng, kept, spoiled = random.Random(seed), 0, 0
    visits: list[Visit] = []
    weeks: list[Week] = []
    with TemporaryDirectory() as name:
        for number in range(4):
            visits = [*visits, *some_visits(rng, 15 if visits else 120, 10_000 * number, 16, 20)]
            try:
                snapshot = safe(visits)
            except TerminalFailure:  # too little for the tasks
                break
            weeks.append(week(Path(name), number, snapshot, weeks[-1] if weeks else None))
            held_out = {(user, item) for user, item, _ in visits} - weeks[-1].edges
            assert held_out
            for (kind, key), since in weeks[-1].since.items():
                made_in = weeks[int(since.removeprefix("sha256:"), 16)]
                told = made_in.lists[kind, key]
                assert told == weeks[-1].lists[kind, key], "as it was computed: it does not drift"
                own = {edge for edge in made_in.edges if key == edge[kind is SignalKind.ITEM_CF]}
                of_others = {(user, item) for user, item in made_in.edges if item in told}
                kept += made_in is not weeks[-1]
                spoiled += bool((own | of_others) & held_out)
    return kept, spoiled


@slow
@given(st.integers(0, 2**32))
def test_nothing_that_is_kept_rests_on_what_is_held_out_now(seed: int) -> None:
    assert kept_and_spoiled(seed)[1] == 0


def test_without_the_rule_something_would(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_and_spoiled(1)[0] > 0
    lost = tolerance._lost
    monkeypatch.setattr(tolerance, "_lost", lambda *arguments: np.zeros_like(lost(*arguments)))
    assert sum(kept_and_spoiled(seed)[1] for seed in range(3)) > 0


def test_a_graph_that_is_as_it_was_gives_the_same_neighbours(tmp_path: Path) -> None:
    rng = random.Random(3)
    visits = some_visits(rng, 120, 0, 14, 18)
    first = week(tmp_path, 1, frame(visits), None)
    second = week(tmp_path, 2, frame([*visits, *some_visits(rng, 4, 500, 14, 18)]), first)
    third = week(tmp_path, 3, frame(visits), first)
    assert digest(1) in second.since.values()
    assert third.lists == first.lists


@pytest.mark.parametrize("change", [{"k": 5}, {"max_degree": 7}, {"tolerance": 0.0}])
def test_other_settings_keep_nothing(change: dict[str, float], tmp_path: Path) -> None:
    visits = some_visits(random.Random(5), 120, 0, 14, 18)
    before = week(tmp_path, 1, frame(visits), None)
    assert comparable(before.near, NEAR)
    assert comparable(before.near, NEAR.model_copy(update={"tolerance": 0.2})), "that one may change"
    assert not comparable(before.near, NEAR.model_copy(update=change))


def test_neighbours_without_their_edges_are_not_gone_on_from(tmp_path: Path) -> None:
    before = week(tmp_path, 1, frame(some_visits(random.Random(5), 120, 0, 14, 18)), None)
    (tmp_path / "week-1" / "edges.parquet").unlink()
    assert not comparable(before.near, NEAR)


def compute(library: Library, previous: ArtifactRef | None, *, memo: bool = True, share: float = 0.5) -> Finished:
    near = NeighbourSettings(k=8, max_degree=300, tolerance=share)
    stage = ComputeNeighbours(dataset=library.dataset, neighbours=near, previous=previous)
    name = f"near-{previous.digest[-4:] if previous else 'first'}-{share}-{memo}"
    return library.jobs.run(stage, step=name, output=name, memo=memo)


def test_going_on_from_neighbours_of_the_same_data_ends_with_these(library: Library) -> None:
    """So that a run without new data finds the work of the last one, whatever that one went on from."""
    first = compute(library, None)
    again = compute(library, first.artifact)
    assert (again.artifact, again.result.reused) == (first.artifact, True)
    other = compute(library, first.artifact, share=0.25)
    assert other.artifact != first.artifact, "it is other work"
    assert other.result.metrics["keptWithinTolerance"] == 0, "no list has changed"
    anew = compute(library, first.artifact, memo=False)
    assert not anew.result.reused, "with cachePolicy Never nothing is taken as done"


def test_signals_say_in_which_snapshot_their_neighbours_were_found(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
    done = library.collect()
    store = SignalStore.open(library.jobs.fetch(done.artifact))
    found = [store.get(kind, key) for kind in SignalKind for key in library.near(kind)]
    assert {signal.snapshot for signal in found if signal is not None} == {library.dataset.digest}
    assert done.result.metrics["keptWithinTolerance"] == 0
