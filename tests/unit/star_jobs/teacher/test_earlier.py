"""A TeacherRun that goes on from an earlier one: what would be asked in the same way is not asked again."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.data import Trajectory
from star_contracts.errors import WarningReason
from star_contracts.job import LLMEndpoint
from star_contracts.result import JobResult
from star_contracts.settings import Agents, TrajectoryFilter
from star_jobs.__main__ import load_entry
from star_jobs.lookup import SignalStore, write_store
from star_jobs.runtime import run_job
from star_jobs.storage import fetch, read_jsonl, write_jsonl
from star_jobs.teacher.collect import RUNS, TRAJECTORIES
from star_jobs.teacher.earlier import ANSWERS
from star_jobs.teacher.records import FOLDER, RunAnswers, RunResult
from star_jobs.teacher.templates import render
from tests.support.fakellm import FakeLLM, fake_llm
from tests.support.s3 import taken_port
from tests.support.world import ITEMS, publish, signals, summaries
from tests.unit.star_jobs.teacher.conftest import Classroom

Change = Callable[[Classroom, Path], Classroom]


def run(classroom: Classroom, endpoint: LLMEndpoint, **changes: object) -> tuple[JobResult, JobResult]:
    """Generate and collect, from nothing."""
    for name in classroom.work.list(FOLDER):
        classroom.work.delete(name)
    changes["filter"] = TrajectoryFilter.NONE
    generated = run_job(classroom.spec(classroom.generate(endpoint, **changes)), load_entry, threading.Event())
    output = f"out-{len(list(classroom.store.list(classroom.uri)))}"
    collect = classroom.collect(**{name: changes[name] for name in ("passes", "filter") if name in changes})
    return generated, run_job(classroom.spec(collect, output=output), load_entry, threading.Event())


def folder_of(classroom: Classroom, result: JobResult, folder: Path) -> Path:
    assert result.artifact is not None
    return fetch(classroom.store, result.artifact, folder / result.artifact.digest[-8:])


def trajectories(classroom: Classroom, result: JobResult, folder: Path) -> list[Trajectory]:
    return list(read_jsonl(folder_of(classroom, result, folder) / TRAJECTORIES, Trajectory))


@pytest.fixture
def earlier(make_classroom: Callable[[int], Classroom]) -> tuple[Classroom, FakeLLM, JobResult]:
    """Two types of two tasks, worked on once in two passes."""
    classroom = make_classroom(2)
    with fake_llm() as llm:
        return classroom, llm, run(classroom, llm.endpoint())[1]


def test_where_nothing_changed_no_call_is_made_and_the_model_is_not_asked_for(
    earlier: tuple[Classroom, FakeLLM, JobResult], tmp_path: Path
) -> None:
    classroom, first, before = earlier
    with fake_llm() as llm, taken_port() as port:
        generated, collected = run(classroom, llm.endpoint(ask_port=port), previous=before.artifact)
        assert llm.requests == []
    calls = len(first.requests)
    for metrics in (generated.metrics, collected.metrics):
        assert (metrics["calls"], metrics["callsReused"], metrics["reused"]) == (0, calls, 8)
    assert (before.metrics["calls"], before.metrics["callsReused"], before.metrics["reused"]) == (calls, 0, 0)
    old, new = (folder_of(classroom, result, tmp_path) for result in (before, collected))
    assert (old / TRAJECTORIES).read_bytes() == (new / TRAJECTORIES).read_bytes()
    assert (old / ANSWERS).read_bytes() == (new / ANSWERS).read_bytes(), "the next run goes on from this one alone"
    took = [one.seconds for one in read_jsonl(new / RUNS, RunResult)]
    spent = [sum(answer.seconds for answer in one.answers) for one in read_jsonl(new / ANSWERS, RunAnswers)]
    assert all(seconds >= of_calls - 0.01 for seconds, of_calls in zip(took, spent, strict=True))


def one_task(classroom: Classroom, folder: Path) -> Classroom:
    """Another history of the first task."""
    [first, *others] = classroom.tasks
    tasks = [first.model_copy(update={"history": first.history[1:]}), *others]
    return replace(dataset(classroom, folder, {"tasks/train.jsonl": tasks}), tasks=tasks)


def one_title(classroom: Classroom, folder: Path) -> Classroom:
    """Another title of an item that some tasks show."""
    items = [item.model_copy(update={"title": "Renamed"}) if item.item_id == "i10" else item for item in ITEMS]
    return dataset(classroom, folder, {"items.jsonl": items})


def dataset(classroom: Classroom, folder: Path, files: Mapping[str, Sequence[BaseModel]]) -> Classroom:
    changed = fetch(classroom.store, classroom.dataset, folder / "changed")
    (changed / "manifest.json").unlink()
    for name, records in files.items():
        write_jsonl(changed / name, records)
    return replace(classroom, dataset=publish(classroom.store, f"{classroom.uri}/d2", changed, ArtifactKind.DATASET))


def one_signal(classroom: Classroom, folder: Path) -> Classroom:
    """Another text of one item's signal."""
    changed = [
        one.model_copy(update={"neighbours": ("i5",), "categories": ()}) if one.key == "i6" else one
        for one in signals()
    ]
    write_store(folder / "signals-2", [*changed, *summaries(*classroom.tasks)])
    assert SignalStore.open(folder / "signals-2")
    made = publish(classroom.store, f"{classroom.uri}/s2", folder / "signals-2", ArtifactKind.VERBALIZATION)
    return replace(classroom, signals=made)


