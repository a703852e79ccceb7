"""What each agent is asked for, as a JSON schema, and how its answer is read back.

Schemas are tight, so that even a small model answers in form: names and ids are enumerations, orders of few things are
one enumeration of all orders. `brief` schemas have no room for reasoning, bound every string, and know no array: JSON
allows any white space between an array's elements, and very small models lose themselves in it.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import perm
from typing import Any

from star_contracts.data import Item, RankingTask, SignalKind
from star_jobs.llm.structured import JsonSchema
from star_jobs.trajectory.format import ANALYSTS, RECOMMEND
from star_jobs.trajectory.text import clean
from star_jobs.trajectory.tools import ToolCall, parse_tool_call

TITLES = {
    "user_profile": "user profile",
    "historical_analysis": "analysis of long-term interests",
    "recent_analysis": "analysis of recent interests",
    "interest_divergence": "search for neighbouring interests",
    RECOMMEND: "ranking",
}
"""What the agents that may look things up are at."""

SUGGESTIONS = ("weigh the ratings", "look at the newest items", "use the signals", "be more specific")
"""What a brief reflector may suggest."""

NONE = "none"
"""What a brief agent answers when it has nothing to name."""

_BRIEF_CHARS = 48
_BRIEF_CONCLUSIONS = 2
_TASTES = 8
_CONCLUSIONS = 12
_ORDERS = 200
"""Orders of a set are enumerated up to this many."""
_SEPARATOR = " > "
_AND = "; "
"""Between the conclusions of a brief answer."""
_PROBLEM = ("agent_name", "suggestion")
_BECAUSE = ": "
"""Between the analyst and the suggestion of a brief reflection."""


class InvalidOutput(ValueError):
    """An agent's answer does not say what was asked for."""


@dataclass(frozen=True)
class Ranked:
    """The ranking agent's answer."""

    ranking: tuple[str, ...]
    """Every candidate once, best first."""
    repaired: bool
    """True when ids had to be dropped or put in."""


@cache
def plan_schema(brief: bool) -> JsonSchema:
    """Ask for one to four different analysts, in order."""
    orders = [
        _SEPARATOR.join(order) for count in range(1, len(ANALYSTS) + 1) for order in permutations(ANALYSTS, count)
    ]
    return _object(brief, agents={"type": "string", "enum": orders})


def read_plan(answer: dict[str, Any]) -> list[str]:
    """Return the planned analysts; raises InvalidOutput."""
    value = answer.get("agents")
    names = value.split(_SEPARATOR) if isinstance(value, str) else value
    if not isinstance(names, list):
        raise InvalidOutput("no list of agents")
    plan = list(dict.fromkeys(name for name in names if name in ANALYSTS))
    if not plan:
        raise InvalidOutput("no agent of the team is named")
    return plan


def calls_schema(options: Sequence[ToolCall], limit: int) -> JsonSchema:
    """Ask for up to `limit` of the possible look-ups: in brief, where it is 1, for one or none."""
    shown = [call.render() for call in options]
    if limit == 1:
        return _object(True, calls={"type": "string", "enum": [*shown, NONE]})
    return _object(False, calls=_list({"type": "string", "enum": shown}, 0, limit))


def read_calls(answer: dict[str, Any], options: Sequence[ToolCall], limit: int) -> list[ToolCall]:
    """Return the chosen look-ups, each once; raises InvalidOutput."""
    value = answer.get("calls")
    named = [value] if isinstance(value, str) else _strings(value)
    try:
        calls = [parse_tool_call(text) for text in named if text != NONE]
    except ValueError as error:
        raise InvalidOutput(str(error)) from error
    return [call for call in dict.fromkeys(calls) if call in options][:limit]


def call_options(task: RankingTask, recent: int) -> list[ToolCall]:
    """Return the look-ups an agent may choose from: the user, the `recent` latest items, the candidates."""
    latest = [entry.item_id for entry in task.history[-recent:]]
    options = [ToolCall(SignalKind.USER_CF, task.user_id)]
    options += [ToolCall(SignalKind.ITEM_CF, item) for item in dict.fromkeys([*reversed(latest), *task.candidates])]
    return options


def tastes(task: RankingTask, items: Mapping[str, Item]) -> list[str]:
    """Return the categories of the items at hand, most frequent first: what a brief analyst chooses its words from.

    A very small model writes noise where it may write freely; a choice is a statement that can be right or wrong.
    """
    shown = [*(entry.item_id for entry in task.history), *task.candidates]
    counts = Counter(clean(name) for item_id in shown if (item := items.get(item_id)) for name in item.categories)
    usable = (name for name in counts if name and _AND.strip() not in name)
    return sorted(usable, key=lambda name: (-counts[name], name))[:_TASTES]


