"""The three stages of a Verbalization on a real store: neighbours, words, look-up store."""

import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.data import Signal, SignalKind, TaskType
from star_contracts.errors import Reason
from star_contracts.job import (
    CollectSignals,
    ComputeNeighbours,
    LLMEndpoint,
    PrepareDataset,
    VerbalizeSignals,
)
from star_contracts.result import ExitCode
from star_contracts.settings import (
    DatasetFormat,
    LeakageRules,
    NeighbourSettings,
    Sampling,
    SignalScope,
    TaskSettings,
)
from star_jobs.datasets.snapshot import Dataset
from star_jobs.llm import failures
from star_jobs.lookup import SignalStore
from star_jobs.runtime import JobContext
from star_jobs.storage import ArtifactWriter, ObjectStore
from star_jobs.verbalize import prompting
from star_jobs.verbalize.pairs import Neighbours
from star_jobs.verbalize.worklist import CHUNK, task_keys
from tests.support.fakellm import Answer, Request, fake_llm
from tests.support.jobs import Finished, JobRunner, environment
from tests.support.movielens import movielens_100k
from tests.support.s3 import S3Server

STEP = "verbalize"


@dataclass(frozen=True)
class Library:
    """A dataset, its neighbours, and the stages made of them."""

    jobs: JobRunner
    dataset: ArtifactRef
    neighbours: ArtifactRef

    def verbalize(self, llm: LLMEndpoint, *, shards: int = 1, index: int = 0, **changes: object) -> Finished:
        values: dict[str, object] = {
            "dataset": self.dataset,
            "neighbours": self.neighbours,
            "llm": llm,
            "sampling": Sampling(max_tokens=96),
            "scope": SignalScope.TASKS,
            "limit": 40,
        }
        stage = VerbalizeSignals.model_validate(values | changes)
        return self.jobs.run(stage, step=STEP, shards=shards, index=index)

    def collect(
        self,
        scope: SignalScope = SignalScope.TASKS,
        limit: int | None = 40,
        previous: ArtifactRef | None = None,
        output: str = "",
    ) -> Finished:
        stage = CollectSignals(
            dataset=self.dataset, neighbours=self.neighbours, scope=scope, limit=limit, previous=previous
        )
        return self.jobs.run(stage, step=STEP, output=output)

    def near(self, kind: SignalKind) -> dict[str, tuple[str, ...]]:
        found = Neighbours(self.jobs.fetch(self.neighbours))
        lists = [found.lists(kind, part, found.rows(kind, part)) for part in found.parts(kind)]
        return dict(entry for part in lists for entry in part)

    def newer(self, **changes: object) -> "Library":
        """The same library in another run, with nothing made yet."""
        for name in self.parts():
            self.jobs.work(STEP).delete(name)
        return replace(self, **changes)  # type: ignore[arg-type]

    def parts(self) -> dict[str, bytes | None]:
        work = self.jobs.work(STEP)
        return {name: work.get(name) for name in work.list("parts")}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)


@pytest.fixture(scope="module")
def inputs(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactRef, ArtifactRef]:
    """A dataset and its neighbours, made once."""
    with environment(s3_server.environment()):
        store = ObjectStore(s3_server.store())
    jobs = JobRunner(s3_server, store, s3_server.new_uri("inputs"), tmp_path_factory.mktemp("inputs"))
    for path in movielens_100k().iterdir():
        store.upload(path, f"{jobs.uri}/source/{path.name}")
    wanted = TaskSettings(types=(TaskType.CLASSIC,), candidates=5, train=8, test=4, history_length=6)
    prepare = PrepareDataset(
        format=DatasetFormat.MOVIELENS, source=f"{jobs.uri}/source", tasks=wanted, leakage=LeakageRules()
    )
    dataset = jobs.run(prepare).artifact
    return dataset, jobs.run(ComputeNeighbours(dataset=dataset, neighbours=NeighbourSettings(k=10))).artifact


@pytest.fixture
def library(jobs: JobRunner, inputs: tuple[ArtifactRef, ArtifactRef]) -> Library:
    return Library(jobs, *inputs)


def shown(request: Request) -> list[str]:
    """The numbered titles of a prompt."""
    return re.findall(r"^\d+\. (.+)$", request["messages"][-1]["content"], re.MULTILINE)


def tidy(request: Request) -> str:
    """A good answer, different for each prompt."""
    titles = shown(request)
    items = f"1, {len(titles)}, 1"
    return json.dumps({"name": titles[0][:20], "summary": f"Like {titles[-1]}"[:48], "items": items})


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


def sometimes(share: int, bad: str | Answer) -> Callable[[Request], Answer | str]:
    """A model that fails for good at every `share`-th prompt."""

    def script(request: Request) -> Answer | str:
        number = sum(map(ord, request["messages"][-1]["content"]))
        return bad if number % share == 0 else tidy(request)

    return script


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


@pytest.fixture
def refreshed(library: Library) -> tuple[Library, ArtifactRef]:
    """A library, and the store that an earlier run over it left."""
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
    store = library.collect(output="before").artifact
    return library.newer(), store


