"""Long histories: grouped, summarized once, remembered."""

import asyncio
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from star_contracts.data import Interaction, RankingTask, Usage
from star_contracts.settings import Sampling
from star_jobs.llm.client import LLMClient
from star_jobs.teacher.abstractor import Abstractor, groups
from star_jobs.trajectory.prompt import BRIEF
from tests.support.fakellm import FakeLLM, Request, fake_llm
from tests.support.world import ITEMS, tasks

CATALOGUE = {item.item_id: item for item in ITEMS}


class Memory:
    """Objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data

    def get(self, name: str) -> bytes | None:
        return self.objects.get(name)


def task_with(length: int, user: str = "u1") -> RankingTask:
    history = tuple(Interaction(item_id=f"i{n % 12}", timestamp=n) for n in range(length))
    return tasks(1)[0].model_copy(update={"history": history, "user_id": user})


def count(request: Request) -> str:
    return f"a summary of {request['messages'][0]['content'].count('Film')} films"


def ignore(usage: Usage) -> None:
    """Spend nothing."""


async def summaries(
    llm: FakeLLM,
    kept: Memory,
    asked: Sequence[RankingTask],
    spend: Callable[[Usage], None] = ignore,
    *,
    brief: bool = True,
) -> list[str]:
    async with LLMClient(llm.endpoint()) as client:
        abstractor = Abstractor(client, Sampling(max_tokens=64), CATALOGUE, kept, brief=brief)
        return await asyncio.gather(*(abstractor.summary(task, BRIEF, spend) for task in asked))


async def test_a_short_history_needs_no_model() -> None:
    with fake_llm(count) as llm:
        assert await summaries(llm, Memory(), [task_with(BRIEF.history), task_with(0)]) == ["", ""]
    assert llm.requests == []


async def test_groups_are_fused_one_after_the_other() -> None:
    with fake_llm(count) as llm:
        (summary,) = await summaries(llm, Memory(), [task_with(14)])
    first, second = [request["messages"][0]["content"] for request in llm.requests]
    assert first.count("Film") == 2, "what is left over comes first, so that the last group is full"
    assert second.count("Film") == 6
    assert "Summary of what came before: a summary of 2 films" in second
    assert summary.startswith("a summary of 6 films")
    assert llm.requests[0]["temperature"] == 0


async def test_the_prompt_shows_ids_and_asks_for_them_and_for_500_words() -> None:
    with fake_llm(count) as llm:
        await summaries(llm, Memory(), [task_with(12)], brief=False)
    prompt = llm.requests[0]["messages"][0]["content"]
    assert "at most 500 words" in prompt
    assert "ids of telling items" in prompt
    assert "i3 Film 3" in prompt


async def test_a_summary_is_cut_at_500_words() -> None:
    with fake_llm(lambda request: "i1 " + "on " * 900) as llm:
        (summary,) = await summaries(llm, Memory(), [task_with(12)], brief=False)
    assert len(summary.split()) == 500


async def test_a_summary_that_names_items_is_kept_as_it_is() -> None:
    with fake_llm(lambda request: "Saw i1, then (i2).") as llm:
        assert await summaries(llm, Memory(), [task_with(12)]) == ["Saw i1, then (i2)."]


async def test_a_summary_without_ids_gets_those_of_the_best_rated_items() -> None:
    history = tuple(Interaction(item_id=f"i{n}", timestamp=n, rating=n % 4) for n in range(12))
    task = task_with(0).model_copy(update={"history": history})
    with fake_llm(lambda request: "many films") as llm:
        assert await summaries(llm, Memory(), [task]) == ["many films (items i3, i2, i1)"]


async def test_who_asked_first_pays_for_a_summary() -> None:
    spent: list[Usage] = []
    with fake_llm(count, latency_seconds=0.02) as llm:
        kept = Memory()
        await summaries(llm, kept, [task_with(12)] * 4, spent.append)
        await summaries(llm, kept, [task_with(12)], spent.append)
    assert sorted(usage.calls for usage in spent) == [0, 0, 0, 0, 1]


async def test_equal_histories_are_summarized_once_and_remembered() -> None:
    kept = Memory()
    with fake_llm(count, latency_seconds=0.02) as llm:
        first = await summaries(llm, kept, [task_with(12)] * 5)
        again = await summaries(llm, kept, [task_with(12)])
        await summaries(llm, kept, [task_with(12, user="u2")])
    assert set(first) == set(again)
    assert len(llm.requests) == 2


@given(st.integers(0, 100), st.integers(1, 20))
def test_groups_cut_a_history_into_full_ones_from_the_end(length: int, size: int) -> None:
    history = task_with(length).history
    cut = groups(history, size)
    assert [entry for group in cut for entry in group] == list(history)
    assert all(len(group) == size for group in cut[1:])
    assert all(0 < len(group) <= size for group in cut)
