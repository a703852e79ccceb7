"""Neighbours against a brute-force oracle, on MovieLens-100K and on graphs small enough to see."""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from star_contracts.data import SignalKind
from star_contracts.settings import NeighbourSettings, Weighting
from star_jobs.errors import TerminalFailure
from star_jobs.verbalize import graph as graph_module
from star_jobs.verbalize.graph import Blocks, Graph
from star_jobs.verbalize.neighbours import item_cf, user_cf
from star_jobs.verbalize.pairs import Neighbours, write_ids
from tests.support.movielens import movielens_100k

Sets = dict[str, set[str]]
Dense = NDArray[np.float64]


@pytest.fixture(scope="module")
def interactions() -> pl.DataFrame:
    path = movielens_100k() / "ml-100k.inter"
    columns = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float64, "timestamp": pl.Float64}
    read = pl.read_csv(path, separator="\t", new_columns=list(columns), schema_overrides=list(columns.values()))
    return read.cast({"timestamp": pl.Int64}).sort("user_id", "timestamp", maintain_order=True)


def table(keys: pl.Series, items: pl.Series, blocks: Blocks) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for start, block in blocks:
        names, weights = items[block.indices].to_list(), block.data.tolist()
        for key, (first, end) in zip(keys[start : start + block.shape[0]], pairwise(block.indptr), strict=True):
            if end > first:
                found[key] = list(zip(names[first:end], weights[first:end], strict=True))
    return found


def items_of(graph: Graph, settings: NeighbourSettings) -> dict[str, list[tuple[str, float]]]:
    return table(graph.items, graph.items, item_cf(graph, settings))


def users_of(graph: Graph, settings: NeighbourSettings) -> dict[str, list[tuple[str, float]]]:
    return table(graph.users, graph.items, user_cf(graph, settings))


def newest(interactions: pl.DataFrame, node: str, other: str, cap: int) -> Sets:
    """other -> nodes, each node keeping its `cap` newest others: in plain Python."""
    by_node: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for place, row in enumerate(interactions.iter_rows(named=True)):
        by_node[row[node]].append((row["timestamp"], place, row[other]))
    result: Sets = defaultdict(set)
    for name, edges in by_node.items():
        for *_, kept in sorted(edges)[-cap:]:
            result[kept].add(name)
    return result


def oracle(rows: Sets, weighting: Weighting) -> Callable[[str, str], float]:
    """The similarity of two rows, written down from its definition."""
    columns: dict[str, int] = defaultdict(int)
    for members in rows.values():
        for member in members:
            columns[member] += 1
    count = len(rows)
    mean = sum(len(members) for members in rows.values()) / count
    rarity = {c: math.log(1 + (count - n + 0.5) / (n + 0.5)) for c, n in columns.items()}

    def saturation(size: int) -> float:
        return 2.2 / (1.2 * (0.25 + 0.75 * size / mean) + 1)

    def similarity(one: str, two: str) -> float:
        shared = rows[one] & rows[two]
        if weighting is Weighting.COUNT:
            return len(shared)
        if weighting is Weighting.COSINE:
            return len(shared) / math.sqrt(len(rows[one]) * len(rows[two]))
        return saturation(len(rows[one])) * saturation(len(rows[two])) * sum(rarity[c] ** 2 for c in sorted(shared))

    return similarity


@pytest.mark.parametrize("max_degree", [40, 10_000])
@pytest.mark.parametrize("weighting", list(Weighting))
def test_item_neighbours_are_the_oracles(weighting: Weighting, max_degree: int, interactions: pl.DataFrame) -> None:
    found = items_of(Graph.of(interactions.lazy()), NeighbourSettings(k=10, max_degree=max_degree, weighting=weighting))
    rows = newest(interactions, "user_id", "item_id", max_degree)
    similarity = oracle(rows, weighting)
    for item in sorted(rows)[::40]:
        best = sorted(similarity(item, other) for other in rows if other != item and rows[item] & rows[other])[::-1]
        assert [weight for _, weight in found.get(item, [])] == pytest.approx(best[:10], rel=1e-4)
        for other, weight in found.get(item, []):
            assert other != item
            assert weight == pytest.approx(similarity(item, other), rel=1e-4)