@pytest.mark.parametrize("change", [one_task, one_title, one_signal])
def test_what_is_taken_over_is_what_would_be_made(
    change: Change, earlier: tuple[Classroom, FakeLLM, JobResult], tmp_path: Path
) -> None:
    """The model answers each request in one way: a run from nothing is the oracle."""
    classroom, _, before = earlier
    classroom = change(classroom, tmp_path)
    with fake_llm() as llm:
        _, refreshed = run(classroom, llm.endpoint(), previous=before.artifact)
        asked = len(llm.requests)
    with fake_llm() as llm:
        _, anew = run(classroom, llm.endpoint())
        assert 0 < asked < len(llm.requests)
        assert refreshed.metrics["calls"] == asked
        assert refreshed.metrics["calls"] + refreshed.metrics["callsReused"] == len(llm.requests)
    assert 0 < refreshed.metrics["reused"] < 8
    assert trajectories(classroom, refreshed, tmp_path) == trajectories(classroom, anew, tmp_path)


@pytest.mark.parametrize("change", ["model", "prompt", "sampling"])
def test_another_model_prompt_or_seed_makes_everything_anew(
    change: str, earlier: tuple[Classroom, FakeLLM, JobResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    classroom, _, before = earlier
    changes: dict[str, object] = {}
    with fake_llm() as llm:
        llm.models = (*llm.models, "another")
        endpoint = llm.endpoint(**({"model": "another"} if change == "model" else {}))
        if change == "sampling":
            changes["sampling"] = classroom.generate(endpoint).sampling.model_copy(update={"seed": 7})
        if change == "prompt":
            monkeypatch.setattr("star_jobs.teacher.mars.render", lambda name, **values: render(name, **values) + "!")
        _, collected = run(classroom, endpoint, previous=before.artifact, **changes)
    assert (collected.metrics["reused"], collected.metrics["callsReused"]) == (0, 0)


def test_fewer_agents_and_more_passes_take_over_what_stays_the_same(
    earlier: tuple[Classroom, FakeLLM, JobResult],
) -> None:
    classroom, first, before = earlier
    with fake_llm() as llm:
        _, more = run(classroom, llm.endpoint(), previous=before.artifact, passes=3)
        assert (more.metrics["reused"], more.metrics["calls"]) == (8, len(llm.requests))
    with fake_llm() as llm:
        _, fewer = run(classroom, llm.endpoint(), previous=before.artifact, agents=Agents(reflector=False))
        assert 0 < fewer.metrics["callsReused"] < len(first.requests)


@pytest.mark.bad_input
def test_trajectories_that_are_gone_or_of_before_are_done_without_and_a_warning_says_so(
    earlier: tuple[Classroom, FakeLLM, JobResult], tmp_path: Path
) -> None:
    classroom, _, before = earlier
    assert before.artifact is not None
    folder = folder_of(classroom, before, tmp_path)
    old = tmp_path / "old"
    write_jsonl(old / RUNS, read_jsonl(folder / RUNS, RunResult))
    of_before = publish(classroom.store, f"{classroom.uri}/old", old, ArtifactKind.TRAJECTORIES)
    gone = ArtifactRef(uri=f"{classroom.uri}/gone", digest=before.artifact.digest)
    for ref, why in ((gone, "holds no manifest.json"), (of_before, "before answers were kept")):
        with fake_llm() as llm:
            generated, collected = run(classroom, llm.endpoint(), previous=ref)
        assert collected.metrics["reused"] == 0
        assert [warning.reason for warning in generated.warnings] == [WarningReason.PREVIOUS_GONE]
        assert why in generated.warnings[0].message
