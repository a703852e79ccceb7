"""Long histories: summarized group by group from the oldest end, once, and of a task's own history alone."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from star_contracts.artifact import ArtifactRef
from star_contracts.data import Interaction, RankingTask, Summary
from star_contracts.job import CollectSignals, ComputeNeighbours, LLMEndpoint, VerbalizeSignals
from star_contracts.result import ExitCode
from star_contracts.settings import NeighbourSettings, Sampling, SignalScope
from star_jobs.datasets.snapshot import Dataset
from star_jobs.datasets.users import KnownUsers
from star_jobs.llm.client import LLMClient
from star_jobs.lookup import SignalStore
from star_jobs.storage import ObjectStore
from star_jobs.trajectory.prompt import shown, summary_key
from star_jobs.verbalize.pasts import beginnings, pasts
from star_jobs.verbalize.prompting import render
from star_jobs.verbalize.shard import Shard
from star_jobs.verbalize.summaries import Summarizer
from tests.support.fakellm import Answer, FakeLLM, Request, any_valid_answer, fake_llm
from tests.support.jobs import Finished, JobRunner
from tests.support.training import TrainingInputs
from tests.support.world import HISTORY_LENGTH, ITEMS, tasks, with_past, write_dataset

CATALOGUE = {item.item_id: item for item in ITEMS}
TASK = tasks(1)[0]
"""Its prompts show 6 interactions."""
HISTORY = "History, newest last"


def prompt_of(request: Request) -> str:
    text: str = request["messages"][-1]["content"]
    return text


def is_summary(request: Request) -> bool:
    return HISTORY in prompt_of(request)


def count(request: Request) -> str:
    """A summary that says how many films it was shown and which was the last, after what came before."""
    before = re.search(r"what came before: (.*)", prompt_of(request))
    films = re.findall(r"^(i\d+) Film", prompt_of(request), re.MULTILINE)
    return f"{before[1] + ', ' if before else ''}{len(films)} films to {films[-1]}"


async def summarize(llm: FakeLLM, task: RankingTask, *, max_tokens: int = 64) -> list[Summary]:
    shard = Shard(job=None, model="m", total=1000, found=0)  # type: ignore[arg-type] - it reports nothing here
    async with LLMClient(llm.endpoint()) as client:
        summarizer = Summarizer(client, CATALOGUE, Sampling(max_tokens=max_tokens), None, shard)
        return await summarizer.of_user(list(beginnings(task)))


async def test_a_short_history_needs_no_model() -> None:
    with fake_llm(count) as llm:
        assert [await summarize(llm, with_past(TASK, length)) for length in (0, 1, 6)] == [[], [], []]
    assert llm.requests == []


async def test_groups_are_fused_one_after_the_other() -> None:
    task = with_past(TASK, 14)
    with fake_llm(count) as llm:
        made = await summarize(llm, task)
    first, second = map(prompt_of, llm.requests)
    assert [prompt.count(" Film ") for prompt in (first, second)] == [6, 6], "the last two are shown, not summarized"
    assert "what came before" not in first
    assert "Summary of what came before: 6 films to i5" in second
    assert [summary.text for summary in made] == ["6 films to i5", "6 films to i5, 6 films to i11"]
    assert [summary.key for summary in made] == [summary_key("u1", task.history[:end]) for end in (6, 12)]
    assert llm.requests[0]["temperature"] == 0


async def test_the_prompt_shows_ids_and_asks_for_them_and_for_500_words() -> None:
    with fake_llm(count) as llm:
        await summarize(llm, with_past(TASK, 12), max_tokens=1024)
    prompt = prompt_of(llm.requests[0])
    assert "at most 500 words" in prompt
    assert "ids of telling items" in prompt
    assert "i3 Film 3" in prompt


@pytest.mark.parametrize("brief", [True, False])
def test_data_in_a_summarys_prompt_is_shown_and_not_rendered(brief: bool) -> None:
    text = render("summary.j2", brief=brief, words=500, user="User {{ words }}", summary="", history="i2 Film")
    assert "User {{ words }}" in text
    assert "what came before" not in text


async def test_a_summary_is_cut_at_500_words() -> None:
    with fake_llm(lambda request: "i1 " + "on " * 900) as llm:
        (summary,) = await summarize(llm, with_past(TASK, 12), max_tokens=1024)
    assert len(summary.text.split()) == 500


async def test_a_summary_that_names_items_is_kept_as_it_is() -> None:
    with fake_llm(lambda request: "Saw i1, then (i2).") as llm:
        assert [s.text for s in await summarize(llm, with_past(TASK, 12))] == ["Saw i1, then (i2)."]


async def test_a_summary_without_ids_gets_those_of_the_best_rated_items() -> None:
    history = tuple(Interaction(item_id=f"i{n}", timestamp=n, rating=n % 4) for n in range(7))
    with fake_llm(lambda request: "many films") as llm:
        (summary,) = await summarize(llm, TASK.model_copy(update={"history": history}))
    assert summary.text == "many films (items i3, i2, i1)"


@pytest.mark.bad_input
@pytest.mark.parametrize("bad", ["", Answer("prompt too long", status=400)])
async def test_nothing_goes_on_from_a_summary_that_failed(bad: str | Answer) -> None:
    with fake_llm(lambda request: bad) as llm:
        made = await summarize(llm, with_past(TASK, 19))
    assert [summary.text for summary in made] == [""] * 3
    assert len(llm.requests) == 1


class Archive:
    """Verbalizations of datasets with these training tasks."""

    def __init__(self, jobs: JobRunner, inputs: TrainingInputs) -> None:
        self.jobs, self.inputs = jobs, inputs
        self._datasets: dict[str, ArtifactRef] = {}

    def dataset(self, given: list[RankingTask]) -> ArtifactRef:
        """The dataset of these tasks: the same one each time."""
        known = "".join(task.model_dump_json() for task in given)
        if known not in self._datasets:
            self._datasets[known] = self.inputs.dataset(given)
        return self._datasets[known]

    def verbalize(self, llm: LLMEndpoint, given: list[RankingTask], **changes: object) -> tuple[Finished, Finished]:
        """Verbalize and collect."""
        dataset = self.dataset(given)
        output = dataset.digest[-8:]
        near = ComputeNeighbours(dataset=dataset, neighbours=NeighbourSettings())
        values: dict[str, object] = {
            "dataset": dataset,
            "neighbours": self.jobs.run(near, output=f"near-{output}").artifact,
            "scope": SignalScope.TASKS,
        }
        shards = int(str(changes.pop("shards", 1)))
        for index in range(shards):
            stage = VerbalizeSignals.model_validate(
                {**values, "llm": llm, "sampling": Sampling(max_tokens=96)} | changes
            )
            made = self.jobs.run(stage, step=output, shards=shards, index=index)
        stage_of_all = CollectSignals.model_validate(values | changes)
        return made, self.jobs.run(stage_of_all, step=output, output=f"store-{output}")

    def store(self, collected: Finished) -> SignalStore:
        return SignalStore.open(self.jobs.fetch(collected.artifact))


@pytest.fixture
def archive(jobs: JobRunner, store: ObjectStore, uri: str, tmp_path: Path) -> Archive:
    return Archive(jobs, TrainingInputs(store, uri, tmp_path))


def script(say: Callable[[Request], str | Answer] = count) -> Callable[[Request], str | Answer]:
    """Summaries by `say`, and something valid for every signal."""
    return lambda request: say(request) if is_summary(request) else any_valid_answer(request)


def long_tasks(*lengths: int) -> list[RankingTask]:
    """Tasks of different users."""
    return [with_past(task, length) for task, length in zip(tasks(4)[: len(lengths)], lengths, strict=True)]


def test_the_store_has_what_prompts_of_long_histories_need(archive: Archive) -> None:
    given = long_tasks(6, 7, 20)
    with fake_llm(script()) as llm:
        _, collected = archive.verbalize(llm.endpoint(), given)
    assert collected.result.metrics["summaries"] == 1 + 3
    seen = [shown(task, archive.store(collected)) for task in given]
    assert [len(task.history) for task in seen] == [6, 1, 2]
    assert [task.summary.count("films") for task in seen] == [0, 1, 3]


def test_shards_share_the_histories_and_agree_with_one_pod(archive: Archive) -> None:
    given = long_tasks(20, 13, 7)
    with fake_llm(script()) as llm:
        _, one = archive.verbalize(llm.endpoint(), given)
        asked = sum(map(is_summary, llm.requests))
        _, two = archive.verbalize(llm.endpoint(), given[::-1], shards=2)
        assert sum(map(is_summary, llm.requests)) == 2 * asked == 2 * 6
    stores = archive.store(one), archive.store(two)
    assert [shown(task, stores[0]) for task in given] == [shown(task, stores[1]) for task in given]


def test_a_finished_history_is_never_summarized_again(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod was killed when it had written all parts but one."""
    monkeypatch.setattr("star_jobs.verbalize.pasts.USERS", 1)
    given = long_tasks(20, 13, 7)
    with fake_llm(script()) as llm:
        archive.verbalize(llm.endpoint(), given)
        asked = len(llm.requests)
        work = archive.jobs.work(archive.dataset(given).digest[-8:])
        before = {name: work.get(name) for name in work.list("parts")}
        work.delete("parts/summaries-0000001.jsonl")
        made, _ = archive.verbalize(llm.endpoint(), given)
        anew = llm.requests[asked:]
    assert ["User u2" in prompt_of(request) for request in anew if is_summary(request)] == [True, True]
    assert (len(anew), made.result.metrics["made"]) == (2, 2)
    assert {name: work.get(name) for name in work.list("parts")} == before


