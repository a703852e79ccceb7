"""The arithmetic of `make bench-promotion`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stretches import Stretch, Way, covered


@pytest.mark.parametrize(
    ("stretches", "seconds"),
    [
        ([], 0),
        ([(12, 14)], 2),
        ([(5, 12), (18, 30)], 4),
        ([(12, 15), (14, 16), (15, 15.5)], 4),
        ([(0, 9), (20, 21)], 0),
        ([(0, 100), (12, 14)], 10),
        ([(14, 12)], 0),
    ],
)
def test_what_is_covered_is_counted_once(stretches: list[Stretch], seconds: float) -> None:
    assert covered(stretches, 10, 20) == seconds


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_it_is_what_counting_second_by_second_finds(stretches: list[Stretch]) -> None:
    inside = [second for second in range(10, 20) if any(first <= second < last for first, last in stretches)]
    assert covered(stretches, 10, 20) == len(inside)


def test_parts_and_what_was_meant_make_the_whole() -> None:
    way = Way({"made": 0, "committed": 3, "serves": 20, "asked": 31}, {"gates": ((2, 4), (6, 8)), "soak": ((20, 30),)})
    assert way.parts() == {"committed": 2, "serves": 14, "asked": 1}
    assert (way.whole, way.took("gates"), way.took("soak"), way.overhead) == (31, 4, 10, 17)


def test_a_way_that_goes_back_in_time_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="seen later"):
        Way({"made": 3, "committed": 2}, {})
