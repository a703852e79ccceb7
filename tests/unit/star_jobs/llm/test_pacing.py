"""Rate limits: an even pace, corrected by what was really spent, and rest when the endpoint asks for it."""

from hypothesis import given
from hypothesis import strategies as st

from star_contracts.limits import RateLimits
from star_jobs.llm.pacing import Pace, Pacer


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 500)), min_size=1, max_size=60))
def test_no_minute_sees_more_than_the_limit_and_one_call(arrivals: list[tuple[float, float]]) -> None:
    clock = Clock()
    pace = Pace(60.0, clock)
    sent: list[tuple[float, float]] = []
    for pause, units in arrivals:
        clock.now += pause
        sent.append((clock.now + pace.reserve(units), units))
    for begin, _ in sent:
        window = [units for at, units in sent if begin <= at < begin + 60]
        assert sum(window[:-1]) <= 60.0 + 1e-6
    assert [at for at, _ in sent] == sorted(at for at, _ in sent), "first come, first served"


def test_an_idle_endpoint_lets_a_call_through_at_once() -> None:
    clock = Clock()
    pace = Pace(30.0, clock)
    assert pace.reserve(1) == 0
    assert pace.reserve(1) == 2.0
    clock.now += 60
    assert pace.reserve(1) == 0, "nobody pays for time that has passed"


def test_what_was_really_spent_corrects_the_pace() -> None:
    clock = Clock()
    pace = Pace(60.0, clock)
    pace.reserve(10)
    pace.settle(-4)
    assert pace.reserve(1) == 6.0
    pace.settle(3)
    assert pace.reserve(1) == 10.0


async def test_pods_share_the_limits() -> None:
    alone, one_of_four = (Pacer(RateLimits(requests_per_minute=60000), pods=pods) for pods in (1, 4))
    assert alone._requests is not None
    assert one_of_four._requests is not None
    alone._requests.reserve(1)
    one_of_four._requests.reserve(1)
    assert one_of_four._requests.reserve(1) > 2 * alone._requests.reserve(1)


async def test_without_limits_nobody_waits() -> None:
    pacer = Pacer(None)
    for _ in range(1000):
        await pacer.admit(1e9)
