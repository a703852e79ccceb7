"""Who starts when. Each test is a decision, or a few after one another."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_operator.core.errors import InvalidSpec
from star_operator.policy.schedule.clock import clock
from star_operator.policy.schedule.decide import due, jitter
from star_operator.policy.schedule.requests import Ended, back_fill, outdated, run_now
from star_operator.policy.schedule.texts import sentence
from star_operator.policy.schedule.types import Memory, News, Remembered, Run, Tenant
from tests.support.schedules import HOUR, TICK, known, look, reasons, spec, tenants

DAY = 24 * HOUR


def run(namespace: str, tick: int = TICK - DAY, gpus: int = 0, **fields: Any) -> Run:
    return Run(namespace, f"run-{tick}", tick, gpus, **fields)


def test_all_start_at_the_tick_and_none_again() -> None:
    some = tenants(3)
    first = look(spec(), some)
    assert {start.namespace for start in first.starts} == {"team-0", "team-1", "team-2"}
    assert {start.tick for start in first.starts} == {TICK}
    assert first.next_tick == first.memory.next_look == TICK + DAY
    again = look(spec(), some, memory=first.memory, now=TICK + 1)
    assert not again.starts
    assert not again.waits


def test_a_tenant_that_is_new_is_not_owed_what_lies_behind_it() -> None:
    first = look(spec(), tenants(1), memory=Memory(), now=TICK + HOUR)
    assert not first.starts
    assert [start.tick for start in look(spec(), tenants(1), memory=first.memory, now=TICK + DAY).starts] == [
        TICK + DAY
    ]


def test_a_run_that_is_there_was_started_whoever_died_before_writing_it_down() -> None:
    some = tenants(2)
    found = look(spec(), some, runs=[run("team-0", TICK, live=False)], now=TICK + 5)
    assert [start.namespace for start in found.starts] == ["team-1"]


def test_jitter_spreads_and_the_next_look_is_at_the_next_one() -> None:
    some, spread = tenants(20), spec(jitterSeconds=HOUR)
    memory, started = known(some), {}
    now = TICK
    while now < TICK + HOUR + 1:
        found = look(spread, some, memory=memory, now=now)
        started |= {start.namespace: now for start in found.starts}
        memory, now = found.memory, found.memory.next_look or now
    assert started == {one.namespace: TICK + jitter("uid", one.uid, HOUR) for one in some}
    assert len(set(started.values())) > 15


def test_after_downtime_each_starts_once_for_the_newest_tick_and_spread_anew() -> None:
    some, spread = tenants(30), spec(jitterSeconds=HOUR)
    back = TICK + 3 * DAY + 5 * HOUR
    memory, now, started = replace(known(some), next_look=TICK), back, []
    while now <= back + HOUR:
        found = look(spread, some, memory=memory, now=now)
        started += [(start.namespace, start.tick, now) for start in found.starts]
        memory, now = found.memory, found.memory.next_look or back + DAY
    assert len(started) == len({namespace for namespace, _, _ in started}) == 30
    assert {tick for _, tick, _ in started} == {TICK + 3 * DAY}
    assert {at - back for _, _, at in started} == {jitter("uid", one.uid, HOUR) for one in some}


def test_what_jitter_moved_beyond_the_next_tick_is_not_lost() -> None:
    often, some = spec(schedule="*/10 * * * *", jitterSeconds=HOUR), tenants(5)
    memory, now, ticks = known(some, TICK - 2 * HOUR), TICK, []
    while now < TICK + 2 * HOUR:
        found = look(often, some, memory=memory, now=now)
        ticks += [(start.namespace, start.tick, now) for start in found.starts]
        memory, now = found.memory, found.memory.next_look or 0
    for one in some:
        offset = jitter("uid", one.uid, HOUR)
        mine = [(tick, at) for namespace, tick, at in ticks if namespace == one.namespace]
        assert [at for tick, at in mine[1:]] == [tick + offset for tick, _ in mine[1:]]
        assert [tick for tick, _ in mine[1:]] == list(range(mine[1][0], mine[-1][0] + 1, 600))


def test_the_deadline_counts_whatever_a_run_waited_for() -> None:
    some, soon = tenants(1), spec(startingDeadlineSeconds=600, maxConcurrentRuns=1)
    busy = [run("elsewhere")]
    waiting = look(soon, some, runs=busy)
    assert reasons(waiting) == {"team-0": "RunLimit"}
    assert waiting.memory.next_look == TICK + 601
    late = look(soon, some, memory=waiting.memory, runs=busy, now=TICK + 601)
    assert reasons(late) == {"team-0": "DeadlineMissed"}
    assert not look(soon, some, memory=late.memory, now=TICK + 700).starts
    assert late.memory.tenants["team-0"].since == TICK, "it keeps its age"


@pytest.mark.parametrize(("policy", "starts"), [("Forbid", []), ("Allow", ["team-0"]), ("Replace", [])])
def test_when_the_last_run_has_not_ended(policy: str, starts: list[str]) -> None:
    some, last = tenants(1), run("team-0")
    found = look(spec(concurrencyPolicy=policy), some, runs=[last])
    assert [start.namespace for start in found.starts] == starts
    assert list(found.cancels) == ([last] if policy == "Replace" else [])
    over = replace(last, live=False)
    later = look(spec(concurrencyPolicy=policy), some, memory=found.memory, runs=[over], now=TICK + HOUR)
    assert [start.tick for start in later.starts] == ([] if starts else [TICK])


def test_a_run_is_replaced_only_when_there_is_room_for_the_next_one() -> None:
    some = tenants(1, gpus=8)
    tight = spec(concurrencyPolicy="Replace", gpuBudget=12)
    runs = [run("team-0", gpus=4), run("elsewhere", gpus=8)]
    assert not look(tight, some, runs=runs).cancels
    assert reasons(look(tight, some, runs=runs)) == {"team-0": "GpuBudget"}
    assert look(tight, some, runs=runs[:1]).cancels == (runs[0],)
    ending = [replace(runs[0], cancelling=True)]
    assert not look(tight, some, runs=ending).cancels
    assert reasons(look(tight, some, runs=ending)) == {"team-0": "Replacing"}


def test_the_budget_is_kept_and_the_first_in_the_line_is_not_passed() -> None:
    some = [Tenant("large", "a", gpus=8), *tenants(4, gpus=2)]
    memory = known(some)
    memory = replace(memory, tenants={**memory.tenants, "large": Remembered(TICK - 1, since=TICK - HOUR)})
    found = look(spec(gpuBudget=10), some, memory=memory, runs=[run("elsewhere", gpus=4)])
    assert not found.starts
    assert reasons(found)["large"] == "GpuBudget"
    assert set(reasons(found).values()) == {"GpuBudget", "InLine"}
    free = look(spec(gpuBudget=10), some, memory=found.memory, now=TICK + 60)
    assert free.starts[0].namespace == "large"
    assert sum(start.gpus for start in free.starts) == 10


@pytest.mark.bad_input
def test_a_budget_below_one_runs_need_is_told_and_holds_nobody_up() -> None:
    some = [Tenant("large", "a", priority=10, gpus=16), Tenant("small", "b", gpus=2)]
    found = look(spec(gpuBudget=8), some)
    assert [start.namespace for start in found.starts] == ["small"]
    assert sentence(found.waits[0]) == (
        "a run needs 16 GPUs at once, and spec.gpuBudget is 8: raise it, or make the run smaller"
    )


@pytest.mark.bad_input
def test_overrides_that_do_not_fit_hold_up_their_own_tenant_alone() -> None:
    some = [Tenant("a", "a", fault="ConfigMap retraining: sft: unknown field rate"), Tenant("b", "b")]
    found = look(spec(), some)
    assert [start.namespace for start in found.starts] == ["b"]
    assert [sentence(wait) for wait in found.waits] == ["ConfigMap retraining: sft: unknown field rate"]


def test_a_claim_of_priority_four_ages_four_times_as_fast() -> None:
    some = [Tenant("plain", "p"), Tenant("urgent", "u", priority=4)]
    one = spec(maxConcurrentRuns=1)

    def first(waited: int) -> str:
        memory = Memory(
            {"plain": Remembered(TICK - 1, since=TICK - waited), "urgent": Remembered(TICK - 1, since=TICK - 100)}
        )
        return look(one, some, memory=memory).starts[0].namespace

    assert first(399) == "urgent"
    assert first(500) == "plain"


def test_who_has_a_run_already_waits_twice_as_long() -> None:
    some, both = tenants(2), spec(concurrencyPolicy="Allow", maxConcurrentRuns=2)
    found = look(both, some, memory=known(some, since=TICK - 100), runs=[run("team-0")])
    assert [start.namespace for start in found.starts] == ["team-1"]


def test_equal_claims_take_turns() -> None:
    some, one = tenants(5), spec(maxConcurrentRuns=1)
    firsts = {
        look(one, some, memory=known(some, tick - 1), now=tick).starts[0].namespace
        for tick in range(TICK, TICK + 40 * DAY, DAY)
    }
    assert firsts == {one.namespace for one in some}


def test_windows_hold_back_what_no_person_asked_for() -> None:
    some = tenants(2)
    closed = spec(windows=[{"start": "02:00", "end": "04:00"}])
    found = look(closed, some)
    assert set(reasons(found).values()) == {"WindowClosed"}
    assert found.memory.next_look == TICK + 2 * HOUR
    asked = run_now(found.memory, "team-1", {"team-0", "team-1"}, TICK + 60)
    assert [start.namespace for start in look(closed, some, memory=asked, now=TICK + 60).starts] == ["team-1"]
    assert len(look(closed, some, memory=found.memory, now=TICK + 2 * HOUR).starts) == 2


def test_what_passes_while_suspended_is_not_made_up_for() -> None:
    some = tenants(1)
    still = look(spec(suspend=True), some)
    assert reasons(still) == {"team-0": "Suspended"}
    assert not look(spec(), some, memory=still.memory, now=TICK + HOUR).starts
    assert look(spec(), some, memory=still.memory, now=TICK + DAY).starts


@pytest.mark.parametrize(
    ("news", "starts", "reason"), [(News.YES, 1, None), (News.NO, 0, "NothingNew"), (News.UNKNOWN, 0, "Probing")]
)
def test_new_data_starts_a_run_and_nothing_new_does_not(news: News, starts: int, reason: str | None) -> None:
    some = tenants(1, news=news)
    watching = spec(trigger={"type": "NewData"})
    found = look(watching, some)
    assert len(found.starts) == starts
    assert reasons(found).get("team-0") == reason
    assert due(watching, "uid", known(some), some, [], TICK) == {"team-0": TICK}
    later = look(watching, tenants(1), memory=found.memory, now=TICK + 60)
    assert len(later.starts) == (1 if news is News.UNKNOWN else 0)


def test_drift_starts_a_run() -> None:
    drift = spec(trigger={"type": "Drift", "drift": {"metric": "hrAvg", "below": 0.3}})
    assert reasons(look(drift, tenants(1, news=News.NO))) == {"team-0": "NotDrifted"}
    assert look(drift, tenants(1)).starts


def test_a_run_now_is_started_once_and_stands_for_the_tick_that_waits() -> None:
    some = tenants(2)
    memory = run_now(known(some, TICK), "*", {"team-0", "team-1"}, TICK + 77)
    found = look(spec(), some, memory=memory, now=TICK + 80)
    assert [start.tick for start in found.starts] == [TICK + 77] * 2
    assert not look(spec(), some, memory=found.memory, now=TICK + 81).starts
    healed = look(spec(), some, memory=memory, runs=[run("team-0", TICK + 77)], now=TICK + 80)
    assert [start.namespace for start in healed.starts] == ["team-1"]


def test_a_back_fill_is_run_oldest_first_one_after_the_other() -> None:
    some, one = tenants(1), clock("0 0 * * *", "Etc/UTC")
    memory = back_fill(known(some, TICK), "2026-05-28T00:00:00Z/2026-05-31T00:00:00Z", {"team-0"}, one, TICK)
    runs: list[Run] = []
    ticks = []
    for n in range(5):
        found = look(spec(), some, memory=memory, runs=runs, now=TICK + 60 * n)
        ticks += [start.tick for start in found.starts]
        runs = [run("team-0", start.tick, live=False) for start in found.starts]
        memory = found.memory
    assert ticks == [TICK - 4 * DAY, TICK - 3 * DAY, TICK - 2 * DAY]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("last week", "write <from>/<to>"),
        ("2026-05-01T00:00:00Z/2026-06-01T00:00:00Z", "more than 8 times"),
        ("2027-05-01T00:00:00Z/2027-06-01T00:00:00Z", "no time that has passed"),
    ],
)
def test_a_back_fill_that_cannot_be(value: str, says: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        back_fill(Memory(), value, {"team-0"}, clock("0 0 * * *", "Etc/UTC"), TICK)
    assert says in refusal.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize("value", ["team-9", "team-0,team-9", "", ","])
def test_a_run_now_of_a_namespace_that_takes_no_part(value: str) -> None:
    with pytest.raises(InvalidSpec, match="name namespaces that take part"):
        run_now(Memory(), value, {"team-0"}, TICK)


def test_history_keeps_the_newest_and_what_is_served() -> None:
    runs = [Ended("a", f"r{n}", n, succeeded=n % 2 == 0, referred=n == 0) for n in range(10)]
    gone = outdated(spec(successfulRunsHistoryLimit=2, failedRunsHistoryLimit=1), runs, 100)
    assert [one.name for one in gone] == ["r1", "r2", "r3", "r4", "r5", "r7"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10), st.integers(0, 9)), min_size=1, max_size=20),
    st.integers(1, 30),
    st.one_of(st.none(), st.integers(1, 6)),
    st.lists(st.integers(0, 9), max_size=4),
)
def test_no_decision_breaks_a_limit(
    some: list[tuple[int, int]], budget: int, limit: int | None, held: list[int]
) -> None:
    tenants_ = [Tenant(f"t{n}", f"u{n}", priority, gpus) for n, (priority, gpus) in enumerate(some)]
    runs = [run(f"other-{n}", gpus=gpus) for n, gpus in enumerate(held)]
    fields = {"gpuBudget": budget} | ({"maxConcurrentRuns": limit} if limit is not None else {})
    found = look(spec(**fields), tenants_, runs=runs)
    if found.starts:
        assert sum(start.gpus for start in found.starts) + sum(held) <= budget
        assert limit is None or len(found.starts) + len(held) <= limit
    assert len({start.namespace for start in found.starts}) == len(found.starts)
    told = {start.namespace for start in found.starts} | {wait.namespace for wait in found.waits}
    assert told == {one.namespace for one in tenants_}
    assert all(sentence(wait) for wait in found.waits)
