"""Stage evaluate as a whole: real artifacts, real S3, a scripted stand-in for the model server."""

import json
import re
import time

import pytest

from star_contracts.artifact import ArtifactKind
from star_contracts.data import TaskType
from star_contracts.job import LLMEndpoint
from star_contracts.result import ErrorClass
from star_contracts.settings import Baseline
from star_jobs.evaluate import run as stage_module
from tests.support import world
from tests.support.fakellm import Answer, Request, fake_llm
from tests.support.s3 import free_port, taken_port
from tests.unit.star_jobs.evaluate.conftest import SETTINGS, MakeStage, Stage


@pytest.mark.parametrize("tools", [True, False])
def test_long_histories_are_shown_with_their_summary_with_tools_or_without(make_stage: MakeStage, tools: bool) -> None:
    stage = make_stage([world.with_past(task, 14) for task in world.tasks(1)])
    with fake_llm(world.scripted_student(tools=tools)) as server:
        code, _ = stage.run(server.endpoint(), SETTINGS.model_copy(update={"tools": tools}))
    assert code == 0
    for request in server.requests:
        system, user = (message["content"] for message in request["messages"][:2])
        assert ("tool_call" in system) == tools
        assert "Long-term summary: The first 12 films of u1.\nHistory, newest last:\ni0 Film 0" in user


def test_measures_the_student_beside_the_baselines(stage: Stage) -> None:
    with fake_llm(world.scripted_student(), latency_seconds=0.02) as server:
        code, result = stage.run(server.endpoint(concurrency=4))
    assert (code, result.error) == (0, None)
    # The student returns the candidates as given and the truth is always the third of five.
    assert result.metrics["hr1"] == 0
    assert result.metrics["hr3"] == result.metrics["hr5"] == 1
    assert result.metrics["hrAvg"] == pytest.approx(2 / 3)
    assert result.metrics["identity.hrAvg"] == pytest.approx(2 / 3)
    assert result.metrics["random.hrAvg"] == pytest.approx((0.2 + 0.6 + 1) / 3)
    assert {"popularity.hrAvg", "itemcf.hrAvg", "latencyP50", "latencyP95", "long_term.hrAvg"} <= set(result.metrics)
    assert result.metrics["tasks"] == 20
    assert (result.metrics["valid"], result.metrics["wellFormed"], result.metrics["toolCalls"]) == (1, 1, 1)
    assert 2 <= server.most_in_flight <= 4


def test_the_report_says_it_per_type_and_shows_every_answer(stage: Stage) -> None:
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint())
    report = stage.report(result)
    assert [suite.name for suite in report.suites] == ["all", "classic", "long_term"]
    assert [suite.tasks for suite in report.suites] == [20, 10, 10]
    everything = report.suites[0]
    assert everything.model is not None
    assert everything.model.versus[Baseline.IDENTITY].mean == 0
    assert everything.model.usage.calls == 40
    assert set(report.inputs) == {"dataset", "signals"}
    assert report.leaked_interactions == 2
    folder = next(stage.folder.glob("report-*"))
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 20
    assert "<tool_response>" in answers[0]["text"]
    page = (folder / "report.html").read_text()
    assert "66.7" in page
    assert "http" not in page.lower()
    assert "<script" not in page


def test_what_an_answer_waits_for_others_is_no_time_of_its_own(stage: Stage) -> None:
    started = time.monotonic()
    with fake_llm(world.scripted_student(), latency_seconds=0.02) as server:
        _, result = stage.run(server.endpoint(concurrency=1))
    took = time.monotonic() - started
    stage.report(result)
    rows = next(stage.folder.glob("report-*/answers.jsonl")).read_text().splitlines()
    seconds = [json.loads(row)["seconds"] for row in rows]
    assert min(seconds) >= 0.04, "two calls"
    assert sum(seconds) < 2 * took, "sixteen answers share the one call"


def test_best_of_k_takes_the_best_and_seeds_differ(stage: Stage) -> None:
    def moody(request: Request) -> str:
        first = request["seed"] % 2 == 0
        return world.scripted_student(lambda c: [c[2], *c[:2], *c[3:]] if first else c)(request)

    settings = SETTINGS.model_copy(update={"best_of": 2})
    with fake_llm(moody) as server:
        _, result = stage.run(server.endpoint(), settings)
    assert result.metrics["hr1"] == pytest.approx(0.5)
    assert result.metrics["bestOf2.hrAvg"] == pytest.approx(1)
    assert {request["seed"] for request in server.requests} == {1, 2}


def test_without_tools_nothing_is_looked_up(stage: Stage) -> None:
    settings = SETTINGS.model_copy(update={"tools": False})
    with fake_llm(world.scripted_student(tools=False)) as server:
        _, result = stage.run(server.endpoint(), settings)
    assert result.metrics["toolCalls"] == 0
    assert result.metrics["wellFormed"] == 1
    assert not any("Item-CF" in request["messages"][0]["content"] for request in server.requests)


