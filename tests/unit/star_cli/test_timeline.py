import pytest

from star_cli.local.timeline import Leg, Timeline

LEGS = [Leg("programs", 600.0), Leg("images", 300.0), Leg("chain", 1100.0)]


def test_at_the_beginning_the_expected_time_is_left() -> None:
    timeline = Timeline(LEGS)
    assert timeline.share == 0.0
    assert timeline.left(0.0) == 2000.0


def test_at_the_expected_pace_time_passes_as_it_does() -> None:
    timeline = Timeline(LEGS)
    timeline.advance("programs", 0.5)
    assert timeline.left(300.0) == pytest.approx(1700.0)


def test_a_machine_half_as_fast_is_believed_more_and_more() -> None:
    timeline = Timeline(LEGS)
    timeline.advance("programs", 0.1)
    early = timeline.left(120.0) / 1940.0
    timeline.finish("programs")
    late = timeline.left(1200.0) / 1400.0
    assert 1.0 < early < late < 2.0


def test_legs_side_by_side_count_both() -> None:
    timeline = Timeline(LEGS)
    timeline.finish("programs", "images")
    assert timeline.left(600.0) < 1100.0


def test_nothing_goes_back_and_nothing_is_more_than_done() -> None:
    timeline = Timeline(LEGS)
    timeline.advance("images", 0.5)
    timeline.advance("images", 0.2)
    timeline.advance("chain", 7.0)
    timeline.advance("not of this way", 1.0)
    assert timeline.shares == {"programs": 0.0, "images": 0.5, "chain": 1.0}


def test_all_done_leaves_nothing_and_an_empty_way_is_done() -> None:
    timeline = Timeline(LEGS)
    timeline.finish("programs", "images", "chain")
    assert (timeline.share, timeline.left(5000.0)) == (1.0, 0.0)
    assert (Timeline([]).share, Timeline([]).left(1.0)) == (1.0, 0.0)