def test_summaries_can_be_left_out(archive: Archive) -> None:
    with fake_llm(script()) as llm:
        _, collected = archive.verbalize(llm.endpoint(), long_tasks(20), summaries=False)
    assert not any(map(is_summary, llm.requests))
    assert collected.result.metrics["summaries"] == 0


def test_tasks_of_one_user_share_what_they_have_in_common(archive: Archive) -> None:
    early = with_past(TASK, 13)
    late = with_past(TASK, 20).model_copy(update={"task_id": "later"})
    with fake_llm(script()) as llm:
        _, collected = archive.verbalize(llm.endpoint(), [early, late])
    assert sum(map(is_summary, llm.requests)) == collected.result.metrics["summaries"] == 3


def test_a_summary_is_made_of_its_own_tasks_history_alone(archive: Archive) -> None:
    """Not of what the user did after the task's moment, nor of anybody else's past (paper B.1)."""
    mark = tuple(
        with_past(task, 14).model_copy(
            update={"history": tuple(Interaction(item_id=f"i{n}", timestamp=i) for i in range(14))}
        )
        for n, task in enumerate(tasks(3)[:3])
    )
    with fake_llm(
        script(lambda request: "Saw " + " ".join(sorted(set(re.findall(r"i\d+", prompt_of(request))))))
    ) as llm:
        _, collected = archive.verbalize(llm.endpoint(), list(mark))
    store = archive.store(collected)
    assert [shown(task, store).summary for task in mark] == ["Saw i0", "Saw i1", "Saw i2"]
    for request in filter(is_summary, llm.requests):
        assert not [item for task in mark for item in task.candidates if f"{item} Film" in prompt_of(request)]


