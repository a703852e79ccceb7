"""The Long Sequence Abstractor (paper 3.2 and appendix E): a long history's beginning in words.

A history is cut into groups of m interactions from its oldest end, where m is what a prompt of the task's style shows
one by one (`trajectory.prompt.summarized`). Each group but the last is summarized together with the summary of what
came before it; prompts show the last group as it is. A summary has at most 500 words and names item ids: where the
model named none of the group's, those of its best-rated items are put behind it.

Every summary on the way is kept in the look-up store, not the final one alone: a history that has grown since then goes
on from what is known of it, and one that is asked about at an earlier moment finds its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star_contracts.base import value_hash
from star_contracts.data import Interaction, Item, Summary
from star_contracts.settings import Sampling
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused
from star_jobs.lookup import SignalStore
from star_jobs.trajectory.prompt import describe_history, describe_user, style_of
from star_jobs.trajectory.text import clean, shorten
from star_jobs.verbalize.pasts import Beginning
from star_jobs.verbalize.prompting import BRIEF_TOKENS, FINGERPRINT_CHARS, render
from star_jobs.verbalize.shard import Shard

WORDS = 500
"""Of a summary at most (appendix E)."""
_CHARS = 4000
_BRIEF_CHARS = 160
_WORD = re.compile(r"[^\s()\[\],;.:]+")
_CITED = 3
"""Items named for a model that named none."""


@dataclass(frozen=True)
class Summarizer:
    """Summarizes the beginnings of histories."""

    client: LLMClient
    items: Mapping[str, Item]
    sampling: Sampling
    previous: SignalStore | None
    """The store to refresh."""
    shard: Shard

    @property
    def brief(self) -> bool:
        """True when answers are to be one sentence."""
        return self.sampling.max_tokens <= BRIEF_TOKENS

    async def of_user(self, beginnings: Sequence[Beginning]) -> list[Summary]:
        """Return the summaries of one user's beginnings, in their order: each comes after the one it goes on from."""
        made: dict[str, Summary] = {}
        for beginning in beginnings:
            before = made[beginning.before] if beginning.before else None
            made[beginning.key] = await self._summary(beginning, before)
        return list(made.values())

    async def _summary(self, beginning: Beginning, before: Summary | None) -> Summary:
        if before is not None and not before.text:
            # What goes on from nothing would tell of a part as if it were the whole.
            return Summary(key=beginning.key, text="")
        prompt = self._prompt(beginning, before.text if before is not None else "")
        # Greedy: a summary is a fact about a history.
        sampling = self.sampling.model_copy(update={"temperature": 0.0})
        asked = {"model": self.client.endpoint.model, "sampling": sampling.to_json_dict(), "prompt": prompt}
        made_from = value_hash(asked).removeprefix("sha256:")[:FINGERPRINT_CHARS]
        known = self.previous.summary(beginning.key) if self.previous is not None else None
        if known is not None and known.text and known.made_from == made_from:
            self.shard.reused += 1
            return known
        text = await self._ask(prompt, sampling)
        self.shard.judge(usable=bool(text))
        if text:
            text = cited(bounded(text, _BRIEF_CHARS if self.brief else _CHARS), beginning.group)
        return Summary(key=beginning.key, text=text, made_from=made_from)

    async def _ask(self, prompt: str, sampling: Sampling) -> str:
        await self.client.wait_ready()
        try:
            reply = await self.client.chat([{"role": "user", "content": prompt}], sampling=sampling)
        except RequestRefused as error:
            self.shard.problem = error.message
            return ""
        text = clean(reply.text)
        if not text:
            self.shard.problem = "an empty summary"
        return text

    def _prompt(self, beginning: Beginning, before: str) -> str:
        style = style_of(len(beginning.task.candidates))
        return render(
            "summary.j2",
            brief=self.brief,
            words=WORDS,
            user=describe_user(beginning.task, style),
            summary=before,
            history=describe_history(beginning.group, self.items, style),
        )


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
