"""The three stages of a Verbalization on a real store: neighbours, words, look-up store."""

import json
import re
import threading
from collections import Counter

import pytest

from star_contracts.data import Signal, SignalKind
from star_contracts.errors import Reason
from star_contracts.job import (
    ComputeNeighbours,
)
from star_contracts.result import ExitCode
from star_contracts.settings import (
    NeighbourSettings,
    Sampling,
    SignalScope,
)
from star_jobs.datasets.snapshot import Dataset
from star_jobs.lookup import SignalStore
from star_jobs.runtime import JobContext
from star_jobs.verbalize.worklist import CHUNK, task_keys
from tests.support.fakellm import Answer, Request, fake_llm
from tests.unit.star_jobs.verbalize.conftest import STEP, Library, sometimes, tidy


def test_the_whole_way(library: Library) -> None:
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint())
    assert done.code == ExitCode.DONE
    assert done.result.artifact is None
    assert {name: done.result.metrics[name] for name in ("made", "found", "withoutWords")} == {
        "made": 52,
        "found": 0,
        "withoutWords": 0,
    }
    collected = library.collect()
    assert collected.result.metrics == {
        "entries": 52,
        "itemEntries": 40,
        "userEntries": 12,
        "summaries": 0,
        "keptWithinTolerance": 0,
        "withoutWords": 0,
        "reused": 0,
        "made": 52,
    }
    store = SignalStore.open(library.jobs.fetch(collected.artifact))
    dataset = Dataset(library.jobs.fetch(library.dataset))
    near = {kind: library.near(kind) for kind in SignalKind}
    for task in dataset.tasks("test"):
        signal = store.get(SignalKind.USER_CF, task.user_id)
        assert signal is not None
        assert signal.neighbours == near[SignalKind.USER_CF][task.user_id]
        (category,) = signal.categories
        assert category.representative_items == (signal.neighbours[0], signal.neighbours[5]), "known ones, each once"
        assert category.name.startswith(dataset.items[signal.neighbours[0]].title[:10])
    items = [key for key in dict.fromkeys(task_keys(SignalKind.ITEM_CF, dataset)) if key in near[SignalKind.ITEM_CF]]
    assert all(store.get(SignalKind.ITEM_CF, item) for item in items[:40]), "the first of the tasks' items come first"


def test_a_users_signal_names_nothing_the_user_took(library: Library) -> None:
    dataset = Dataset(library.jobs.fetch(library.dataset))
    taken = dict(dataset.interactions().group_by("user_id").agg("item_id").iter_rows())
    near = library.near(SignalKind.USER_CF)
    assert len(near) > 900
    assert not [user for user, items in near.items() if set(items) & set(taken[user])]


def test_shards_share_the_parts_and_agree_with_one_pod(library: Library) -> None:
    with fake_llm(tidy) as llm:
        for index in range(3):
            assert library.verbalize(llm.endpoint(), shards=3, index=index).code == ExitCode.DONE
        asked = Counter(json.dumps(request["messages"]) for request in llm.requests)
        assert sum(asked.values()) == 52
        sharded = library.parts()
        for name in sharded:
            library.jobs.work(STEP).delete(name)
        library.verbalize(llm.endpoint())
    assert library.parts() == sharded
    assert all(len((data or b"").splitlines()) <= CHUNK for data in sharded.values())


