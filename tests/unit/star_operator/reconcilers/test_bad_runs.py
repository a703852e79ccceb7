"""What goes wrong at run time, from the job's typed result to the resource's condition: it ends, and it says why.

What makes each of these results is tested where the jobs are (the tests marked `bad_input` under tests/unit/star_jobs):
an unreachable store, wrong credentials, a flipped byte, a truncated dataset, an LLM that is down or talks nonsense,
no trajectory kept.
"""

from typing import Any

import pytest

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.reconcilers import recdataset
from tests.support.star import DATASET, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, STORE_SECRET, World

SENTENCE = "spec.source.uri: s3://star/raw holds 3 of 4 files; upload the missing one"

pytestmark = pytest.mark.bad_input


def run_of_a_dataset(retries: int) -> World:
    return World(recdataset.KIND, star("RecDataset", NAMESPACE, "d", {**DATASET, "retries": retries}))


def failure(reason: str, error_class: ErrorClass) -> JobResult:
    return JobResult(error=JobError(error_class=error_class, reason=reason, message=SENTENCE))


def condition(world: World, type_: str) -> dict[str, Any]:
    return next((found for found in world.status["conditions"] if found["type"] == type_), {})


@pytest.mark.parametrize("reason", list(Reason))
def test_a_terminal_error_ends_the_run_at_once_in_the_jobs_own_words(reason: Reason) -> None:
    world = run_of_a_dataset(retries=2)
    world.passes(1)
    world.ends(failure(reason, ErrorClass.TERMINAL), exitCode=65)
    world.passes()
    assert (world.status["phase"], world.status["attempt"]) == ("Failed", 1)
    assert (condition(world, "Ready")["reason"], condition(world, "Failed")["status"]) == (reason, "True")
    assert ready_message(world.status) == SENTENCE
    assert world.cluster.writes.count("apply Job/d-rds-1-prepare") == 1
    assert "apply Job/d-rds-2-prepare" not in world.cluster.writes


@pytest.mark.parametrize("reason", list(Reason))
def test_a_retryable_error_is_tried_again_as_often_as_the_spec_says_and_no_more(reason: Reason) -> None:
    world = run_of_a_dataset(retries=1)
    world.passes(1)
    world.ends(failure(reason, ErrorClass.RETRYABLE), exitCode=75)
    world.passes(1)
    assert (world.status["phase"], condition(world, "Ready")["reason"]) == ("Waiting", reason)
    assert f"attempt 1 failed: {SENTENCE}; next attempt at " in ready_message(world.status)
    world.passes()
    assert [job["metadata"]["name"] for job in world.cluster.of("Job")] == ["d-rds-2-prepare"], "the first is gone"
    world.ends(failure(reason, ErrorClass.RETRYABLE), exitCode=75)
    world.passes(8)
    assert (world.status["phase"], world.status["attempt"]) == ("Failed", 2)
    assert ready_message(world.status) == f"{SENTENCE} (gave up after 2 attempts; spec.retries is 1)"
    assert sum(write.startswith("apply Job/") for write in world.cluster.writes) == 2


def test_a_process_that_is_killed_for_its_memory_names_the_field_to_raise_and_gives_up_as_well() -> None:
    world = run_of_a_dataset(retries=0)
    world.passes(1)
    world.ends(None, exitCode=137, reason="OOMKilled")
    world.passes()
    assert (world.status["phase"], condition(world, "Ready")["reason"]) == ("Failed", "OutOfMemory")
    assert "raise spec.compute.resources.memoryLimit" in ready_message(world.status)


def test_a_process_that_dies_without_a_word_says_its_exit_code_and_gives_up_as_well() -> None:
    world = run_of_a_dataset(retries=0)
    world.passes(1)
    world.ends(None, exitCode=139)
    world.passes()
    assert world.status["phase"] == "Failed"
    assert "container main ended with exit code 139 (SIGSEGV)" in ready_message(world.status)


@pytest.mark.parametrize("missing", ["the Secret", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("empty", [False, True])
def test_without_the_stores_credentials_nothing_is_started(missing: str, empty: bool) -> None:
    world = run_of_a_dataset(retries=0)
    place = ("Secret", NAMESPACE, STORE_SECRET)
    if missing == "the Secret":
        secret = world.cluster.objects.pop(place)
    else:
        secret = {**world.cluster.objects[place]}
        world.cluster.objects[place] = {**secret, "data": {**secret["data"], missing: ""}}
        if not empty:
            del world.cluster.objects[place]["data"][missing]
    world.passes()
    assert world.status["phase"] == "Waiting"
    assert STORE_SECRET in ready_message(world.status)
    assert ("no Secret" if missing == "the Secret" else missing) in ready_message(world.status)
    assert world.cluster.of("Job") == []
    world.cluster.objects[place] = secret
    world.passes(1)
    assert len(world.cluster.of("Job")) == 1, "it goes on by itself"


CREATING = {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
NO_NODE = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}


@pytest.mark.parametrize(
    ("pod", "later"),
    [
        pytest.param(None, 15.0, id="no pod: a quota may refuse it, which only an Event tells"),
        pytest.param(CREATING, 15.0, id="no container: a volume may wait, which only an Event tells"),
        pytest.param(NO_NODE, None, id="no node: the pod itself will tell"),
        pytest.param({"phase": "Running"}, None, id="it runs"),
    ],
)
def test_only_what_is_told_in_events_is_looked_at_by_the_clock(pod: dict[str, Any] | None, later: float | None) -> None:
    world = run_of_a_dataset(retries=0)
    world.passes(1)
    if pod is not None:
        world.pod({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"} | pod if pod is not NO_NODE else pod)
    world.passes(1)
    assert world.queue.later == later


def test_a_volume_that_waits_for_a_key_is_told_from_its_event() -> None:
    world = run_of_a_dataset(retries=0)
    world.passes(1)
    world.pod({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"} | CREATING)
    [pod] = world.cluster.of("Pod")
    world.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "x", "namespace": NAMESPACE},
            "involvedObject": {"uid": pod["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedMount",
            "message": f'MountVolume.SetUp failed for volume "star" : secret "{STORE_SECRET}" not found',
        }
    )
    world.passes(1)
    assert (world.status["phase"], condition(world, "Ready")["reason"]) == ("Waiting", "SecretMissing")
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in ready_message(world.status)