@pytest.mark.parametrize("weighting", list(Weighting))
def test_user_signals_are_the_oracles(weighting: Weighting, interactions: pl.DataFrame) -> None:
    settings = NeighbourSettings(k=10, max_degree=100, weighting=weighting)
    found = users_of(Graph.of(interactions.lazy()), settings)
    rows = newest(interactions, "item_id", "user_id", 100)
    similarity = oracle(rows, weighting)
    means = dict(interactions.group_by("user_id").agg(pl.col("rating").mean()).iter_rows())
    remembered = newest(interactions, "user_id", "item_id", 100)
    liked, taken = Sets(), Sets()
    for row in interactions.iter_rows(named=True):
        user, item = row["user_id"], row["item_id"]
        taken.setdefault(user, set()).add(item)
        if row["rating"] >= means[user] and user in remembered[item]:
            liked.setdefault(user, set()).add(item)
    for user in sorted(rows)[::60]:
        near = sorted(((similarity(user, other), other) for other in rows if other != user), reverse=True)
        if near[9][0] == pytest.approx(near[10][0], rel=1e-5):
            continue  # which of two equally near users counts is not defined
        scores: dict[str, float] = defaultdict(float)
        for weight, other in near[:10]:
            for item in liked[other] - taken[user]:
                scores[item] += weight
        best = sorted(scores.values(), reverse=True)[:10]
        assert [weight for _, weight in found[user]] == pytest.approx(best, rel=1e-3)
        assert all(weight == pytest.approx(scores[item], rel=1e-3) for item, weight in found[user])


@pytest.mark.parametrize("weighting", list(Weighting))
def test_the_top_50_of_every_item_are_brute_forces(weighting: Weighting, interactions: pl.DataFrame) -> None:
    graph = Graph.of(interactions.lazy())
    found = items_of(graph, NeighbourSettings(k=50, max_degree=100, weighting=weighting))
    rows = newest(interactions, "user_id", "item_id", 100)
    taken = np.array([[user in rows[item] for user in graph.users] for item in graph.items], dtype=np.float64)
    products = brute_force(taken, weighting)
    np.fill_diagonal(products, 0)
    place = {item: n for n, item in enumerate(graph.items)}
    for n, item in enumerate(graph.items):
        best = np.sort(products[n])[::-1][:50]
        near = found.get(item, [])
        assert [weight for _, weight in near] == pytest.approx(best[best > 0], rel=1e-4)
        assert [products[n, place[other]] for other, _ in near] == pytest.approx(best[best > 0], rel=1e-4)
        assert len({other for other, _ in near}) == len(near)


def brute_force(taken: Dense, weighting: Weighting) -> Dense:
    """All similarities of the rows of a 0/1 matrix, each pair computed."""
    degrees, frequencies = taken.sum(axis=1), taken.sum(axis=0)
    if weighting is Weighting.COSINE:
        taken = taken / np.sqrt(np.maximum(degrees, 1))[:, np.newaxis]
    elif weighting is Weighting.BM25:
        count = (degrees > 0).sum()
        length = 0.25 + 0.75 * degrees / (degrees.sum() / count)
        rarity = np.log(1 + (count - frequencies + 0.5) / (frequencies + 0.5))
        taken = taken * rarity * (2.2 / (1.2 * length + 1))[:, np.newaxis]
    return taken @ taken.T


def test_a_near_user_counts_with_the_newest_likes_only() -> None:
    edges = [("u", "a", 1, None), ("v", "a", 1, None), *(("v", f"b{n}", 2 + n, None) for n in range(6))]
    found = users_of(small(*edges), NeighbourSettings(k=5, max_degree=2, weighting=Weighting.COUNT))
    assert found == {"u": [("b4", 1.0), ("b5", 1.0)]}


