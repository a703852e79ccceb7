"""The sharded stage as a job: real S3, a scripted model, pods that die."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_contracts.job import GenerateTrajectories, JobSpec, LLMEndpoint
from star_contracts.limits import TokenPrices
from star_contracts.result import JobResult
from star_contracts.settings import Agents
from star_jobs.__main__ import load_entry
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.runtime import run_job
from star_jobs.storage import WorkArea
from star_jobs.teacher.ledger import Ledger
from star_jobs.teacher.records import FOLDER, RunRecord
from star_jobs.teacher.worklist import WorkItem, derived_seed, work_items
from tests.support.fakellm import Answer, FakeLLM, Request, any_valid_answer, fake_llm
from tests.support.s3 import free_port, taken_port
from tests.unit.star_jobs.teacher.conftest import Classroom
from tests.unit.star_jobs.teacher.test_mars import kind_of

DEADLINE_SECONDS = 60


def run(spec: JobSpec) -> JobResult:
    return run_job(spec, load_entry, threading.Event())


def names(classroom: Classroom) -> set[str]:
    return set(classroom.work.list(FOLDER))


def expected(classroom: Classroom, passes: int = 2) -> list[WorkItem]:
    return work_items(classroom.tasks, passes)


def first_seed(item: WorkItem) -> int:
    """The seed of a run's first request."""
    return derived_seed(f"{item.seed}/planner//0")


def test_every_task_and_pass_is_made_once(classroom: Classroom) -> None:
    with fake_llm() as llm:
        result = run(classroom.spec(classroom.generate(llm.endpoint(concurrency=8))))
    assert names(classroom) == {item.name for item in expected(classroom)}
    assert result.artifact is None
    assert (result.metrics["made"], result.metrics["found"], result.metrics["regenerated"]) == (16, 0, 0)
    assert result.metrics["promptTokens"] > 0
    assert result.metrics["calls"] == len(llm.requests)
    record = RunRecord.model_validate_json(classroom.work.get(expected(classroom)[3].name) or b"")
    assert (record.task_id, record.pass_index) == (classroom.tasks[3].task_id, 0)


def test_a_teacher_without_tools_reads_the_summaries_all_the_same(classroom: Classroom) -> None:
    """Paper section 5: without tools is not without the abstractor."""
    with fake_llm() as llm:
        run(classroom.spec(classroom.generate(llm.endpoint(), agents=Agents(tools=False), passes=1)))
    assert "calls" not in set(map(kind_of, llm.requests))
    told = ["Long-term summary: The first 6 films" in request["messages"][1]["content"] for request in llm.requests]
    assert any(told)
    assert not all(told), "one history of eight is long"


def test_equal_seeds_make_equal_trajectories(classroom: Classroom) -> None:
    texts = []
    for _ in range(2):
        with fake_llm() as llm:
            run(classroom.spec(classroom.generate(llm.endpoint())))
        records = [RunRecord.model_validate_json(classroom.work.get(item.name) or b"") for item in expected(classroom)]
        texts.append([(record.trajectory, [answer.key for answer in record.answers]) for record in records])
        for item in expected(classroom):
            classroom.work.delete(item.name)
    assert texts[0] == texts[1]


