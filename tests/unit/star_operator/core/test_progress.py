"""The board of progress: bounded, by namespace, and nobody's reports are another's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.progress import MAX_SHARDS, REPORTING_KINDS, ProgressReport
from star_operator.core import progress as module
from star_operator.core.progress import MAX_STEPS, Place, ProgressBoard
from star_operator.core.queue import WorkQueue
from star_operator.reconcilers.run import RunReconciler
from star_operator.reconcilers.table import reconcilers
from tests.support.clock import Clock
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings


def report(namespace: str = "team", uid: str = "u", shard: int = 0, **fields: Any) -> ProgressReport:
    target = {
        "url": "http://x", "kind": "SFTJob", "namespace": namespace, "name": fields.pop("name", "sft"), "uid": uid,
        "attempt": fields.pop("attempt", 1), "step": fields.pop("step", "train"),
    }  # fmt: skip
    whole = {"shards": MAX_SHARDS, "done": 1, "total": 2, "unit": "steps", "metrics": {}, **fields}
    return ProgressReport.model_validate({"target": target, "shard": shard, **whole})


def place(namespace: str = "team", uid: str = "u", name: str = "sft") -> Place:
    return Place("SFTJob", namespace, name, uid)


def test_another_namespaces_uid_is_not_its_resource() -> None:
    board = ProgressBoard()
    board.report(report("mallory", uid="u"))
    board.report(report("team", uid="u", name="another"))
    assert board.of(place("team", "u"), 1, "train") is None
    assert board.of(place("mallory", "u"), 1, "train") is not None


def test_what_has_ended_is_forgotten() -> None:
    board = ProgressBoard()
    board.report(report())
    board.forget(place())
    board.forget(place("nobody"))
    assert (board.of(place(), 1, "train"), board.weight) == (None, 0)


def test_only_the_newest_steps_are_kept() -> None:
    board = ProgressBoard()
    for attempt in range(1, MAX_STEPS + 3):
        board.report(report(attempt=attempt))
    assert board.of(place(), 2, "train") is None
    assert board.of(place(), MAX_STEPS + 2, "train") is not None


def test_a_namespace_that_reports_without_end_pushes_out_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT_EACH", 2000)
    board = ProgressBoard()
    board.report(report())
    for n in range(20):
        for shard in range(500):
            board.report(report("mallory", uid=f"u{n}", shard=shard, metrics={f"m{shard}": 1.0}))
    assert board.weight <= 2000 + 9
    assert board.of(place(), 1, "train") is not None
    assert board.of(place("mallory", "u0"), 1, "train") is None
    assert board.of(place("mallory", "u19"), 1, "train") is not None


def test_many_namespaces_that_do_push_out_the_heaviest_ones_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT", 1000)
    board = ProgressBoard()
    board.report(report())
    for n in range(100):
        for namespace in ("a", "b", "c"):
            board.report(report(namespace, uid=f"u{n}", metrics={f"m{k}": 1.0 for k in range(20)}))
    assert board.weight <= 1000
    assert board.of(place(), 1, "train") is not None


STEPS = st.tuples(
    st.sampled_from("abc"), st.sampled_from("uvw"), st.integers(0, 5), st.integers(1, 3), st.sampled_from(["x", "y"])
)


@given(st.lists(st.tuples(st.booleans(), STEPS), max_size=60))
def test_the_weight_is_that_of_what_is_kept(events: list[tuple[bool, tuple[str, str, int, int, str]]]) -> None:
    board = ProgressBoard()
    for takes, (namespace, uid, shard, attempt, metric) in events:
        if takes:
            board.report(report(namespace, uid=uid, shard=shard, attempt=attempt, metrics={metric: 1.0}))
        else:
            board.forget(place(namespace, uid))
    kept = [board.of(place(n, u), attempt, "train") for n in "abc" for u in "uvw" for attempt in (1, 2, 3)]
    assert board.weight == sum(one.weight for one in kept if one is not None)


def test_the_kinds_that_report_are_those_that_run_to_completion() -> None:
    table = reconcilers(Clock(FakeCluster(), settings(), WorkQueue(lambda: 0.0)))
    runs = [kind for kind, act in table.items() if isinstance(getattr(act, "__self__", None), RunReconciler)]
    assert tuple(runs) == REPORTING_KINDS
