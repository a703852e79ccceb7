from pathlib import Path

import pytest

from star_cli.demo import manifests, way
from star_cli.demo.run import Options
from star_cli.demo.way import legs, phases, with_parents
from star_cli.follow import Row
from star_cli.local.progress import Terminal
from star_cli.local.timeline import Timeline
from star_operator.api.meta import Phase

ROOT = Path(__file__).parents[4]


def row(name: str, phase: Phase, share: float | None = None) -> Row:
    return Row(name, phase, "", share, None, None, "")


def test_a_warm_run_has_no_programs_and_no_images_on_its_way() -> None:
    cold = Timeline(legs(("kube-apiserver", "etcd"), with_parents(["trainer"]), {"TeacherRun/mars": 400.0}))
    warm = Timeline(legs((), (), {"TeacherRun/mars": 400.0}))
    assert warm.left(0.0) < cold.left(0.0)
    assert "image rootfs" in cold.shares
    assert "image rootfs" not in warm.shares


def test_an_image_comes_with_all_it_stands_on() -> None:
    assert with_parents(["trainer", "gateway"]) == ["base", "torch", "trainer", "jobs", "gateway"]


def test_every_resource_of_the_demo_is_a_part_of_the_way() -> None:
    made = way.Way.of(Options(ROOT), None)
    stages = ["/".join(manifests.key(one)) for one in manifests.load(ROOT, manifests.Size.DEMO)]
    assert set(stages) <= set(made.timeline.shares)
    assert sum(way.stage_seconds(stages, Options(ROOT, expected_seconds=900.0)).values()) == pytest.approx(900.0)
    terminal = Terminal(timeline=made.timeline)
    made.moved(terminal, [row(stages[0], Phase.SUCCEEDED), row(stages[1], Phase.RUNNING, 0.5)])
    assert made.timeline.shares[stages[0]] == 1.0
    assert made.timeline.shares[stages[1]] == 0.5
    assert "left" in made.moved(terminal, [])


def test_the_end_tells_what_took_long() -> None:
    told = phases([("build etcd", 600.0), ("namespace", 0.1)], 1104.0)
    assert told[2:] == ["    10:00  build etcd", "    18:24  the chain, from apply to the live endpoint"]