def test_a_refresh_summarizes_only_what_is_new(archive: Archive) -> None:
    with fake_llm(script()) as llm:
        _, before = archive.verbalize(llm.endpoint(), long_tasks(13, 20))
        asked = len(llm.requests)
        made, now = archive.verbalize(llm.endpoint(), long_tasks(19, 20), previous=before.artifact)
        anew = llm.requests[asked:]
    assert [is_summary(request) for request in anew] == [True]
    assert f"{HISTORY}:\ni0 Film 0" in prompt_of(anew[0])
    assert made.result.metrics["made"] == now.result.metrics["made"] == 1
    assert now.result.metrics["summaries"] == 6


def test_a_changed_beginning_is_summarized_again_with_all_that_follows(archive: Archive) -> None:
    (task,) = long_tasks(20)
    changed = task.model_copy(update={"history": (task.history[0].model_copy(update={"rating": 1}), *task.history[1:])})
    with fake_llm(script(lambda request: f"i1 {len(llm.requests)}")) as llm:
        _, before = archive.verbalize(llm.endpoint(), [task])
        made, _ = archive.verbalize(llm.endpoint(), [changed], previous=before.artifact)
    assert made.result.metrics["made"] == 3


@pytest.mark.bad_input
def test_a_history_without_a_summary_is_counted_and_shown_as_without_a_store(archive: Archive) -> None:
    given = long_tasks(14)
    with fake_llm(script(lambda request: "")) as llm:
        made, collected = archive.verbalize(llm.endpoint(), given)
    assert (made.code, collected.code) == (ExitCode.DONE, ExitCode.DONE)
    assert collected.result.metrics["withoutWords"] == 2
    assert shown(given[0], archive.store(collected)) == shown(given[0], None)


def test_in_scope_all_users_are_prepared_as_they_are_served(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dataset", [TASK])
    rows = [(user, f"i{n % 12}", n, 4.0) for user, count in (("u1", 14), ("u2", 30), ("u3", 6)) for n in range(count)]
    pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "rating"], orient="row").write_parquet(
        folder / "interactions.parquet"
    )
    dataset = Dataset(folder)
    (part,) = pasts(dataset, SignalScope.ALL, None)
    served = KnownUsers.of(dataset)
    wanted = {"u1": (6, 12), "u2": (6, 12, 18)}
    assert len(served.history("u2")) == HISTORY_LENGTH == 20, "the latest"
    assert part.identities() == [
        ("Summary", summary_key(user, served.history(user)[:end])) for user, ends in wanted.items() for end in ends
    ]
    assert len(part) == 5
    assert [len(some) for some in pasts(dataset, SignalScope.ALL, 1)] == [2]
    assert pasts(dataset, SignalScope.TASKS, None) == [], "the task's own history is short"
