"""The Long Sequence Abstractor (paper 3.2 and appendix E): old behaviour as a summary, recent behaviour as it is.

A history is cut into groups of m interactions. Each group but the last is summarized together with the summary of what
came before it; the last group is shown raw. m is what a prompt of the task's style shows one by one. Groups are counted
from the recent end, so that the raw one is always full. A summary has at most 500 words and names item ids: where the
model named none, those of the best-rated items of the group are put behind it.
Summaries are kept by content: other passes, other tasks of the same user and a restarted pod find them.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from star_contracts.base import value_hash
from star_contracts.data import Interaction, Item, RankingTask, Usage
from star_contracts.settings import Sampling
from star_jobs.llm.client import LLMClient
from star_jobs.teacher.templates import render, source_digest
from star_jobs.trajectory.prompt import PromptStyle, describe_history, describe_user
from star_jobs.trajectory.text import clean, shorten

WORDS = 500
"""Of a summary at most (appendix E)."""
_CHARS = 4000
_BRIEF_CHARS = 160
_WORD = re.compile(r"[^\s()\[\],;.:]+")
_CITED = 3
"""Items named for a model that named none."""


class SummaryStore(Protocol):
    """Where summaries outlive the process: `WorkArea`."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        ...

    def get(self, name: str) -> bytes | None:
        """Return an object's content, or None."""
        ...


class Abstractor:
    """Summarizes what is too long ago to be shown. One a process; safe for many tasks at once."""

    def __init__(
        self, client: LLMClient, sampling: Sampling, items: Mapping[str, Item], kept: SummaryStore, *, brief: bool
    ) -> None:
        # Greedy: a summary is a fact about a history, the same in every pass.
        self._sampling = sampling.model_copy(update={"temperature": 0.0})
        self.client = client
        self._items = items
        self._kept = kept
        self._brief = brief
        self._running: dict[str, asyncio.Task[tuple[str, Usage]]] = {}

    async def summary(self, task: RankingTask, style: PromptStyle, spend: Callable[[Usage], None]) -> str:
        """Return the summary of all but the last `style.history` interactions; empty when nothing is older.

        `spend` is told of the calls that were made for this very request, not of those that others asked for.
        """
        text = ""
        for group in groups(task.history, style.history)[:-1]:
            text, usage = await self._fused(task, text, group, style)
            spend(usage)
        return text

    async def _fused(
        self, ranking: RankingTask, before: str, group: Sequence[Interaction], style: PromptStyle
    ) -> tuple[str, Usage]:
        prompt = render(
            "abstract",
            brief=self._brief,
            words=WORDS,
            user=describe_user(ranking, style),
            summary=before,
            history=describe_history(group, self._items, style),
        )
        key = value_hash([self.client.endpoint.model, source_digest("abstract"), prompt])
        task = self._running.get(key)
        if task is not None:
            return (await asyncio.shield(task))[0], Usage()
        task = asyncio.create_task(self._remembered(key, prompt, group))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key))
        # A run that is cancelled must not take the summary from the others that wait for it.
        return await asyncio.shield(task)

    async def _remembered(self, key: str, prompt: str, group: Sequence[Interaction]) -> tuple[str, Usage]:
        name = f"summaries/{key.removeprefix('sha256:')[:32]}.txt"
        if (known := await asyncio.to_thread(self._kept.get, name)) is not None:
            return known.decode(), Usage()
        reply = await self.client.chat([{"role": "user", "content": prompt}], sampling=self._sampling)
        text = cited(bounded(clean(reply.text), _BRIEF_CHARS if self._brief else _CHARS), group)
        await asyncio.to_thread(self._kept.put, name, text.encode())
        return text, reply.usage


def bounded(text: str, chars: int) -> str:
    """Return at most `WORDS` words and about `chars` characters."""
    words = text.split(" ")
    return shorten(text if len(words) <= WORDS else " ".join(words[:WORDS]), chars)


def cited(text: str, group: Sequence[Interaction]) -> str:
    """Return a summary that names items of the group: as it is where it names one, else with ids behind it."""
    if {entry.item_id for entry in group} & set(_WORD.findall(text)):
        return text
    telling = sorted(group, key=lambda entry: -(entry.rating or 0.0))[:_CITED]
    return f"{text} (items {', '.join(clean(entry.item_id) for entry in telling)})"


def groups(history: Sequence[Interaction], size: int) -> list[Sequence[Interaction]]:
    """Cut a history into consecutive groups of `size`; the first one takes what is left over."""
    first = len(history) % size
    cuts = [0, *range(first or size, len(history), size), len(history)] if history else [0]
    return [history[start:end] for start, end in pairwise(cuts)]
