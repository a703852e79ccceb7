import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.api.common import Compute, RunSpec
from star_operator.api.meta import Phase, StepStatus
from star_operator.core.reasons import ConditionReason
from star_operator.core.views import JobView, PodView, RunView, ServerView, Trouble
from star_operator.policy import run as policy

ARTIFACT = ArtifactRef(uri="s3://star/ns/sftjob/a/1/train", digest="sha256:" + "a" * 64)
NO_NODE = Trouble("Unschedulable", "pod a-0 waits for a node: 8 x nvidia.com/gpu wanted on any node")
DONE = JobResult(artifact=ARTIFACT, bytes=7, metrics={"loss": 1.5})


def error(error_class: ErrorClass, reason: str = "StoreUnreachable") -> JobResult:
    return JobResult(error=JobError(error_class=error_class, reason=reason, message="the store did not answer"))


def job(**changes: object) -> JobView:
    values: dict[str, object] = {
        "name": "a-sft-1-train",
        "attempt": 1,
        "step": "train",
        "suspended": False,
        "complete": False,
        "failed": False,
    }
    return JobView(**{**values, **changes})  # type: ignore[arg-type]


def pod(result: JobResult | None = None, **changes: object) -> PodView:
    values: dict[str, object] = {"name": "p", "attempt": 1, "step": "train", "index": 0, "phase": "Running"}
    return PodView(**{**values, "result": result, **changes})  # type: ignore[arg-type]


def decide(
    *children: JobView | PodView,
    run: RunSpec | None = None,
    attempt: int = 1,
    remembered: StepStatus | None = None,
    has_artifact: bool = True,
    servers: tuple[ServerView, ...] = (),
    compute: Compute | None = None,
) -> policy.Decision:
    view = RunView(
        jobs=tuple(child for child in children if isinstance(child, JobView)),
        pods=tuple(child for child in children if isinstance(child, PodView)),
    )
    step = policy.StepView("train", attempt, has_artifact, remembered, view, servers, compute)
    return policy.decide(run or RunSpec(), step)


def test_a_step_without_a_job_is_started() -> None:
    assert decide() == policy.Start()


def test_a_suspended_run_starts_nothing() -> None:
    decision = decide(run=RunSpec(suspend=True))
    assert isinstance(decision, policy.Hold)
    assert decision.phase is Phase.SUSPENDED


def test_a_complete_job_with_a_result_finishes_the_step() -> None:
    assert decide(job(complete=True), pod(DONE, phase="Succeeded")) == policy.Finish(DONE)


def test_shards_without_an_artifact_add_their_metrics_up() -> None:
    parts = [pod(JobResult(metrics={"done": 2}), index=0), pod(JobResult(metrics={"done": 3}), index=1)]
    assert decide(job(complete=True), *parts, has_artifact=False) == policy.Finish(JobResult(metrics={"done": 5}))


def test_a_result_lost_with_its_pod_is_asked_for_again() -> None:
    decision = decide(job(complete=True))
    assert isinstance(decision, policy.Retry)
    assert decision.reason == "ResultLost"


def test_a_terminal_error_is_never_retried() -> None:
    decision = decide(job(failed=True), pod(error(ErrorClass.TERMINAL, "ArtifactCorrupted")))
    assert decision == policy.Fail("ArtifactCorrupted", "the store did not answer")


def test_a_retryable_error_is_retried_until_the_attempts_are_used_up() -> None:
    failed, why = job(failed=True, attempt=1), pod(error(ErrorClass.RETRYABLE))
    assert decide(failed, why) == policy.Retry("StoreUnreachable", "the store did not answer")
    decision = decide(failed, why, run=RunSpec(retries=0))
    assert isinstance(decision, policy.Fail)
    assert "gave up after 1 attempt; spec.retries is 0" in decision.message


def test_a_pod_that_died_without_a_word_is_retryable_and_says_its_exit_code() -> None:
    ended = "container main ended with exit code 137 (SIGKILL)"
    decision = decide(job(failed=True, message="BackoffLimitExceeded"), pod(exit_code=137, ended=ended))
    assert decision == policy.Retry(ConditionReason.POD_FAILED, f"step train: pod p: {ended}")


def test_out_of_memory_names_the_field_to_raise() -> None:
    decision = decide(job(failed=True), pod(oom_killed=True, exit_code=137))
    assert isinstance(decision, policy.Retry)
    assert "spec.compute.resources.memoryLimit" in decision.message


def test_a_deadline_is_terminal_and_names_its_field() -> None:
    decision = decide(job(failed=True, reason="DeadlineExceeded"))
    assert isinstance(decision, policy.Fail)
    assert "spec.activeDeadlineSeconds" in decision.message


def test_a_failed_attempt_is_gone_before_the_next_one_counts() -> None:
    remembered = StepStatus(name="train", phase=Phase.FAILED)
    assert decide(job(failed=True), remembered=remembered) == policy.ClearAttempt()
    assert decide(pod(phase="Running"), remembered=remembered) == policy.ClearAttempt(), "its pods count too"
    assert decide(remembered=remembered) == policy.NextAttempt()


def test_suspend_is_handed_to_the_running_job_and_taken_back() -> None:
    assert decide(job(), run=RunSpec(suspend=True)) == policy.SetSuspended(True)
    assert decide(job(suspended=True)) == policy.SetSuspended(False)


