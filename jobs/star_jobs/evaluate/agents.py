"""The paper's single-agent baselines (4.1): an untrained model under one prompt, without tools or other agents.

    Base                   ranks at once
    ChainOfThought         reasons step by step, then ranks
    Memory                 first notes what is worth remembering of the history, then ranks by the notes and the latest
                           interactions
    ChainOfThoughtMemory   both

AgentRecBench (https://arxiv.org/abs/2505.19623) names the four and publishes programs, not prompts that fit other
data: the prompts here (`prompts/`) are ours, and so is what Memory means. They see what the student sees of a task.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from star_contracts.data import Item, Usage
from star_contracts.settings import Sampling, SingleAgent
from star_jobs.llm.client import LLMClient
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.usage import add_usage
from star_jobs.trajectory.prompt import (
    CHAT_TEMPLATE_ARGUMENTS,
    ShownTask,
    describe_candidates,
    describe_history,
    describe_past,
    describe_task,
    describe_user,
    style_of,
)
from star_jobs.trajectory.reward import is_permutation
from star_jobs.trajectory.student import StudentAnswer

LATEST = 3
"""Interactions that an agent with a memory sees beside its notes."""
NOTES = 6
"""Sentences its notes may have."""
NOTES_SHARE = 4
"""The notes may take one in so many of the tokens: the ranking needs the rest."""
NO_RANKING = "no JSON list of ids"
_LIST = re.compile(r"\[[^\[\]]*\]")
_THINKING = (SingleAgent.CHAIN_OF_THOUGHT, SingleAgent.CHAIN_OF_THOUGHT_MEMORY)
_REMEMBERING = (SingleAgent.MEMORY, SingleAgent.CHAIN_OF_THOUGHT_MEMORY)

# Prompts are plain text for a model: escaping for HTML would only damage titles.
_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("prompts")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    autoescape=False,  # noqa: S701
    auto_reload=False,
)


async def answer_alone(
    client: LLMClient, task: ShownTask, items: Mapping[str, Item], sampling: Sampling, agent: SingleAgent
) -> StudentAnswer:
    """Let a single agent answer a task; the last JSON list it writes is its ranking.

    `sampling.max_tokens` bounds what it generates in the whole answer. Raises what the client raises; a poor answer is
    not an error.
    """
    started = time.monotonic()
    turns = _Turns(client, sampling)
    notes = ""
    if agent in _REMEMBERING:
        notes = await turns.ask(remember_messages(task, items), sampling.max_tokens // NOTES_SHARE)
    ranking = last_list(await turns.ask(rank_messages(task, items, agent, notes), sampling.max_tokens))
    return StudentAnswer(
        text="\n\n".join(turns.texts),
        ranking=ranking,
        valid=is_permutation(ranking, task.candidates),
        format_error=None if ranking else NO_RANKING,
        tool_calls=(),
        usage=turns.usage,
        seconds=time.monotonic() - started,
        waited=turns.waited,
    )


def rank_messages(task: ShownTask, items: Mapping[str, Item], agent: SingleAgent, notes: str = "") -> list[ChatMessage]:
    """Return the chat that asks for the ranking; `notes` replace all but the latest interactions."""
    remembering, style = agent in _REMEMBERING, style_of(len(task.candidates))
    system = _render("rank", candidates=len(task.candidates), think=agent in _THINKING, memory=remembering)
    shown = describe_task(task, items, style)
    if remembering:
        latest = describe_history(task.history[-LATEST:], items, style)
        candidates = "Candidates:\n" + describe_candidates(task.candidates, items, style)
        shown = "\n".join([describe_user(task, style), f"Your notes:\n{notes.strip() or 'none'}", latest, candidates])
    return [{"role": "system", "content": system}, {"role": "user", "content": shown}]


def remember_messages(task: ShownTask, items: Mapping[str, Item]) -> list[ChatMessage]:
    """Return the chat that asks for notes about the user; the candidates are not shown."""
    style = style_of(len(task.candidates))
    shown = "\n".join([describe_user(task, style), describe_past(task, items, style)])
    return [
        {"role": "system", "content": _render("remember", sentences=NOTES)},
        {"role": "user", "content": shown},
    ]


def last_list(text: str) -> tuple[str, ...]:
    """Return the ids of the last JSON list of strings or numbers in a text; empty when there is none."""
    for found in reversed(_LIST.findall(text)):
        try:
            values = json.loads(found)
        except ValueError:
            continue
        if values and all(isinstance(value, (str, int)) for value in values):
            # JSON can spell half an emoji, and no record can hold it.
            return tuple(str(value).strip().encode(errors="replace").decode() for value in values)
    return ()


@dataclass
class _Turns:
    """The calls of one answer."""

    client: LLMClient
    sampling: Sampling
    texts: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    waited: float = 0.0

    async def ask(self, messages: list[ChatMessage], most: int) -> str:
        left = min(most, self.sampling.max_tokens - self.usage.completion_tokens)
        reply = await self.client.chat(
            messages,
            sampling=self.sampling.model_copy(update={"max_tokens": max(1, left)}),
            template_arguments=CHAT_TEMPLATE_ARGUMENTS,
        )
        self.usage = add_usage(self.usage, reply.usage)
        self.waited += reply.waited
        self.texts.append(reply.text)
        return reply.text


def _render(name: str, **values: object) -> str:
    return _templates.get_template(f"{name}.j2").render(**values).strip()