def analysis_schema(brief: bool, tastes: Sequence[str] = ()) -> JsonSchema:
    """Ask for conclusions: in brief one or two of the `tastes` in order, or a few words where there are none."""
    if not brief:
        return _object(False, conclusions=_list({"type": "string"}, 1, _CONCLUSIONS))
    if not tastes:
        return _object(True, conclusions={"type": "string", "minLength": 2, "maxLength": _BRIEF_CHARS})
    choices = [_AND.join(some) for count in range(1, _BRIEF_CONCLUSIONS + 1) for some in permutations(tastes, count)]
    return _object(True, conclusions={"type": "string", "enum": choices})


def read_analysis(answer: dict[str, Any]) -> list[str]:
    """Return the conclusions; raises InvalidOutput."""
    value = answer.get("conclusions")
    named = value.split(_AND) if isinstance(value, str) else _strings(value)
    conclusions = [text for text in map(clean, named) if text]
    if not conclusions:
        raise InvalidOutput("no conclusions")
    return list(dict.fromkeys(conclusions))


def reflection_schema(analysts: Sequence[str], brief: bool) -> JsonSchema:
    """Ask for the analyses to redo: an empty list, or `none` in brief, approves of all."""
    if brief:
        problems = [name + _BECAUSE + suggestion for name in analysts for suggestion in SUGGESTIONS]
        return _object(True, problematic_agent={"type": "string", "enum": [NONE, *problems]})
    problem = _object(True, agent_name={"type": "string", "enum": list(analysts)}, suggestion={"type": "string"})
    return _object(False, problematic_agent=_list(problem, 0, len(analysts)))


def read_reflection(answer: dict[str, Any], analysts: Sequence[str]) -> dict[str, str]:
    """Return analyst -> suggestion, empty when all is right; raises InvalidOutput."""
    problems = answer.get("problematic_agent")
    if isinstance(problems, str):
        problems = [] if problems == NONE else [dict(zip(_PROBLEM, problems.split(_BECAUSE, 1), strict=False))]
    if not isinstance(problems, list):
        raise InvalidOutput("no list of problems")
    suggestions: dict[str, str] = {}
    for problem in problems:
        if not isinstance(problem, dict) or problem.get("agent_name") not in analysts:
            raise InvalidOutput("a problem that names no analyst of this run")
        suggestions.setdefault(problem["agent_name"], text_of(problem.get("suggestion")))
    return suggestions


def reflection_payload(suggestions: dict[str, str]) -> dict[str, Any]:
    """Return the reflection in the trajectory's form (paper F.3)."""
    if not suggestions:
        return {"correct": "yes"}
    problems = [dict(zip(_PROBLEM, problem, strict=True)) for problem in suggestions.items()]
    return {"correct": "no", "problematic_agent": problems}


def ranking_schema(candidates: Sequence[str], brief: bool) -> JsonSchema:
    """Ask for an order of the candidates: one of all orders where they are few, else an id for each place."""
    if perm(len(candidates)) <= _ORDERS and not any(">" in item for item in candidates):
        orders = [_SEPARATOR.join(order) for order in permutations(candidates)]
        return _object(brief, ranking={"type": "string", "enum": orders})
    count = len(candidates)
    return _object(brief, ranking=_list({"type": "string", "enum": list(candidates)}, count, count))


def read_ranking(answer: dict[str, Any], candidates: Sequence[str], seed: int) -> Ranked:
    """Return a whole ranking: ids that are unknown or repeated are dropped, missing ones follow in a seeded order.

    Raises InvalidOutput when not a single candidate is named.
    """
    value = answer.get("ranking")
    named = value.split(_SEPARATOR) if isinstance(value, str) else _strings(value)
    known = list(dict.fromkeys(item for item in named if item in candidates))
    if not known:
        raise InvalidOutput("no candidate is named")
    missing = sorted(set(candidates) - set(known))
    random.Random(seed).shuffle(missing)  # noqa: S311 - reproducible, not secret
    return Ranked((*known, *missing), repaired=bool(missing) or len(named) != len(known))


def text_of(value: Any) -> str:
    """Return free text of an answer; empty where a model wrote something else in its place."""
    return clean(value) if isinstance(value, str) else ""


def _object(brief: bool, **properties: JsonSchema) -> JsonSchema:
    shown: JsonSchema = properties if brief else {"thinking": {"type": "string"}} | properties
    return {"type": "object", "properties": shown, "required": list(shown), "additionalProperties": False}


def _list(items: JsonSchema, least: int, most: int) -> JsonSchema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _strings(value: Any) -> list[str]:
    """Return a list of strings; models that were given no schema write numeric ids as numbers."""
    if not isinstance(value, list) or not all(type(element) in (str, int) for element in value):
        raise InvalidOutput("no list of strings")
    return [str(element) for element in value]
