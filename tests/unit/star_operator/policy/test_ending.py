"""Why a step's pods ended: what the cluster says of a pod, what it said itself, and what is only a consequence."""

from typing import Any

import pytest

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass, ExitCode, JobError, JobResult
from star_operator.api.common import Compute, RunSpec
from star_operator.api.meta import Phase
from star_operator.builders.pod import Container, PodPlan, pod_template
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import JobView, PodView, RunView, Trouble
from star_operator.policy import run as policy
from star_operator.policy.ending import LIMITS, hopeless, verdict
from star_operator.policy.trouble import explain
from tests.support.goldens import settings

FULL = 'Usage of EmptyDir volume "work" exceeds the limit "20Mi". '
SHORT = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 40Mi. "
    "Container main was using 9Gi, request is 4Gi, has larger consumption of memory. "
)
KILLED = "container main ended with exit code 137 (SIGKILL)"
FAILED = JobView("j", 1, "train", suspended=False, complete=False, failed=True, reason="BackoffLimitExceeded")
RUNNING = JobView("j", 1, "train", suspended=False, complete=False, failed=False)
SHARDS = JobView("j", 1, "train", suspended=False, complete=False, failed=False, completions=2, per_index=True)


def pod(index: int = 0, phase: str = "Failed", **seen: Any) -> PodView:
    return PodView(f"p-{index}", 1, "train", index, phase, **seen)


def said(reason: Reason, terminal: bool = False, message: str = "m") -> JobResult:
    error_class = ErrorClass.TERMINAL if terminal else ErrorClass.RETRYABLE
    return JobResult(error=JobError(error_class=error_class, reason=reason, message=message))


def decide(job: JobView, *pods: PodView, run: RunSpec | None = None, has_artifact: bool = False) -> policy.Decision:
    view = RunView(jobs=(job,), pods=pods)
    return policy.decide(run or RunSpec(), policy.StepView("train", 1, has_artifact, None, view))


@pytest.mark.case("evicted-scratch")
@pytest.mark.parametrize("job", [FAILED, RUNNING, SHARDS])
def test_a_pod_that_outgrew_its_scratch_is_not_tried_again_and_names_the_field(job: JobView) -> None:
    """Its own last word, that it was told to stop, is a consequence."""
    evicted = pod(reason="Evicted", message=FULL, exit_code=75, result=said(Reason.INTERRUPTED))
    expected = (
        'step train: pod p-0 was evicted: Usage of EmptyDir volume "work" exceeds the limit "20Mi"; '
        "raise spec.compute.resources.scratch"
    )
    if job.failed:
        assert hopeless("train", [evicted], 2) is not None
    assert decide(job, evicted) == policy.Fail(Reason.OUT_OF_DISK, expected)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('Usage of EmptyDir volume "shm" exceeds the limit "1Gi". ', "raise shmSize of its pool in the chart's values"),
        ('Usage of EmptyDir volume "istio-envoy" exceeds the limit "1Mi". ', "raise the limit of volume istio-envoy"),
        ('Container main exceeded its local ephemeral storage limit "1Gi". ', "raise the limit of ephemeral-storage"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", "LimitRange"),
    ],
)
def test_every_limit_of_storage_says_what_to_raise(message: str, remedy: str) -> None:
    decision = decide(FAILED, pod(reason="Evicted", message=message, exit_code=137))
    assert isinstance(decision, policy.Fail)
    assert remedy in decision.message


def test_every_volume_with_a_limit_has_a_field_to_raise() -> None:
    plan = PodPlan(Container("jobs", ("true",)), Compute(), {}, operator_token=True)
    volumes = pod_template(plan, settings())["spec"]["volumes"]
    limited = {volume["name"] for volume in volumes if volume.get("emptyDir", {}).get("sizeLimit")}
    assert limited | {"work"} == set(LIMITS)


@pytest.mark.parametrize("compute", ["its server's compute", "spec.server.compute", "spec.gateway"])
def test_a_server_or_a_gateway_that_outgrew_its_scratch_names_the_field_as_well(compute: str) -> None:
    trouble = explain(Trouble(ConditionReason.POD_LOST, f"pod s-0: Evicted: {FULL}"), "ns", (), compute)
    assert trouble is not None
    assert trouble.message.endswith(f"; raise {compute}.resources.scratch")
    assert not trouble.waits, "another one starts"


