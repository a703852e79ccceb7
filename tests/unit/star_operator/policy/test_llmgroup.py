"""Which pods of a group have to start anew."""

from dataclasses import replace

from star_operator.core.views import GroupMember
from star_operator.policy.llmgroup import pods_to_delete

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", "2026-01-01T01:00:00Z"


def pod(name: str, started: str | None = T0, ready: str | None = T1, group: str = "0") -> GroupMember:
    return GroupMember(f"llm-{group}-{name}", f"uid-{name}", group, started=started, ready_since=ready)


def gone(*pods: GroupMember) -> list[str]:
    return [pod.name for pod in pods_to_delete(pods)]


LEADER, ONE, TWO = pod("0"), pod("w-1"), pod("w-2")


def test_a_group_that_formed_together_is_left_alone() -> None:
    assert gone(LEADER, ONE, TWO) == []


def test_a_worker_that_started_later_takes_the_rest_of_its_group_with_it() -> None:
    assert gone(LEADER, replace(ONE, started=T2, ready_since=None), TWO) == ["llm-0-0", "llm-0-w-2"]


def test_a_worker_that_does_not_run_breaks_the_formation_before_its_successor_starts() -> None:
    assert gone(LEADER, replace(ONE, started=None, ready_since=None), TWO) == ["llm-0-0", "llm-0-w-2"]


def test_a_leader_that_restarted_takes_its_workers_with_it() -> None:
    assert gone(replace(LEADER, started=T2, ready_since=None), ONE, TWO) == ["llm-0-w-1", "llm-0-w-2"]


def test_a_container_that_restarted_within_its_pod_and_is_ready_again_counts_as_well() -> None:
    assert gone(LEADER, replace(ONE, started=T2, ready_since=T2), TWO) == ["llm-0-0", "llm-0-w-2"]


def test_pods_that_wait_for_each_other_are_left_to_wait() -> None:
    waiting = [replace(one, ready_since=None) for one in (LEADER, ONE)]
    assert gone(*waiting, replace(TWO, started=None, ready_since=None)) == []


def test_a_pod_that_goes_already_is_not_deleted_again() -> None:
    assert gone(replace(LEADER, deleting=True), replace(ONE, started=T2, ready_since=None), TWO) == ["llm-0-w-2"]


def test_groups_are_judged_each_by_itself() -> None:
    other = [pod("0", group="1"), pod("w-1", started=T2, ready=None, group="1")]
    assert gone(LEADER, ONE, TWO, *other) == ["llm-1-0"]