def test_baselines_alone_need_no_model(stage: Stage) -> None:
    code, result = stage.run(None)
    assert code == 0
    assert "hrAvg" not in result.metrics
    assert "itemcf.hrAvg" in result.metrics
    assert stage.report(result).suites[0].model is None


def test_a_retry_asks_only_what_is_missing(stage: Stage) -> None:
    asked = 0

    def breaks_down(request: Request) -> Answer | str:
        nonlocal asked
        asked += 1
        return world.scripted_student()(request) if asked <= 36 else Answer("gone", status=503)

    with fake_llm(breaks_down) as server:
        code, result = stage.run(server.endpoint(concurrency=1, startup_seconds=0.1), attempt=1)
    assert code == 75
    assert result.error is not None
    assert result.error.reason == "LLMUnreachable"
    kept = len(list(stage.store.list(f"{stage.uri}/work/answers")))
    assert kept >= 1
    with fake_llm(world.scripted_student()) as server:
        code, result = stage.run(server.endpoint(), attempt=2)
    assert code == 0
    assert len(server.requests) == 2 * (20 - 8 * kept)
    assert result.metrics["tasks"] == 20


def test_the_model_is_asked_for_only_where_an_answer_is_missing(stage: Stage) -> None:
    with fake_llm(world.scripted_student()) as server, taken_port() as port:
        asking = server.endpoint(ask_port=port)
        code, result = stage.run(asking)
        assert code == 65
        assert result.error is not None
        assert f"cannot listen on port {port}" in result.error.message
        assert stage.run(server.endpoint())[1].reused is False
        again = stage.run(asking)[1]
        assert again.reused, "the report is there"
        code, result = stage.run(asking, attempt=2)
    assert (code, result.reused, result.metrics) == (0, False, again.metrics), "all answers are there"


def test_a_damaged_part_file_is_answered_again(stage: Stage) -> None:
    stage.store.put_bytes(f"{stage.uri}/work/answers/000000.jsonl", b'{"taskId": "classic-0", "sam')
    with fake_llm(world.scripted_student()) as server:
        code, _ = stage.run(server.endpoint())
    assert code == 0
    assert len(server.requests) == 40


def test_samples_are_drawn_with_the_seed(stage: Stage) -> None:
    chosen = []
    for attempt, seed in enumerate((0, 0, 5), 1):
        settings = SETTINGS.model_copy(update={"samples": 4, "seed": seed, "baselines": (Baseline.RANDOM,)})
        _, result = stage.run(None, settings, attempt=attempt)
        assert result.metrics["tasks"] == 8
        suite = stage_module.choose_suite(stage_module.Dataset(stage.folder / "dataset"), settings)
        chosen.append([task.task_id for task in suite.tasks])
    assert chosen[0] == chosen[1] != chosen[2]


def test_learned_baselines_stand_beside_the_cheap_ones(stage: Stage) -> None:
    learned = (Baseline.ITEM_KNN_COSINE, Baseline.ITEM_KNN_BM25, Baseline.ALS)
    settings = SETTINGS.model_copy(update={"baselines": (Baseline.RANDOM, *learned)})
    code, result = stage.run(None, settings)
    assert code == 0
    assert {"itemknn_cosine.hrAvg", "itemknn_bm25.hrAvg", "als.hrAvg"} <= set(result.metrics)
    report = stage.report(result)
    assert set(report.timings) == {Baseline.RANDOM, *learned}
    assert report.timings[Baseline.ALS].fit_seconds > 0


def test_every_task_is_kept_for_later_comparisons(stage: Stage) -> None:
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint(), SETTINGS.model_copy(update={"best_of": 2}))
    stage.report(result)
    folder = next(stage.folder.glob("report-*"))
    rows = [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert rows[0]["ranks"] == [3, 3]
    assert rows[0]["baselines"]["identity"] == [0, 1, 1]


def test_platforms_have_figures_of_their_own(stage: Stage) -> None:
    items = stage.folder / "dataset" / "items.jsonl"
    lines = [json.loads(line) for line in items.read_text().splitlines()]
    for place, line in enumerate(lines):
        line["attributes"] = {"source": "amazon" if place < 6 else "yelp"}
    items.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stage.dataset = world.publish(stage.store, f"{stage.uri}/two", stage.folder / "dataset", ArtifactKind.DATASET)
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint())
    report = stage.report(result)
    names = {suite.name for suite in report.suites}
    both = {f"{platform}.{kind.value}" for platform in ("amazon", "yelp") for kind in world.TYPES}
    assert names == {"all", "classic", "long_term", "amazon", "yelp"} | both
    assert sum(suite.tasks for suite in report.suites if suite.name in both) == 20
    assert {f"{name}.hrAvg" for name in both} <= set(result.metrics)
    page = stage.page(result)
    assert "Platforms and task types" in page
    assert "Hit rate by task type, yelp" in page