def small(*edges: tuple[str, str, int, float | None]) -> Graph:
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float64}
    ordered = pl.DataFrame(list(edges), schema=schema, orient="row").sort("user_id", "timestamp")
    return Graph.of(ordered.lazy())


def test_a_second_visit_counts_once_and_as_the_newest() -> None:
    graph = small(("u", "a", 1, 1.0), ("u", "a", 9, 5.0), ("u", "b", 5, 3.0), ("v", "a", 1, 3.0), ("v", "b", 1, 3.0))
    assert graph.edges.nnz == 4
    counts = NeighbourSettings(k=5, weighting=Weighting.COUNT)
    assert items_of(graph, counts) == {"a": [("b", 2.0)], "b": [("a", 2.0)]}
    capped = NeighbourSettings(k=5, weighting=Weighting.COUNT, max_degree=1)
    assert items_of(graph, capped) == {}, "one item a user shares nothing"


def test_liked_is_not_below_ones_own_mean_and_all_without_ratings() -> None:
    graph = small(("u", "a", 1, 2.0), ("u", "b", 2, 4.0), ("v", "a", 1, None), ("v", "b", 2, None))
    assert list(zip(*graph.edges.nonzero(), graph.liked, strict=True)) == [
        (0, 0, False),
        (0, 1, True),
        (1, 0, True),
        (1, 1, True),
    ]


def test_user_signals_leave_out_what_the_user_took() -> None:
    graph = small(("u", "a", 1, None), ("v", "a", 1, None), ("v", "b", 2, None), ("w", "c", 1, None))
    found = users_of(graph, NeighbourSettings(k=5, weighting=Weighting.COUNT))
    assert found == {"u": [("b", 1.0)]}, "v's neighbour u took nothing else, and w has no neighbour"


def test_blocks_change_nothing(interactions: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, settings = Graph.of(interactions.head(20_000).lazy()), NeighbourSettings(k=5)
    whole = items_of(graph, settings), users_of(graph, settings)
    monkeypatch.setattr(graph_module, "BLOCK_ROWS", 37)
    assert (items_of(graph, settings), users_of(graph, settings)) == whole


@pytest.mark.parametrize("users", [["v", "u", "u"], ["u", "v", "u"], ["u", "u", "v"]])
def test_interactions_in_another_order_are_refused(users: list[str]) -> None:
    visits = pl.DataFrame({"user_id": users, "item_id": ["a", "b", "c"], "timestamp": [2, 1, 0], "rating": [3.0, 3, 3]})
    with pytest.raises(ValueError, match="not in order of user_id and timestamp"):
        Graph.of(visits.lazy())


@pytest.mark.parametrize("unit", [1, 10**18])
def test_an_item_keeps_its_newest_users_in_any_unit_of_time(unit: int) -> None:
    times = {"t": 5, "u": 9, "v": 7, "w": 9, "x": 1}
    graph = small(*((user, "a", time * unit, None) for user, time in times.items()))
    kept = graph.matrix(graph.newest_of_items(2)).nonzero()[0]
    assert [graph.users[int(user)] for user in kept] == ["u", "w"]
    kept = graph.matrix(graph.newest_of_items(1)).nonzero()[0]
    assert [graph.users[int(user)] for user in kept] == ["w"], "of equal stamps the later edge is the newer"


def test_no_interactions_give_no_neighbours() -> None:
    assert items_of(small(), NeighbourSettings()) == {}


@pytest.mark.bad_input
def test_neighbours_of_an_older_version_are_refused_and_not_taken_for_none(tmp_path: Path) -> None:
    graph = small(("u", "a", 1, None))
    write_ids(tmp_path, graph.items, graph.users)
    assert Neighbours(tmp_path).keys(SignalKind.ITEM_CF, np.array([0], np.uint32)) == ["a"]
    (tmp_path / "item_cf").mkdir()
    (tmp_path / "item_cf" / "part-000000000.arrow").write_bytes(b"")
    with pytest.raises(TerminalFailure, match="made by an older version, without keys-<n>"):
        Neighbours(tmp_path)
