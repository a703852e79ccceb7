"""Which leaders have to go."""

from star_operator.policy.llmgroup import GroupPod, leaders_to_delete

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", "2026-01-01T01:00:00Z"


def leader(ready: str | None = T1, group: str = "0") -> GroupPod:
    return GroupPod(f"llm-{group}-0", group, leader=True, started=T0, ready_since=ready)


def worker(started: str | None = T0, group: str = "0") -> GroupPod:
    return GroupPod(f"llm-{group}-w-1", group, leader=False, started=started, ready_since=started)


def test_a_group_that_formed_together_is_left_alone() -> None:
    assert leaders_to_delete([leader(), worker()]) == ()


def test_a_worker_that_started_later_is_no_part_of_the_formation() -> None:
    assert leaders_to_delete([leader(), worker(started=T2)]) == ("llm-0-0",)


def test_a_worker_that_does_not_run_breaks_the_formation() -> None:
    assert leaders_to_delete([leader(), worker(started=None)]) == ("llm-0-0",)


def test_a_leader_that_still_waits_is_left_to_wait() -> None:
    assert leaders_to_delete([leader(ready=None), worker(started=T2)]) == ()


def test_groups_are_judged_each_by_itself() -> None:
    pods = [leader(), worker(), leader(group="1"), worker(T2, group="1")]
    assert leaders_to_delete(pods) == ("llm-1-0",)
