"""A step's servers are started when one of its pods asks for them, by being ready, and are kept until it ends."""

from typing import Any

import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.api.meta import Phase
from star_operator.core.objects import KubeObject
from star_operator.reconcilers import evaluation, teacherrun
from star_operator.reconcilers.run import RunKind
from tests.support.fakecluster import FakeCluster
from tests.support.star import DATASET, DIGEST, checkpoint, ready_message, star
from tests.unit.star_operator.reconcilers.conftest import NAMESPACE, World

DIGITS = {"base": "1", "planner": "2"}
STARTING: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
ASKING: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
REUSED = JobResult(artifact=ArtifactRef(uri="s3://star/x", digest=DIGEST), bytes=1, reused=True)
LOST = JobResult(error=JobError(error_class=ErrorClass.RETRYABLE, reason="StoreUnreachable", message="no answer"))


def server(name: str) -> dict[str, Any]:
    return {"server": {"model": {"checkpoint": name}}}


def world(kind: RunKind[Any], name: str, spec: dict[str, Any]) -> World:
    dataset = star("RecDataset", NAMESPACE, "d", DATASET)
    dataset["status"] = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": DIGEST}}
    models = [checkpoint(NAMESPACE, model, "sha256:" + digit * 64) for model, digit in DIGITS.items()]
    return World(kind, star(name, NAMESPACE, "r", {"dataset": {"name": "d"}, **spec}), dataset, *models)


@pytest.fixture
def run() -> World:
    """An Evaluation whose pod has started."""
    started = world(evaluation.KIND, "Evaluation", {"llm": server("base"), "settings": {"tools": False}})
    started.passes(1)
    started.pod(STARTING)
    return started


def servers(run: World) -> list[KubeObject]:
    return run.cluster.of("Service")


def users(run: World) -> list[int]:
    """How many users each server has."""
    return [len(found["metadata"].get("ownerReferences", [])) for found in servers(run)]


def suspend(run: World, suspended: bool) -> None:
    run.cluster.objects["Evaluation", NAMESPACE, "r"]["spec"]["suspend"] = suspended


def test_work_that_is_found_done_starts_no_server(run: World) -> None:
    run.passes(2)
    assert (run.status["phase"], ready_message(run.status)) == (Phase.RUNNING, "step evaluate is running")
    run.ends(REUSED)
    run.passes(3)
    assert (run.status["phase"], ready_message(run.status)) == (Phase.SUCCEEDED, "artifact of equal work reused")
    assert {write for write in run.cluster.writes if "Service/" in write or "Deployment/" in write} == set()


def test_shards_whose_whole_is_there_start_no_server_and_the_run_counts_as_reused() -> None:
    run = world(teacherrun.KIND, "TeacherRun", {"llm": server("base"), "agents": {"tools": False}})
    run.passes(1)
    for result in (JobResult(reused=True), REUSED):
        run.ends(result)
        run.passes(3)
    assert (run.status["phase"], ready_message(run.status)) == (Phase.SUCCEEDED, "artifact of equal work reused")
    assert [(step["name"], step["reused"]) for step in run.status["steps"]] == [("generate", True), ("collect", True)]
    assert servers(run) == []


def test_a_pod_that_asks_gets_its_server_and_the_status_says_so(run: World) -> None:
    run.pod(ASKING)
    run.passes(1)
    assert users(run) == [1]
    assert len(run.cluster.of("Deployment")) == 1
    assert "step evaluate waits for LLM server llm-" in ready_message(run.status)
    run.ends(REUSED)
    run.passes(2)
    assert (run.status["phase"], users(run)) == (Phase.SUCCEEDED, [0])


@pytest.mark.parametrize("gone", [True, False])
def test_a_pod_that_starts_anew_does_not_cost_the_server_that_is_loading(run: World, gone: bool) -> None:
    run.pod(ASKING)
    run.passes(1)
    if gone:
        [pod] = run.cluster.of("Pod")
        del run.cluster.objects["Pod", NAMESPACE, pod["metadata"]["name"]]
    else:
        run.pod(STARTING)
    run.passes(2)
    assert users(run) == [1]
    assert "step evaluate waits for LLM server llm-" in ready_message(run.status)