def with_changed_neighbours(library: Library, user: str, places: tuple[int, int]) -> ArtifactRef:
    """The same neighbours, but for two of one user's, which change places."""
    folder = library.jobs.folder / "changed"
    shutil.copytree(library.jobs.fetch(library.neighbours), folder, ignore=shutil.ignore_patterns("manifest.json"))
    row = pl.read_parquet(folder / "users.parquet")["id"].to_list().index(user)
    for path in (folder / "user_cf").iterdir():
        pairs = pl.read_parquet(path)
        mine = np.flatnonzero(pairs["key"].to_numpy() == row)
        if len(mine):
            neighbours = pairs["neighbour"].to_numpy().copy()
            one, two = (mine[place] for place in places)
            neighbours[[one, two]] = neighbours[[two, one]]
            pairs.with_columns(neighbour=neighbours).write_parquet(path)
    writer = ArtifactWriter(library.jobs.store, f"{library.jobs.uri}/changed")
    writer.add_tree(folder)
    producer = Producer(
        kind="Test", namespace="ns", name="n", uid="u", step="neighbours", work_hash="sha256:" + "0" * 64
    )
    manifest = writer.commit(ArtifactKind.NEIGHBOURS, producer, {}, {})
    return ArtifactRef(uri=writer.uri, digest=manifest.digest())


def test_a_refresh_asks_only_for_the_user_whose_neighbours_changed(refreshed: tuple[Library, ArtifactRef]) -> None:
    library, before = refreshed
    user = Dataset(library.jobs.fetch(library.dataset)).tasks("test")[0].user_id
    titles = {item.item_id: item.title for item in Dataset(library.jobs.fetch(library.dataset)).items.values()}
    library = library.newer(neighbours=with_changed_neighbours(library, user, (0, 1)))
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
        asked = [shown(request)[:2] for request in llm.requests]
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (1, 51)
    now = library.near(SignalKind.USER_CF)[user]
    assert len(asked) == 1
    assert [title.startswith(titles[item]) for title, item in zip(asked[0], now, strict=False)] == [True, True]
    collected = library.collect(previous=before)
    assert (collected.result.metrics["made"], collected.result.metrics["reused"]) == (1, 51)
    old, new = (SignalStore.open(library.jobs.fetch(ref)) for ref in (before, collected.artifact))
    for kind in SignalKind:
        for key in library.near(kind):
            same = old.get(kind, key) == new.get(kind, key)
            assert same == ((kind, key) != (SignalKind.USER_CF, user))


def test_neighbours_too_far_down_to_be_shown_change_no_words(refreshed: tuple[Library, ArtifactRef]) -> None:
    library, before = refreshed
    user = Dataset(library.jobs.fetch(library.dataset)).tasks("test")[0].user_id
    library = library.newer(neighbours=with_changed_neighbours(library, user, (8, 9)))
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
        assert llm.requests == []
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (0, 52)
    signal = SignalStore.open(library.jobs.fetch(library.collect(previous=before).artifact)).get(
        SignalKind.USER_CF, user
    )
    assert signal is not None
    assert signal.neighbours == library.near(SignalKind.USER_CF)[user], "the neighbours are today's all the same"


@pytest.mark.parametrize(
    "change", [{"sampling": Sampling(max_tokens=97)}, {"model": "another"}, {"template": "Say it otherwise."}]
)
def test_another_model_sampling_or_prompt_makes_everything_anew(
    change: dict[str, Any], refreshed: tuple[Library, ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, before = refreshed
    if template := change.pop("template", None):
        messages = prompting.Prompter.messages
        monkeypatch.setattr(
            prompting.Prompter,
            "messages",
            lambda self, entry: [*messages(self, entry), {"role": "user", "content": template}],
        )
    with fake_llm(lambda request: '{"name": "Film", "summary": "Films", "items": "1"}') as llm:
        llm.models = (llm.models[0], "another")
        endpoint = llm.endpoint(**({"model": change.pop("model")} if "model" in change else {}))
        done = library.verbalize(endpoint, previous=before, **change)
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (52, 0)


def test_an_entry_without_words_is_asked_for_again(library: Library) -> None:
    with fake_llm(sometimes(4, "not json")) as llm:
        without = library.verbalize(llm.endpoint()).result.metrics["withoutWords"]
    before = library.collect(output="before").artifact
    library = library.newer()
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
    assert 0 < without == done.result.metrics["made"]
    assert done.result.metrics["withoutWords"] == 0


@pytest.mark.bad_input
def test_something_else_than_a_store_cannot_be_refreshed(library: Library) -> None:
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=library.dataset)
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.ARTIFACT_CORRUPTED)
    assert "not a look-up store" in done.error.message


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
    assert all("Drama" in s["properties"]["name"]["enum"] for s in schemas[:1])
    assert all(len(s["properties"]["name"]["enum"]) <= 10 for s in schemas)


def test_brief_prompts_are_short(library: Library) -> None:
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
        prompts: list[str] = [r["messages"][-1]["content"] for r in llm.requests]
    assert max(map(len, prompts)) < 700
    assert all(len(re.findall(r"^\d+\. ", prompt, re.MULTILINE)) <= 6 for prompt in prompts)