def test_a_finished_chunk_is_never_made_again(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
        first = library.parts()
        before = len(llm.requests)
        again = library.verbalize(llm.endpoint())
        assert len(llm.requests) == before
        assert (again.result.metrics["made"], again.result.metrics["found"]) == (0, 52)
        gone = sorted(first)[1]
        library.jobs.work(STEP).delete(gone)
        library.verbalize(llm.endpoint())
        assert len(llm.requests) - before == len((first[gone] or b"").splitlines())
    assert library.parts() == first


def test_sigterm_keeps_what_is_finished_and_the_next_pod_goes_on(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping: list[threading.Event] = []
    post_init = JobContext.__init__

    def remember(self: JobContext, *args: object, **kwargs: object) -> None:
        post_init(self, *args, **kwargs)  # type: ignore[arg-type]
        stopping.append(self.stopping)

    monkeypatch.setattr(JobContext, "__init__", remember)

    def stop_after_twenty(request: Request) -> str:
        if len(llm.requests) == 20:
            stopping[-1].set()
        return tidy(request)

    with fake_llm(stop_after_twenty) as llm:
        killed = library.verbalize(llm.endpoint(concurrency=1))
        assert killed.code == ExitCode.RETRYABLE
        assert killed.error.reason == Reason.INTERRUPTED
        kept = sum(len((data or b"").splitlines()) for data in library.parts().values())
        assert 0 < kept < 52
        spent = len(llm.requests)
        assert library.verbalize(llm.endpoint()).result.metrics["found"] == kept
        assert len(llm.requests) - spent == 52 - kept
        assert sum(Counter(json.dumps(r["messages"]) for r in llm.requests).values()) <= 52 + 2 * CHUNK
    assert library.collect().code == ExitCode.DONE


@pytest.mark.parametrize(
    "bad",
    [
        "not json at all",
        "[]",
        '{"name": "", "summary": "spaces", "items": [1]}',
        '{"name": "space", "summary": "all in space", "items": 1}',
        '{"name": "cut off',
        Answer("prompt too long", status=400),
    ],
)
def test_an_unusable_answer_keeps_the_neighbours(bad: str | Answer, library: Library) -> None:
    with fake_llm(sometimes(4, bad)) as llm:
        done = library.verbalize(llm.endpoint())
    without = done.result.metrics["withoutWords"]
    assert done.code == ExitCode.DONE
    assert 0 < without < 26
    collected = library.collect()
    assert collected.result.metrics["withoutWords"] == without
    signals = [
        Signal.model_validate_json(line) for data in library.parts().values() for line in (data or b"").splitlines()
    ]
    bare = [signal for signal in signals if not signal.categories]
    assert len(bare) == without
    assert all(signal.neighbours for signal in bare)


def test_an_answer_gets_another_try_with_another_seed(library: Library) -> None:
    tries: Counter[str] = Counter()
    lock = threading.Lock()

    def second_time_lucky(request: Request) -> str:
        with lock:
            tries[request["messages"][-1]["content"]] += 1
            return "no" if tries[request["messages"][-1]["content"]] == 1 else tidy(request)

    with fake_llm(second_time_lucky) as llm:
        done = library.verbalize(llm.endpoint(), limit=5)
        seeds = {(r["messages"][-1]["content"], r["seed"]) for r in llm.requests}
    assert done.result.metrics["withoutWords"] == 0
    assert len(seeds) == len(llm.requests) == 20


@pytest.mark.bad_input
def test_a_model_that_returns_garbage_ends_the_stage(library: Library) -> None:
    with fake_llm(lambda _: "garbage") as llm:
        done = library.verbalize(llm.endpoint(concurrency=4))
        assert len(llm.requests) < 52 * 3, "it is judged before all is spent"
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.LLM_OUTPUT_INVALID)
    assert "sampling.maxTokens" in done.error.message


@pytest.mark.bad_input
def test_an_endpoint_that_is_down_is_retryable_and_costs_nothing(library: Library) -> None:
    with fake_llm(tidy) as llm:
        endpoint = llm.endpoint(startup_seconds=0.5)
    done = library.verbalize(endpoint)
    assert (done.code, done.error.reason) == (ExitCode.RETRYABLE, Reason.LLM_UNREACHABLE)
    assert endpoint.base_url in done.error.message
    assert library.parts() == {}


@pytest.mark.bad_input
def test_missing_parts_are_named(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint(), shards=2, index=0)
    done = library.collect()
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.ARTIFACT_NOT_FOUND)
    assert re.search(r"2 of 4 parts are missing under .*, the first is parts/", done.error.message)


@pytest.mark.bad_input
def test_a_part_that_lost_a_line_is_named(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
    work = library.jobs.work(STEP)
    name, data = next(iter(library.parts().items()))
    work.put(name, b"".join((data or b"").splitlines(keepends=True)[:-1]))
    done = library.collect()
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.ARTIFACT_CORRUPTED)
    assert name in done.error.message


@pytest.mark.bad_input
def test_a_dataset_without_co_occurrences_has_nothing_to_say(library: Library) -> None:
    lonely = library.jobs.run(
        ComputeNeighbours(dataset=library.dataset, neighbours=NeighbourSettings(k=10, max_degree=1)), output="lonely"
    ).artifact
    library = Library(library.jobs, library.dataset, lonely)
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
        store = library.collect()
    assert store.code == ExitCode.TERMINAL or store.result.metrics["itemEntries"] == 0


@pytest.mark.bad_input
def test_neighbours_of_something_else_are_refused(library: Library) -> None:
    wrong = Library(library.jobs, library.neighbours, library.neighbours)
    with fake_llm(tidy) as llm:
        done = wrong.verbalize(llm.endpoint())
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.ARTIFACT_CORRUPTED)


def test_scope_all_takes_every_key_with_neighbours(library: Library) -> None:
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), scope=SignalScope.ALL, limit=7)
    assert done.result.metrics["made"] == 14
    assert library.collect(SignalScope.ALL, 7).result.metrics["entries"] == 14


def test_longer_budgets_get_room_to_reason(library: Library) -> None:
    def thoughtful(request: Request) -> str:
        return json.dumps({"thinking": "films", "categories": [{**json.loads(tidy(request)), "items": [1, 2]}] * 2})

    with fake_llm(thoughtful) as llm:
        done = library.verbalize(llm.endpoint(), sampling=Sampling(), limit=3)
        schemas = [r["response_format"]["json_schema"]["schema"] for r in llm.requests]
        prompts = [r["messages"][-1]["content"] for r in llm.requests]
    assert done.result.metrics["withoutWords"] == 0
    assert all("thinking" in schema["properties"] for schema in schemas)
    signals = [
        Signal.model_validate_json(line) for data in library.parts().values() for line in (data or b"").splitlines()
    ]
    assert all(len(signal.categories) == 2 for signal in signals)
    assert all(len(prompt.splitlines()) > 10 and "year: " in prompt for prompt in prompts)


def test_brief_answers_are_named_after_the_kinds_shown(library: Library) -> None:
    with fake_llm() as llm:  # any valid answer
        done = library.verbalize(llm.endpoint(), limit=10)
        schemas = [r["response_format"]["json_schema"]["schema"] for r in llm.requests]
    assert done.result.metrics["withoutWords"] == 0
    assert any("Drama" in s["properties"]["name"]["enum"] for s in schemas)  # in which order they came is chance
    assert all(len(s["properties"]["name"]["enum"]) <= 10 for s in schemas)


def test_brief_prompts_are_short(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
        prompts: list[str] = [r["messages"][-1]["content"] for r in llm.requests]
    assert max(map(len, prompts)) < 700
    assert all(len(re.findall(r"^\d+\. ", prompt, re.MULTILINE)) <= 6 for prompt in prompts)