def test_a_job_its_queue_has_not_admitted_reads_as_queued_and_is_left_alone() -> None:
    decision = decide(job(suspended=True, queue="gpu"))
    assert isinstance(decision, policy.Hold)
    assert decision.phase is Phase.QUEUED


def test_a_waiting_pod_says_why_in_the_schedulers_words() -> None:
    decision = decide(job(active=1), pod(phase="Pending", trouble=NO_NODE))
    assert decision == policy.Hold(Phase.WAITING, "Unschedulable", f"step train: {NO_NODE.message}")


def test_a_group_that_lacks_one_of_its_pods_says_so() -> None:
    decision = decide(job(), pod(), pod(phase="Pending", trouble=NO_NODE))
    text = f"step train is running; 1 of 2 pods wait: {NO_NODE.message}"
    assert decision == policy.Hold(Phase.RUNNING, "Running", text)


def test_a_server_without_a_node_is_waited_for_and_one_that_starts_is_not_waiting() -> None:
    starting, stuck = ServerView("llm-1", ready=False), ServerView("llm-2", ready=False, trouble=NO_NODE)
    text = "step train waits for LLM server llm-"
    assert decide(job(), pod(), servers=(starting,)) == policy.Hold(
        Phase.RUNNING, "ServerStarting", f"{text}1: starting"
    )
    assert decide(job(), pod(), servers=(starting, stuck)) == policy.Hold(
        Phase.WAITING, "Unschedulable", f"{text}2: {NO_NODE.message}"
    )


def test_a_server_whose_container_failed_is_starting_again() -> None:
    failed = ServerView(
        "llm-1", ready=False, trouble=Trouble(ConditionReason.CONTAINER_FAILED, "container main failed: exit code 1")
    )
    decision = decide(job(), pod(), servers=(failed,))
    assert isinstance(decision, policy.Hold)
    assert (decision.phase, decision.reason) == (Phase.RUNNING, "ServerStarting")
    assert decision.message.endswith("container main failed: exit code 1")


def test_a_job_that_may_not_make_its_pods_says_who_refused_them() -> None:
    refused = Trouble("PodsRefused", 'Job a cannot make its pods: pods "a-0" is forbidden: exceeded quota: team')
    decision = decide(job(trouble=refused))
    assert decision == policy.Hold(Phase.WAITING, "PodsRefused", f"step train: {refused.message}")


def test_another_deadline_is_handed_to_the_running_job() -> None:
    assert decide(job(deadline=60), run=RunSpec(active_deadline_seconds=90)) == policy.SetDeadline(90)
    assert decide(job(deadline=60), pod()) == policy.SetDeadline(None)
    assert isinstance(decide(job(deadline=60), run=RunSpec(active_deadline_seconds=60)), policy.Hold)


def test_a_server_that_can_never_start_fails_the_run() -> None:
    fatal = JobError(error_class=ErrorClass.TERMINAL, reason="ArtifactCorrupted", message="model.safetensors differs")
    decision = decide(job(), pod(), servers=(ServerView("llm-1", ready=False, fatal=fatal),))
    assert decision == policy.Fail("ArtifactCorrupted", "LLM server llm-1 cannot start: model.safetensors differs")


def test_retry_delays_grow_to_a_limit() -> None:
    assert [policy.retry_delay(n) for n in (1, 2, 3, 10)] == [10, 20, 40, 300]


@pytest.mark.case("queue-corrected")
def test_a_job_that_waits_is_made_anew_for_another_queue_or_priority() -> None:
    queued = job(suspended=True, queue="gpu", queue_asked="gpu", priority_asked="low")
    same = Compute(queue_name="gpu", priority_class_name="low")
    assert isinstance(decide(queued, compute=same), policy.Hold)
    for other in (Compute(queue_name="cpu", priority_class_name="low"), Compute(queue_name="gpu"), Compute()):
        assert decide(queued, compute=other) == policy.ClearAttempt()
    stuck = job(queue_asked="", priority_asked="low")
    assert decide(stuck, pod(phase="Pending"), compute=Compute()) == policy.ClearAttempt(), "it waits for a node"
    assert isinstance(decide(stuck, pod(phase="Running"), compute=Compute()), policy.Hold), "it works already"


def test_a_queue_that_kueue_gave_by_itself_is_left_alone() -> None:
    given = job(suspended=True, queue="default", queue_asked="", priority_asked="")
    assert isinstance(decide(given, compute=Compute()), policy.Hold)


def test_a_job_of_an_older_operator_keeps_its_place_in_the_queue() -> None:
    older = job(suspended=True, queue="gpu")
    assert isinstance(decide(older, compute=Compute(queue_name="gpu", priority_class_name="low")), policy.Hold)


def test_what_a_suspended_job_leaves_is_no_side_cars_doing() -> None:
    queued = job(suspended=True, queue="gpu", queue_asked="gpu", priority_asked="")
    leaving = pod(phase="Running", exit_code=75, lingers=True)
    assert isinstance(decide(queued, leaving, compute=Compute(queue_name="gpu")), policy.Hold)


@pytest.mark.case("queue-corrected")
def test_a_queued_job_says_what_kueue_says() -> None:
    why = Trouble(ConditionReason.QUEUE_MISSING, "LocalQueue gpu doesn't exist; correct it")
    decision = decide(job(suspended=True, queue="gpu", trouble=why))
    text = "Job a-sft-1-train waits in queue gpu to be admitted: LocalQueue gpu doesn't exist; correct it"
    assert decision == policy.Hold(Phase.QUEUED, ConditionReason.QUEUE_MISSING, text)
