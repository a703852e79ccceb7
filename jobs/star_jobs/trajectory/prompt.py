"""The student's prompt: the one text that training, reinforcement learning, evaluation and the gateway all show it.

Its length follows from the task alone, so that no two stages can disagree on it: a task with few candidates is shown
in the brief style (titles, the last few interactions), a full-size one with categories, attributes and reviews.

Prompts take a `ShownTask`, and `shown` alone makes one of a task: it puts the summary that the look-up store has of a
long history's beginning in that beginning's place (paper 3.2, appendix E; F.3 for the student).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from star_contracts.base import canonical_json, value_hash
from star_contracts.data import Interaction, Item, RankingTask, Summary
from star_contracts.settings import Variant
from star_jobs.llm.messages import ChatMessage
from star_jobs.trajectory.text import clean, shorten

CHAT_TEMPLATE_ARGUMENTS: Final[dict[str, object]] = {"enable_thinking": False}
"""For the student's chat template wherever it is rendered. Hybrid models (Qwen3) reason inside our sections; a thinking
block of their own would also differ between the first turn of an answer and its continuation after a tool call.
Templates without the switch ignore it."""

BRIEF_CANDIDATES: Final = 10
"""Tasks with at most this many candidates are shown in the brief style."""


@dataclass(frozen=True)
class PromptStyle:
    """How much of a task a prompt shows. Lengths are in characters."""

    history: int
    """Most recent interactions shown one by one, and the size of the groups that earlier ones are summarized in (m in
    the paper's appendix E); earlier ones without a summary are counted by category."""
    title_chars: int
    history_categories: int
    candidate_categories: int
    attribute_chars: int
    """Of an item's attributes together; 0 leaves them out."""
    review_chars: int
    profile_chars: int
    tool_chars: int
    """Of one tool answer."""


BRIEF: Final = PromptStyle(
    history=6,
    title_chars=48,
    history_categories=1,
    candidate_categories=1,
    attribute_chars=0,
    review_chars=0,
    profile_chars=60,
    tool_chars=160,
)
DETAILED: Final = PromptStyle(
    history=50,
    title_chars=160,
    history_categories=3,
    candidate_categories=5,
    attribute_chars=160,
    review_chars=160,
    profile_chars=600,
    tool_chars=1200,
)

_ENDING: Final = (
    'Rank the candidates for the user. Answer in tagged sections; end with <recommend><JSON>["id"]</JSON></recommend>, '
    "every candidate id once, best first."
)
_TOOLS: Final = ' To look up signals write <tool_call>Item-CF("item id")</tool_call> or User-CF("user id").'
_PLAN: Final = (
    "Choose and order the analyses this recommendation needs out of user_profile, historical_analysis, "
    'recent_analysis, interest_divergence. Answer <plan><JSON>["name"]</JSON></plan>.'
)


def style_of(candidates: int) -> PromptStyle:
    """Return the style of a task with this many candidates."""
    return BRIEF if candidates <= BRIEF_CANDIDATES else DETAILED


class SummarySource(Protocol):
    """Where summaries are looked up: `star_jobs.lookup.SignalStore`."""

    def summary(self, key: str) -> Summary | None:
        """Return the summary of a history's beginning, or None."""
        ...


class ShownTask(RankingTask):
    """A task as prompts show it: `history` is what follows upon the summarized beginning."""

    summary: str = ""
    """Of the beginning that `history` lacks; empty where it lacks nothing."""


def shown(task: RankingTask, summaries: SummarySource | None) -> ShownTask:
    """Return the task with the longest beginning of its history that has a summary replaced by it."""
    start, summary = 0, ""
    ends = summarized(len(task.history), len(task.candidates)) if summaries is not None else range(0)
    for end, key in reversed(list(zip(ends, _summary_keys(task, ends), strict=True))):
        if text := _summary(key, summaries):
            start, summary = end, text
            break
    return ShownTask.model_construct(**dict(task) | {"history": task.history[start:], "summary": summary})


def summarized(length: int, candidates: int) -> range:
    """Return the lengths of the beginnings that are summarized of a history of `length`, the shortest first.

    The history is cut into groups from its oldest end. Each but the last is fused with the summary of those before it;
    the last, of one interaction at least, stays as it is (appendix E).
    """
    size = style_of(candidates).history
    return range(size, length, size)


def summary_key(user_id: str, beginning: Sequence[Interaction]) -> str:
    """Return the key of the summary of the beginning of a user's history.

    It is the same wherever the history comes from: reviews, ratings and times are not known to all who ask.
    """
    return value_hash([user_id, [entry.item_id for entry in beginning]]).removeprefix("sha256:")


def student_messages(task: ShownTask, items: Mapping[str, Item], variant: Variant = Variant.FULL) -> list[ChatMessage]:
    """Return the student's chat for a task: a constant system message, then the task.

    Only two things depend on the variant, as nothing else may differ between a student's training and its use: a
    student without tools is told of none, and a planner is asked for the plan alone.
    """
    return [
        {"role": "system", "content": _instruction(variant)},
        {"role": "user", "content": describe_task(task, items, style_of(len(task.candidates)))},
    ]


def describe_task(task: ShownTask, items: Mapping[str, Item], style: PromptStyle) -> str:
    """Return user, history and candidates in words."""
    parts = [
        describe_user(task, style),
        describe_past(task, items, style),
        "Candidates:\n" + describe_candidates(task.candidates, items, style),
    ]
    return "\n".join(part for part in parts if part)


def describe_user(task: RankingTask, style: PromptStyle) -> str:
    """Return one line with the user's id and what the user table tells."""
    facts = ", ".join(f"{name} {value}" for name, value in task.profile.items())
    return f"User {clean(task.user_id)}" + (f": {shorten(clean(facts), style.profile_chars)}" if facts else "")


def describe_past(task: ShownTask, items: Mapping[str, Item], style: PromptStyle) -> str:
    """Return the summary of what is long ago, where there is one, and the history after it."""
    history = describe_history(task.history, items, style)
    return f"Long-term summary: {clean(task.summary)}\n{history}" if task.summary else history


def describe_history(history: Sequence[Interaction], items: Mapping[str, Item], style: PromptStyle) -> str:
    """Return the recent interactions one a line, oldest first, after a line that counts the earlier ones."""
    if not history:
        return "History: none"
    lines = ["History, newest last:"]
    if earlier := history[: -style.history]:
        lines.append(_digest(earlier, items))
    lines.extend(_interaction(entry, items, style) for entry in history[-style.history :])
    return "\n".join(lines)


def describe_candidates(candidates: Sequence[str], items: Mapping[str, Item], style: PromptStyle) -> str:
    """Return the candidates one a line, in the order given."""
    return "\n".join(describe_item(item, items, style, style.candidate_categories) for item in candidates)


def describe_item(item_id: str, items: Mapping[str, Item], style: PromptStyle, categories: int) -> str:
    """Return `id title [categories] attributes`; an item that the catalogue lacks is its id alone."""
    item = items.get(item_id)
    if item is None:
        return clean(item_id)
    text = f"{clean(item_id)} {shorten(clean(item.title), style.title_chars)}"
    if shown := item.categories[:categories]:
        text += f" [{clean(', '.join(shown))}]"
    if style.attribute_chars and item.attributes:
        facts = "; ".join(f"{name}: {value}" for name, value in item.attributes.items())
        text += f" {shorten(clean(facts), style.attribute_chars)}"
    return text


def _summary_keys(task: RankingTask, ends: Sequence[int]) -> Iterator[str]:
    """Give `summary_key` for each of the ends, which rise, in one pass: a caller's history may be very long."""
    head, _, tail = canonical_json([task.user_id, [""]]).rpartition(b'""')
    hashed, start = hashlib.sha256(head), 0
    for end in ends:
        ids = canonical_json([entry.item_id for entry in task.history[start:end]])[1:-1]
        hashed.update(b"," + ids if start else ids)
        start, whole = end, hashed.copy()
        whole.update(tail)
        yield whole.hexdigest()


def _summary(key: str, summaries: SummarySource | None) -> str:
    found = summaries.summary(key) if summaries is not None else None
    return found.text if found is not None else ""


def _instruction(variant: Variant) -> str:
    if variant is Variant.PLANNER_ONLY:
        return _PLAN
    return _ENDING if variant is Variant.WITHOUT_TOOLS else _ENDING + _TOOLS


def _interaction(entry: Interaction, items: Mapping[str, Item], style: PromptStyle) -> str:
    text = describe_item(entry.item_id, items, style, style.history_categories)
    if entry.rating is not None:
        text += f" rated {entry.rating:g}"
    if style.review_chars and entry.text:
        text += f' "{shorten(clean(entry.text), style.review_chars)}"'
    return text


def _digest(earlier: Sequence[Interaction], items: Mapping[str, Item]) -> str:
    """Count interactions by category: what a prompt tells of a past too long to list, without a model's help."""
    counts = Counter(c for e in earlier if (item := items.get(e.item_id)) for c in item.categories)
    common = ", ".join(f"{clean(name)} {count}" for name, count in sorted(counts.items(), key=_by_count)[:3])
    return f"{len(earlier)} earlier" + (f": {common}" if common else "")


def _by_count(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]
