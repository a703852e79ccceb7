"""How long a checkpoint has served: what counts, what does not, and what is remembered."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.stardeployment import MAX_SERVED, ServedStatus
from star_operator.policy.served import NOTHING, STEP, Serving, counted, longest_gap, soak

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
START = datetime(2026, 1, 1, tzinfo=UTC)
GAP = longest_gap(300)

Look = tuple[float, Serving]
"""Seconds after the start, and what serves then."""


def history(*looks: Look, before: tuple[ServedStatus, ...] = ()) -> tuple[ServedStatus, ...]:
    rows = before
    for seconds, serving in looks:
        rows = counted(rows, serving, START + timedelta(seconds=seconds), GAP)
    return rows


def seconds(rows: tuple[ServedStatus, ...], digest: str = A, weight: int = 100, at: float = 0) -> int:
    return soak(rows, digest, weight, START + timedelta(seconds=at), GAP).seconds


ALONE = Serving({A: 100})


def test_time_between_two_looks_counts() -> None:
    assert seconds(history((0, ALONE), (300, ALONE), (600, ALONE)), at=600) == 600


def test_time_up_to_an_orderly_hand_over_counts() -> None:
    assert seconds(history((0, ALONE), (300, ALONE), (500, Serving({A: 0, B: 100}))), at=900) == 500


def test_what_goes_on_counts_up_to_now() -> None:
    assert seconds(history((0, ALONE)), at=45) == 45


@pytest.mark.parametrize("trouble", [NOTHING, Serving({B: 100})])
def test_time_that_ends_in_trouble_does_not_count(trouble: Serving) -> None:
    rows = history((0, ALONE), (300, ALONE), (500, trouble), (900, ALONE), (1000, ALONE))
    assert seconds(rows, at=1000) == 300 + 100


@pytest.mark.bad_input
def test_a_time_in_which_nobody_looked_does_not_count() -> None:
    rows = history((0, ALONE), (300, ALONE), (300 + 7200, ALONE), (300 + 7500, ALONE))
    assert seconds(rows, at=300 + 7500) == 600


@pytest.mark.bad_input
@pytest.mark.parametrize("jump", [-86400, 86400 * 30])
def test_a_clock_that_jumps_brings_no_time(jump: float) -> None:
    rows = history((0, ALONE), (300, ALONE), (300 + jump, ALONE), (600 + jump, ALONE))
    assert seconds(rows, at=600 + jump) == 600


def test_shares_are_counted_apart() -> None:
    rows = history((0, Serving({B: 90, A: 10})), (300, Serving({B: 50, A: 50})), (600, ALONE), (900, ALONE))
    assert [seconds(rows, A, weight, at=900) for weight in (100, 50, 10)] == [300, 600, 900]
    assert seconds(rows, B, 50, at=900) == 300


def test_what_another_one_has_taken_over_from_is_remembered() -> None:
    rows = history((0, ALONE), (300, ALONE), (400, Serving({B: 100})), (700, Serving({B: 100})))
    found = soak(rows, A, 100, START + timedelta(seconds=700), GAP)
    assert (found.seconds, found.serving, found.seen) == (300, False, True)
    assert not soak(rows, "sha256:" + "c" * 64, 1, START, GAP).seen


def test_figures_are_those_of_what_has_all_of_the_traffic() -> None:
    rows = history(
        (0, Serving({A: 100}, {"hr": 0.4})), (120, Serving({A: 100}, {"hr": 0.5})), (300, Serving({B: 100}, {"hr": 0}))
    )
    assert soak(rows, A, 100, START, GAP).metrics == {"hr": 0.5}


def test_what_only_grows_is_not_written_at_every_look() -> None:
    rows = history((0, ALONE))
    assert history((STEP.total_seconds() - 1, ALONE), before=rows) == rows
    assert history((STEP.total_seconds(), ALONE), before=rows) != rows


def test_the_history_is_bounded_and_forgets_what_served_longest_ago() -> None:
    looks = [(100.0 * one, Serving({f"sha256:{one:064x}": 100})) for one in range(MAX_SERVED + 5)]
    rows = history(*looks)
    assert len(rows) == MAX_SERVED
    assert rows[0].digest == f"sha256:{MAX_SERVED + 4:064x}"


LOOKS = st.lists(
    st.tuples(
        st.integers(-100, 1500),
        st.dictionaries(st.sampled_from([A, B]), st.sampled_from([0, 10, 100]), max_size=2).map(Serving),
    ),
    max_size=30,
)


@given(LOOKS)
def test_never_more_than_has_passed_and_never_less_than_before(steps: list[tuple[int, Serving]]) -> None:
    rows: tuple[ServedStatus, ...] = ()
    now, passed = 0, 0
    for step, serving in steps:
        before = {(row.digest, row.weight): row.seconds for row in rows}
        now, passed = now + step, passed + max(0, step)
        rows = counted(rows, serving, START + timedelta(seconds=now), GAP)
        for row in rows:
            assert before.get((row.digest, row.weight), 0) <= row.seconds <= passed
        assert len({(row.digest, row.weight) for row in rows}) == len(rows)


def test_one_that_returns_is_not_credited_with_the_figures_of_what_served_meanwhile() -> None:
    good, bad = Serving({A: 100}, {"online.hr1": 0.8}), Serving({B: 100}, {"online.hr1": 0.1})
    returns = Serving({A: 100}, {"online.hr1": 0.1})  # what the status still says in the pass of the switch
    rows = history((0, good), (300, good), (600, bad), (900, bad), (1200, returns))
    assert soak(rows, A, 100, START + timedelta(seconds=1200), GAP).metrics == {"online.hr1": 0.8}