def test_one_platform_is_named_and_not_repeated(stage: Stage) -> None:
    items = stage.folder / "dataset" / "items.jsonl"
    items.write_text(items.read_text().replace('"attributes":{}', '"attributes":{"source":"yelp"}'))
    stage.dataset = world.publish(stage.store, f"{stage.uri}/one", stage.folder / "dataset", ArtifactKind.DATASET)
    _, result = stage.run(None)
    assert [(suite.name, suite.platform) for suite in stage.report(result).suites] == [
        ("all", "yelp"),
        ("classic", "yelp"),
        ("long_term", "yelp"),
    ]


def test_the_page_has_its_plots(stage: Stage) -> None:
    with fake_llm(world.scripted_student()) as server:
        _, result = stage.run(server.endpoint(), SETTINGS.model_copy(update={"best_of": 4}))
    page = stage.page(result)
    assert page.count("<svg") == 3
    assert {"By task type", "Scaling over k", "Latency against quality"} <= set(re.findall("<h2>(.*?)</h2>", page))


@pytest.mark.bad_input
def test_a_model_that_writes_garbage_scores_nothing_and_crashes_nothing(stage: Stage) -> None:
    with fake_llm(lambda request: "</recommend> 🤖 <tool_call>rm -rf</tool_call>" * 3) as server:
        code, result = stage.run(server.endpoint())
    assert code == 0
    assert result.metrics["valid"] == result.metrics["hrAvg"] == result.metrics["wellFormed"] == 0


@pytest.mark.bad_input
def test_an_empty_answer_is_a_miss(stage: Stage) -> None:
    with fake_llm(lambda request: Answer("", finish_reason="length")) as server:
        code, result = stage.run(server.endpoint())
    assert code == 0
    assert result.metrics["valid"] == result.metrics["hr5"] == 0


@pytest.mark.bad_input
def test_a_type_the_dataset_lacks_is_terminal_and_says_what_exists(stage: Stage) -> None:
    settings = SETTINGS.model_copy(update={"types": (TaskType.CLASSIC, TaskType.SHORT_TERM)})
    code, result = stage.run(None, settings)
    assert code == 65
    assert result.error is not None
    assert result.error.error_class is ErrorClass.TERMINAL
    assert result.error.reason == "InvalidDataset"
    assert "settings.types asks for short_term" in result.error.message
    assert "classic, long_term" in result.error.message


@pytest.mark.bad_input
def test_an_endpoint_that_is_down_is_retryable(stage: Stage) -> None:
    down = LLMEndpoint(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", startup_seconds=0.3)
    code, result = stage.run(down)
    assert code == 75
    assert result.error is not None
    assert result.error.reason == "LLMUnreachable"


@pytest.mark.bad_input
def test_prompts_too_long_for_the_model_count_as_misses(stage: Stage) -> None:
    def short_context(request: Request) -> Answer | str:
        if "i9" in request["messages"][1]["content"].split("Candidates:")[1]:
            return Answer("maximum context length is 64 tokens", status=400)
        return world.scripted_student()(request)

    with fake_llm(short_context) as server:
        code, result = stage.run(server.endpoint())
    assert code == 0
    report = stage.report(result)
    assert report.suites[0].model is not None
    refused = report.suites[0].model.refused
    assert 0 < refused < 20
    assert result.metrics["hr5"] == pytest.approx(1 - refused / 20)


@pytest.mark.bad_input
def test_a_server_that_refuses_everything_measures_nothing(stage: Stage) -> None:
    with fake_llm(lambda request: Answer("maximum context length is 8 tokens", status=400)) as server:
        code, result = stage.run(server.endpoint())
    assert code == 65
    assert result.error is not None
    assert result.error.reason == "LLMOutputInvalid"
    assert "maximum context length" in result.error.message


@pytest.mark.bad_input
def test_a_task_without_an_answer_is_an_invalid_dataset(make_stage: MakeStage) -> None:
    stage = make_stage(world.tasks(2))
    truth = stage.folder / "dataset" / "truth" / "test.jsonl"
    truth.write_text(truth.read_text().replace('"itemId":"i7"', '"itemId":"i99"'))
    stage.dataset = world.publish(stage.store, f"{stage.uri}/dataset2", stage.folder / "dataset", ArtifactKind.DATASET)
    code, result = stage.run(None)
    assert code == 65
    assert result.error is not None
    assert "no ground truth among its candidates" in result.error.message
