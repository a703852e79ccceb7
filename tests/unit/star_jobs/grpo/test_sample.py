"""Stage sample-difficulty as a whole: real S3, a scripted student."""

import json
from pathlib import Path
from typing import Any

import pytest

from star_contracts.job import LLMEndpoint, SampleDifficulty
from star_contracts.result import ExitCode
from star_contracts.settings import DifficultySampling, Variant
from star_jobs.grpo import sample as stage_module
from star_jobs.grpo.difficulty import SAMPLES, Difficulty, Instance
from star_jobs.grpo.sample import chunks_in_flight
from star_jobs.llm import failures
from star_jobs.storage import ObjectStore, read_jsonl
from tests.support import world
from tests.support.fakellm import Answer, Request, fake_llm
from tests.support.jobs import JobRunner
from tests.support.s3 import free_port, taken_port
from tests.support.training import TrainingInputs, train_tasks


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(stage_module, "CHUNK_TASKS", 2)


@pytest.fixture
def inputs(store: ObjectStore, uri: str, tmp_path: Path) -> TrainingInputs:
    return TrainingInputs(store, uri, tmp_path)


def stage(inputs: TrainingInputs, llm: LLMEndpoint, **sampling: Any) -> SampleDifficulty:
    return SampleDifficulty(
        dataset=inputs.dataset(train_tasks(5)),
        signals=inputs.signals(),
        llm=llm,
        sampling=DifficultySampling(**{"samples": 4, "instances": 3, **sampling}),
        temperature=0.7,
        max_tokens=400,
    )


def half_right(request: Request) -> str:
    """Rank the truth, the third candidate, first in every other response."""
    third_first = world.scripted_student(lambda c: [c[2], *c[:2], *c[3:]])
    return (third_first if request["seed"] % 2 else world.scripted_student())(request)


def test_tasks_are_sampled_classified_and_mixed(inputs: TrainingInputs, jobs: JobRunner) -> None:
    with fake_llm(half_right) as llm:
        done = jobs.run(stage(inputs, llm.endpoint(), mix={"easy": 0, "medium": 1, "hard": 0}))
    assert done.code == ExitCode.DONE, done.result
    found = list(read_jsonl(jobs.fetch(done.artifact) / SAMPLES, Instance))
    assert [i.task_id for i in found] == [task.task_id for task in train_tasks(5)]
    assert {(i.solved, i.samples, i.well_formed, i.difficulty) for i in found} == {(2, 4, 4, Difficulty.MEDIUM)}
    assert sum(i.kept for i in found) == 3
    assert {"medium": 5.0, "kept": 3.0, "hitAt1": 0.5, "easy": 0.0}.items() <= done.result.metrics.items()


@pytest.mark.parametrize("variant", [Variant.FULL, Variant.WITHOUT_TOOLS])
def test_a_long_history_is_sampled_with_its_summary_and_with_tools_as_the_variant_says(
    variant: Variant, inputs: TrainingInputs, jobs: JobRunner
) -> None:
    long = world.with_past(train_tasks(1)[0], 14)
    tools = variant is Variant.FULL
    with fake_llm(world.scripted_student(tools=tools)) as llm:
        changed = {"dataset": inputs.dataset([long]), "signals": inputs.signals(long), "variant": variant}
        jobs.run(stage(inputs, llm.endpoint(), keep_unsolved=True).model_copy(update=changed))
    for request in llm.requests:
        system, user = (message["content"] for message in request["messages"][:2])
        assert ("tool_call" in system) == tools
        assert "Long-term summary: The first 12 films of u1.\nHistory, newest last:\ni0 Film 0" in user


def test_finished_chunks_are_not_sampled_again(inputs: TrainingInputs, jobs: JobRunner) -> None:
    calls = 0  # of 40: five tasks, four responses each, two turns each

    def breaks(request: Request) -> Answer | str:
        nonlocal calls
        calls += 1
        return half_right(request) if calls <= 36 else Answer(status=401)

    with fake_llm(breaks) as llm:
        job = stage(inputs, llm.endpoint(concurrency=1))
        broken = jobs.run(job, output="1")
        assert (broken.code, broken.error.reason) == (ExitCode.TERMINAL, "LLMAccessDenied")
        finished = jobs.work().list("samples")
        assert finished
        llm.script = half_right
        llm.requests.clear()
        done = jobs.run(job, output="2")
    assert done.code == ExitCode.DONE, done.result
    tasks_left = 5 - sum(len(jobs.work().get(name).splitlines()) for name in finished)  # type: ignore[union-attr]
    assert len(llm.requests) == tasks_left * 4 * 2  # four responses, each of two turns


def test_the_model_is_asked_for_only_where_a_sample_is_missing(inputs: TrainingInputs, jobs: JobRunner) -> None:
    with fake_llm(half_right) as llm, taken_port() as port:
        job = stage(inputs, llm.endpoint())
        asking = job.model_copy(update={"llm": llm.endpoint(ask_port=port)})
        assert f"cannot listen on port {port}" in jobs.run(asking).error.message
        jobs.run(job)
        assert jobs.run(asking, output="2").code == ExitCode.DONE


def test_a_student_that_never_hits_fills_the_set_when_told_to(inputs: TrainingInputs, jobs: JobRunner) -> None:
    with fake_llm(world.scripted_student()) as llm:
        job = stage(inputs, llm.endpoint(), keep_unsolved=True)
        done = jobs.run(job)
        assert (done.code, done.result.metrics["kept"], done.result.metrics["unsolved"]) == (0, 3.0, 5.0)


@pytest.mark.bad_input
def test_a_student_that_never_hits_leaves_nothing_to_train_on(inputs: TrainingInputs, jobs: JobRunner) -> None:
    with fake_llm(world.scripted_student()) as llm:
        ended = jobs.run(stage(inputs, llm.endpoint()))
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "NothingToTrainOn")
    assert "keepUnsolved" in ended.error.message


@pytest.mark.bad_input
def test_a_student_that_talks_nonsense_is_never_right(inputs: TrainingInputs, jobs: JobRunner) -> None:
    with fake_llm(lambda _request: "Well, it depends.") as llm:
        done = jobs.run(stage(inputs, llm.endpoint(), keep_unsolved=True))
    assert done.result.metrics["wellFormed"] == 0.0


@pytest.mark.bad_input
def test_prompts_the_server_refuses_count_as_never_solved(inputs: TrainingInputs, jobs: JobRunner) -> None:
    body = json.dumps({"error": {"message": "longer than the model's context"}})
    with fake_llm(lambda _request: Answer(body, status=400)) as llm:
        done = jobs.run(stage(inputs, llm.endpoint(), keep_unsolved=True))
    assert (done.code, done.result.metrics["unsolved"]) == (ExitCode.DONE, 5.0)


@pytest.mark.bad_input
def test_an_endpoint_that_is_down(inputs: TrainingInputs, jobs: JobRunner) -> None:
    away = LLMEndpoint(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", startup_seconds=0.2)
    ended = jobs.run(stage(inputs, away))
    assert (ended.code, ended.error.reason) == (ExitCode.RETRYABLE, "LLMUnreachable")


def test_calls_keep_going_while_a_chunk_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "CHUNK_TASKS", 16)
    assert chunks_in_flight(concurrency=64, samples=8) == 2
    assert chunks_in_flight(concurrency=512, samples=8) == 5