def test_shards_share_the_work_without_overlap(classroom: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_llm() as llm:
        for index in range(3):
            monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
            result = run(classroom.spec(classroom.generate(llm.endpoint()), shards=3))
            assert result.metrics["made"] in (5, 6)
            assert result.metrics["found"] == 0
    assert names(classroom) == {item.name for item in expected(classroom)}
    planned = Counter(request["seed"] for request in llm.requests if kind_of(request) == "plan")
    assert set(planned.values()) == {1}


def test_what_a_run_waits_for_other_runs_is_no_time_of_its_own(classroom: Classroom) -> None:
    with fake_llm(latency_seconds=0.02) as llm:
        result = run(classroom.spec(classroom.generate(llm.endpoint(concurrency=1))))
    records = [RunRecord.model_validate_json(classroom.work.get(name) or b"") for name in names(classroom)]
    assert all(record.seconds > 0 for record in records)
    # At least two runs share the one call at any time: their waits included, it would be twice as much or more.
    assert sum(record.seconds for record in records) < 1.5 * result.metrics["seconds"]


def test_any_beginning_of_the_work_is_balanced_over_types(make_classroom: Callable[[int], Classroom]) -> None:
    classroom = make_classroom(2)
    order = [(item.pass_index, item.task.task_id) for item in work_items(classroom.tasks, 3)]
    assert [index for index, _ in order] == [0] * 4 + [1] * 4 + [2] * 4
    assert order[:4] == [(0, task.task_id) for task in classroom.tasks]


def test_a_finished_shard_asks_the_model_nothing_and_does_not_ask_for_it(classroom: Classroom) -> None:
    with fake_llm() as llm:
        with taken_port() as port:
            unfinished = failure_of(classroom, llm.endpoint(ask_port=port))
        assert f"cannot listen on port {port}" in unfinished.message
        run(classroom.spec(classroom.generate(llm.endpoint())))
        asked = len(llm.requests)
        with taken_port() as port:
            result = run(classroom.spec(classroom.generate(llm.endpoint(ask_port=port))))
        assert len(llm.requests) == asked
    assert (result.metrics["made"], result.metrics["found"]) == (0, 16)


def test_a_trajectory_another_pod_finished_first_is_left_and_counted(classroom: Classroom) -> None:
    """Two pods of one index can live for a while when a node is lost: the first one to finish wins."""
    theirs = expected(classroom)[0]
    written = threading.Event()

    def script(request: Request) -> Answer:
        if not written.is_set() and request["seed"] == first_seed(theirs):
            classroom.work.put(theirs.name, b"theirs")
            written.set()
        return any_valid_answer(request)

    with fake_llm(script) as llm:
        result = run(classroom.spec(classroom.generate(llm.endpoint())))
    assert result.metrics["regenerated"] == 1
    assert classroom.work.get(theirs.name) == b"theirs"


class Pod:
    """`star-job` as a process of its own, as a pod runs it."""

    def __init__(self, classroom: Classroom, stage: GenerateTrajectories, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        spec = folder / "job.json"
        spec.write_text(classroom.spec(stage).model_dump_json(by_alias=True))
        environment = os.environ | {"STAR_JOB_SPEC": str(spec), "STAR_WORK_DIR": str(folder)}
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "star_jobs"], env=environment, stdout=self.log.open("wb"), stderr=subprocess.STDOUT
        )

    def wait(self) -> int:
        return self.process.wait(timeout=DEADLINE_SECONDS)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def asked_more_than_once(llm: FakeLLM, items: list[WorkItem]) -> list[str]:
    counts = Counter(request["seed"] for request in llm.requests)
    return [item.name for item in items if counts[first_seed(item)] != 1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_makes_no_finished_trajectory_again(
    make_classroom: Callable[[int], Classroom], tmp_path: Path, how: signal.Signals
) -> None:
    classroom = make_classroom(10)
    items = expected(classroom)
    with fake_llm(latency_seconds=0.02) as llm:
        stage = classroom.generate(llm.endpoint(concurrency=4, ask_port=free_port()))
        first = Pod(classroom, stage, tmp_path / "one")
        wait_for(lambda: len(names(classroom)) >= 10)
        first.process.send_signal(how)
        code = first.wait()
        assert code == (75 if how is signal.SIGTERM else -signal.SIGKILL), first.log.read_text()
        finished = names(classroom)
        assert 10 <= len(finished) < len(items), "it was killed in the middle"
        second = Pod(classroom, stage, tmp_path / "two")
        assert second.wait() == 0, second.log.read_text()
    assert names(classroom) == {item.name for item in items}
    assert asked_more_than_once(llm, [item for item in items if item.name in finished]) == []
    repeated = asked_more_than_once(llm, items)
    assert len(repeated) <= 3 * (4 * 5 // 4 + 1), "no more than was in flight"


def test_death_between_two_trajectories_loses_none(
    make_classroom: Callable[[int], Classroom], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is finished when its object stands in the store: nothing is gathered before it is kept."""
    classroom = make_classroom(4)
    items = expected(classroom)
    put, kept = WorkArea.put, list[str]()

    def put_and_die(self: WorkArea, name: str, data: bytes) -> None:
        if len(kept) == 5:
            raise SystemExit("the node is gone")
        put(self, name, data)
        kept.append(name)

    with fake_llm() as llm:
        stage = classroom.generate(llm.endpoint(concurrency=1))
        with monkeypatch.context() as patch:
            patch.setattr(WorkArea, "put", put_and_die)
            with pytest.raises(SystemExit):
                run(classroom.spec(stage))
        assert names(classroom) == set(kept)
        assert (run(classroom.spec(stage)).metrics["found"], len(kept)) == (5, 5)
    assert asked_more_than_once(llm, [item for item in items if item.name in kept]) == []


def test_a_spent_token_budget_ends_the_run_and_a_larger_one_goes_on(classroom: Classroom) -> None:
    with fake_llm() as llm:
        endpoint = llm.endpoint(concurrency=2, prices=TokenPrices(prompt_per_million=1e6))
        failure = failure_of(classroom, endpoint, token_budget=3000)
        assert isinstance(failure, TerminalFailure)
        assert failure.reason is Reason.TOKEN_BUDGET_SPENT
        assert "larger tokenBudget" in failure.message
        finished = names(classroom)
        assert 0 < len(finished) < 16
        spent = Ledger(classroom.work, 0).read()
        assert spent >= 3000
        asked = len(llm.requests)
        with taken_port() as port:
            asking = endpoint.model_copy(update={"ask_port": port})
            assert "spent" in failure_of(classroom, asking, token_budget=spent).message
        assert len(llm.requests) == asked, "what earlier pods spent counts"
        result = run(classroom.spec(classroom.generate(endpoint, token_budget=10**6)))
    assert (result.metrics["found"], result.metrics["made"]) == (len(finished), 16 - len(finished))
    assert Ledger(classroom.work, 0).read() > spent
    assert result.metrics["cost"] == result.metrics["promptTokens"]
    record = RunRecord.model_validate_json(classroom.work.get(expected(classroom)[0].name) or b"")
    assert record.trajectory is not None
    assert record.cost == record.trajectory.usage.prompt_tokens


def test_without_a_budget_nothing_is_kept_of_the_spending(classroom: Classroom) -> None:
    with fake_llm() as llm:
        run(classroom.spec(classroom.generate(llm.endpoint())))
    assert classroom.work.list("spent") == []


def failure_of(classroom: Classroom, endpoint: LLMEndpoint, **changes: object) -> JobFailure:
    with pytest.raises(JobFailure) as failure:
        run(classroom.spec(classroom.generate(endpoint, **changes)))
    return failure.value


@pytest.mark.bad_input
def test_endpoint_down(classroom: Classroom) -> None:
    endpoint = LLMEndpoint(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", startup_seconds=0.3)
    failure = failure_of(classroom, endpoint)
    assert isinstance(failure, RetryableFailure)
    assert failure.reason is Reason.LLM_UNREACHABLE
    assert endpoint.base_url in failure.message


@pytest.mark.bad_input
def test_endpoint_lost_in_the_middle_keeps_what_is_finished(classroom: Classroom) -> None:
    def script(request: Request) -> Answer:
        lost = len(names(classroom)) >= 3
        return Answer("engine died", status=500) if lost else any_valid_answer(request)

    with fake_llm(script) as llm:
        failure = failure_of(classroom, llm.endpoint(concurrency=2))
    assert failure.reason is Reason.LLM_UNREACHABLE
    assert 3 <= len(names(classroom)) < 16


@pytest.mark.bad_input
def test_a_model_that_returns_garbage_stops_the_job_early(make_classroom: Callable[[int], Classroom]) -> None:
    classroom = make_classroom(30)
    with fake_llm(lambda request: "I am a poem.") as llm:
        failure = failure_of(classroom, llm.endpoint(concurrency=8))
    assert isinstance(failure, TerminalFailure)
    assert failure.reason is Reason.LLM_OUTPUT_INVALID
    assert re.search(r"returned (4\d) of \1 answers", failure.message), failure.message
    assert len(llm.requests) < 100


@pytest.mark.bad_input
def test_a_refused_key(classroom: Classroom, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("wrong")
    with fake_llm(api_key="right") as llm:
        failure = failure_of(classroom, llm.endpoint(api_key_file=str(key)))
    assert failure.reason is Reason.LLM_ACCESS_DENIED
    assert llm.requests == []


@pytest.mark.bad_input
def test_prompts_too_long_for_the_model_stop_the_job_with_the_servers_words(classroom: Classroom) -> None:
    with fake_llm(lambda request: Answer("maximum context length is 64 tokens", status=400)) as llm:
        failure = failure_of(classroom, llm.endpoint())
    assert failure.reason is Reason.INVALID_JOB_SPEC
    assert "maximum context length is 64 tokens" in failure.message


@pytest.mark.bad_input
def test_tools_without_a_store(classroom: Classroom) -> None:
    with fake_llm() as llm:
        assert "agents.tools" in failure_of(classroom, llm.endpoint(), signals=None).message
        run(classroom.spec(classroom.generate(llm.endpoint(), signals=None, agents=Agents(tools=False))))
    assert "calls" not in {kind_of(request) for request in llm.requests}


@pytest.mark.bad_input
def test_an_agent_that_mars_does_not_have(classroom: Classroom) -> None:
    with fake_llm() as llm:
        failure = failure_of(classroom, llm.endpoint(), agent_llms={"critic": llm.endpoint()})
    assert failure.reason is Reason.INVALID_JOB_SPEC
    assert "critic" in failure.message
    assert "planner" in failure.message


@pytest.mark.bad_input
def test_a_dataset_without_training_tasks(make_classroom: Callable[[int], Classroom]) -> None:
    with fake_llm() as llm:
        failure = failure_of(make_classroom(0), llm.endpoint())
    assert failure.reason is Reason.INVALID_DATASET
    assert "tasks.train" in failure.message