def test_the_next_attempt_goes_on_with_the_server_of_the_one_before(run: World) -> None:
    run.pod(ASKING)
    run.passes(1)
    run.ends(LOST, exitCode=75)
    run.passes(4)
    assert (run.status["attempt"], users(run)) == (2, [1])
    run.pod(STARTING)
    run.passes(1)
    assert users(run) == [1]
    run.ends(REUSED)
    run.passes(2)
    assert (run.status["phase"], users(run)) == (Phase.SUCCEEDED, [0])


def test_the_next_attempt_asks_for_itself_where_none_asked_before(run: World) -> None:
    run.ends(LOST, exitCode=75)
    run.passes(4)
    run.pod(STARTING)
    run.passes(1)
    assert (run.status["attempt"], servers(run)) == (2, [])
    run.pod(ASKING)
    run.passes(1)
    assert users(run) == [1]


def test_a_suspended_run_keeps_no_server_though_its_pods_take_their_time_to_go(run: World) -> None:
    run.pod(ASKING)
    run.passes(1)
    suspend(run, True)
    run.passes(3)
    assert (run.status["phase"], users(run)) == (Phase.SUSPENDED, [0])
    suspend(run, False)
    run.pod(STARTING)
    run.passes(2)
    assert users(run) == [0], "the new pod has not asked yet"
    run.pod(ASKING)
    run.passes(1)
    assert users(run) == [1]


def test_a_run_that_its_queue_puts_back_keeps_no_server(run: World) -> None:
    run.pod(ASKING)
    run.passes(1)
    [job] = run.cluster.of("Job")
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "research"
    job["spec"]["suspend"] = True
    run.passes(1)
    assert (run.status["phase"], users(run)) == (Phase.QUEUED, [0])


def test_one_pod_asks_for_all_servers_of_its_step_also_when_the_operator_ended_between_two() -> None:
    teacher = {"llm": server("base"), "agentLlms": {"planner": server("planner")}, "agents": {"tools": False}}
    run = world(teacherrun.KIND, "TeacherRun", {**teacher, "shards": 3})
    run.passes(1)
    run.pod(STARTING, 0)
    run.pod({"phase": "Succeeded"}, 1)
    run.passes(1)
    assert servers(run) == []
    run.pod(ASKING, 2)
    run.passes(1)
    assert users(run) == [1, 1]
    first, _ = servers(run)
    del run.cluster.objects["Service", NAMESPACE, first["metadata"]["name"]]
    run.pod(STARTING, 2)
    run.passes(1)
    assert users(run) == [1, 1]


def test_before_a_pod_asks_a_pass_reads_one_object_a_server_and_writes_none(
    run: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.passes(1)
    read: list[str] = []
    get, listed = FakeCluster.get, FakeCluster.list_objects

    async def counted_get(self: FakeCluster, rtype: Any, *place: str) -> KubeObject | None:
        read.append(rtype.kind)
        return await get(self, rtype, *place)

    async def counted_list(self: FakeCluster, rtype: Any, *args: Any) -> list[KubeObject]:
        read.append(rtype.kind)
        return await listed(self, rtype, *args)

    monkeypatch.setattr(FakeCluster, "get", counted_get)
    monkeypatch.setattr(FakeCluster, "list_objects", counted_list)
    run.cluster.writes.clear()
    run.passes(1)
    assert sorted(read) == ["Evaluation", "Job", "Pod", "Service"], "what it was started on is in its status"
    assert run.cluster.writes == []


@pytest.mark.bad_input
def test_a_server_that_cannot_be_built_fails_the_run_before_a_pod_starts() -> None:
    nowhere = {"server": {**server("base")["server"], "compute": {"pool": "h200"}}}
    run = world(evaluation.KIND, "Evaluation", {"llm": nowhere, "settings": {"tools": False}})
    run.passes(1)
    assert run.status["phase"] == Phase.FAILED
    assert "spec.llm.server.compute.pool" in ready_message(run.status)
    assert run.cluster.of("Job") == []
