"""Token buckets: nobody gets more than the rate, and everybody gets it."""

from hypothesis import given
from hypothesis import strategies as st

from star_operator.core.rates import Rate, Rates


def test_a_burst_and_then_so_many_a_second() -> None:
    rates = Rates(Rate(burst=3, per_second=0.5), most_keys=10)
    assert [rates.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 2]
    assert rates.take("b", 0.0) == 0
    assert [rates.take("a", 2.0), rates.take("a", 2.0)] == [0, 2]
    assert [rates.take("a", 1000.0) for _ in range(4)] == [0, 0, 0, 2]


def test_keys_are_bounded() -> None:
    rates = Rates(Rate(burst=1, per_second=1), most_keys=5)
    for n in range(100):
        rates.take(n, 0.0)
    assert len(rates) == 5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=100), st.integers(1, 5), st.integers(1, 3))
def test_nobody_gets_more_than_the_rate(asked: list[tuple[str, float]], burst: int, rate: int) -> None:
    rates, now, granted = Rates(Rate(burst, rate), most_keys=10), 0.0, {"a": 0, "b": 0}
    for key, pause in asked:
        now += pause
        granted[key] += rates.take(key, now) == 0
        assert granted[key] <= burst + now * rate + 1e-6