def test_a_pod_evicted_for_its_node_is_replaced_but_not_for_ever() -> None:
    evicted = pod(reason="Evicted", message=SHORT, disrupted="TerminationByKubelet", exit_code=137)
    waiting = pod(phase="Running")
    decision = decide(RUNNING, evicted, evicted, waiting)
    assert isinstance(decision, policy.Hold)
    assert "2 pods had to be tried again, the last: pod p-0: Evicted: The node was low on resource" in decision.message
    decision = decide(RUNNING, evicted, evicted, evicted, waiting)
    assert isinstance(decision, policy.Fail)
    assert decision.reason is Reason.OUT_OF_MEMORY
    assert "pod p-0 and 2 before it were evicted: The node was low on resource: memory" in decision.message
    assert "raise spec.compute.resources.memory" in decision.message


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ({"reason": "NodeLost", "message": "Node n1 which was running pod p-0 is unresponsive"}, "NodeLost: Node n1"),
        ({"disrupted": "DeletionByTaintManager: Taint manager: deleting due to NoExecute taint"}, "Taint manager"),
        ({"reason": "UnexpectedAdmissionError", "message": "Pod was rejected: Allocate failed"}, "Allocate failed"),
        ({"reason": "OutOfnvidia.com/gpu", "message": "Pod was rejected: Node didn't have enough"}, "OutOfnvidia"),
        (
            {"reason": "Evicted", "message": "Pod was rejected: The node had condition: [DiskPressure]. "},
            "DiskPressure",
        ),
    ],
)
def test_a_lost_pod_is_the_cause_and_what_its_peers_say_a_consequence(lost: dict[str, str], words: str) -> None:
    """A worker whose node is gone makes the others fail, and their logs speak of memory."""
    peer = pod(1, exit_code=65, result=said(Reason.OUT_OF_MEMORY, terminal=True), ended_at="2026-01-01T00:00:01Z")
    why = verdict("train", FAILED, [pod(0, **lost), peer], 2)
    assert (why.reason, why.terminal) == (ConditionReason.POD_LOST, False)
    assert words in why.message


def test_a_pod_that_failed_after_its_replacement_speaks_for_itself() -> None:
    lost = pod(0, reason="NodeLost", disrupted="DeletionByTaintManager")
    again = pod(0, exit_code=65, result=said(Reason.INVALID_DATASET, terminal=True, message="no lines"))
    assert decide(FAILED, lost, again) == policy.Fail(Reason.INVALID_DATASET, "no lines")


def test_of_several_errors_the_first_in_time_is_the_cause() -> None:
    first = pod(
        1, exit_code=75, result=said(Reason.STORE_UNREACHABLE, message="first"), ended_at="2026-01-01T00:00:01Z"
    )
    later = pod(0, exit_code=75, result=said(Reason.INTERRUPTED, message="later"), ended_at="2026-01-01T00:00:09Z")
    assert verdict("train", FAILED, [later, first], 2).message == "first"


def test_a_terminal_exit_code_is_terminal_also_where_its_sentence_is_lost() -> None:
    ended = "container main ended with exit code 65"
    decision = decide(FAILED, pod(exit_code=ExitCode.TERMINAL, ended=ended))
    assert isinstance(decision, policy.Fail)
    assert ended in decision.message


def test_a_signal_is_not_a_lack_of_memory_unless_the_kernel_says_so() -> None:
    assert verdict("train", FAILED, [pod(exit_code=137, ended=KILLED)], 2).reason is ConditionReason.POD_FAILED
    oom = pod(exit_code=137, ended=KILLED, oom_killed=True)
    assert verdict("train", FAILED, [oom], 2).reason is Reason.OUT_OF_MEMORY


DONE = JobResult(metrics={"done": 1})


@pytest.mark.case("side-car")
def test_the_result_of_main_counts_while_a_side_car_goes_on() -> None:
    ended = pod(phase="Running", exit_code=0, lingers=True, result=DONE)
    assert decide(RUNNING, ended) == policy.Finish(DONE)
    assert decide(SHARDS, ended, pod(1, "Succeeded", exit_code=0, result=DONE)) == policy.Finish(
        JobResult(metrics={"done": 2})
    )
    half = decide(SHARDS, ended, pod(1, "Running"))
    assert isinstance(half, policy.Hold)
    assert half.phase is Phase.RUNNING


@pytest.mark.case("side-car")
def test_a_failure_of_main_counts_while_a_side_car_goes_on() -> None:
    broken = pod(phase="Running", exit_code=75, lingers=True, result=said(Reason.STORE_UNREACHABLE))
    assert decide(RUNNING, broken) == policy.Retry(Reason.STORE_UNREACHABLE, "m")
    assert decide(SHARDS, broken, pod(1, "Running")) == policy.EndPods((broken,)), "its shard is tried again"
    hopeless_one = pod(phase="Running", exit_code=65, lingers=True, result=said(Reason.INVALID_DATASET, terminal=True))
    assert decide(SHARDS, hopeless_one, pod(1, "Running")) == policy.Fail(Reason.INVALID_DATASET, "m")
