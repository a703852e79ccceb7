"""Retention against readers, pins, new runs and crashes: 1,000 seeded interleavings of their real code's requests.

No reader that began loses a file, nothing that a resource has is deleted, what is half deleted never looks whole, a
crash at any step leaves a state from which it ends well, and in the end what is let go is gone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from star_jobs import runtime
from star_jobs.storage import artifacts, s3
from tests.support.interleave import Actor, Interleaving
from tests.support.racing import GRACE, LOCAL, Race

SEEDS = 1000
BATCHES = 10


@pytest.fixture(autouse=True)
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each thread is a pod: its own disk, and one request at a time, so that a seed is always the same run."""
    monkeypatch.setattr(runtime, "ObjectStore", lambda _: LOCAL.store)
    monkeypatch.setattr(runtime, "work_dir", lambda: LOCAL.folder)
    monkeypatch.setattr(artifacts, "CONCURRENCY", 1)
    monkeypatch.setattr(s3, "CONCURRENCY", 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def raced(seed: int, folder: Path) -> Race:
    world = Interleaving(seed)
    race = Race(folder, world.random.choice([0, GRACE]))
    for number in (1, 2):
        race.make(number, None, world.random.choice([f"data {number}", "data 1"]))
    race.check("the beginning")
    crashes = world.random.choice([0.0, 0.01, 0.05])
    chosen = [
        (kind, f"r{number}-{stage}")
        for number in (1, 2)
        for kind, stage in (("RecDataset", "dataset"), ("TeacherRun", "teacher"))
    ]

    def runs(actor: Actor) -> None:
        for number in (3, 4):
            race.make(number, actor, world.random.choice(["data 1", "data 1", "data 2", f"data {number}"]))

    def reads(actor: Actor) -> None:
        for number in range(world.random.choice([0, 1, 2])):
            race.evaluate(actor, f"mine-{number}", f"r{world.random.randint(1, 3)}-dataset")

    def pins(actor: Actor) -> None:
        for _ in range(world.random.choice([0, 1, 2])):
            kind, name = world.random.choice(chosen)
            race.pin(actor, kind, name, "kept for the paper")
            for _ in range(world.random.randint(0, 60)):
                actor.turn()
            if world.random.random() < 0.5:
                race.pin(actor, kind, name, None)
            for _ in range(world.random.randint(0, 60)):
                actor.turn()

    def passes_time(actor: Actor) -> None:
        for _ in range(40):
            actor.turn()
            race.at(world.random.choice([0, 1, GRACE / 2, 2 * GRACE]))

    world.add("the operator", race.operate(24), crashes)
    world.add("a sweep", race.sweep(40), crashes)
    world.add("new runs", runs)
    world.add("readers", reads)
    world.add("pins", pins)
    world.add("time", passes_time)
    world.run(race.check)
    race.settle()
    return race


@pytest.mark.parametrize("batch", range(BATCHES))
def test_interleavings(batch: int, tmp_path: Path) -> None:
    began = let_go = 0
    for seed in range(batch * SEEDS // BATCHES, (batch + 1) * SEEDS // BATCHES):
        race = raced(seed, tmp_path / str(seed))
        assert race.leftovers() == [], f"seed {seed}"
        began += race.began
        let_go += ("TeacherRun", "team", "r1-teacher") not in race.places
    assert began > SEEDS // BATCHES, "hardly anything was read"
    assert let_go > SEEDS // BATCHES // 2, "hardly anything was let go"


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    first, second = (raced(7, tmp_path / name) for name in ("a", "b"))
    assert sorted(place for place in first.places) == sorted(place for place in second.places)
    assert len(first.objects) == len(second.objects)
