"""What the LLM is asked about one entry, and how its answer is read back.

The model sees numbered neighbours and answers with their numbers: shorter than ids, and nothing else can be named.
Tight token budgets get the brief form: few neighbours, one category without reasoning, every string bounded, and its
name chosen among the kinds of the items shown, as very small models invent names.
"""

import json
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from star_contracts.base import value_hash
from star_contracts.data import Item, SignalCategory, SignalKind
from star_contracts.settings import Sampling
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.structured import JsonSchema
from star_jobs.trajectory.text import clean, shorten
from star_jobs.verbalize.worklist import Entry

BRIEF_TOKENS = 256
"""With at most this many tokens an answer, the brief form is used."""
_BRIEF_SHOWN = 6
_SHOWN = 50
_TOKENS_A_CATEGORY = 96
_MOST_CATEGORIES = 6
_REPRESENTATIVES = 5
_NAME_CHARS, _SUMMARY_CHARS = 60, 300
_BRIEF_NAME_CHARS, _BRIEF_SUMMARY_CHARS = 28, 48
_BRIEF_KINDS = 4
FINGERPRINT_CHARS = 16
"""Of the hash that tells whether an entry would be made from the same again."""
_TEMPLATES = {SignalKind.ITEM_CF: "item_cf.j2", SignalKind.USER_CF: "user_cf.j2"}

# Prompts are plain text for a model: escaping for HTML would only damage titles.
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "prompts"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701
)


def render(template: str, **values: object) -> str:
    """Render a template of `prompts/`; a value it needs and does not get is an error."""
    return _environment.get_template(template).render(**values).strip()


class UnusableAnswer(ValueError):
    """The model's answer does not say what was asked for."""


class Prompter:
    """Builds the question about an entry and reads the answer, for one model and its token budget."""

    def __init__(self, items: Mapping[str, Item], sampling: Sampling, model: str) -> None:
        self.items = items
        self._asked = {"model": model, "sampling": sampling.to_json_dict()}
        self.brief = sampling.max_tokens <= BRIEF_TOKENS
        self._categories = max(1, min(_MOST_CATEGORIES, sampling.max_tokens // _TOKENS_A_CATEGORY))

    def fingerprint(self, entry: Entry) -> str:
        """Return a hash of all that decides the entry's words, so that equal ones need not be asked for again.

        That is what the model is sent (which holds the template and the items' texts), the ids of the items shown,
        the model and its sampling.
        """
        content = {"messages": self.messages(entry), "schema": self.schema(entry), "ids": self._shown(entry)}
        return value_hash(self._asked | content).removeprefix("sha256:")[:FINGERPRINT_CHARS]

    def messages(self, entry: Entry) -> list[ChatMessage]:
        """Return the chat to send."""
        text = render(
            _TEMPLATES[entry.kind],
            brief=self.brief,
            target=self.items.get(entry.key),
            neighbours=[self.items.get(item) or Item(item_id=item, title=item) for item in self._shown(entry)],
            most=self._categories,
        )
        return [{"role": "user", "content": text}]

    def schema(self, entry: Entry) -> JsonSchema:
        """Return the JSON schema that the answer must follow."""
        numbers = range(1, len(self._shown(entry)) + 1)
        summary: JsonSchema = {"type": "string", "minLength": 2, "maxLength": self._summary_chars()}
        if self.brief:
            # No array: very small models lose themselves in the white space that JSON allows between its elements.
            examples = [f"{one}, {two}" for one, two in combinations(numbers, 2)] or ["1"]
            return _object(name=self._name_schema(entry), summary=summary, items={"type": "string", "enum": examples})
        items: JsonSchema = {
            "type": "array",
            "items": {"type": "integer", "enum": list(numbers)},
            "minItems": 1,
            "maxItems": min(_REPRESENTATIVES, len(numbers)),
        }
        category = _object(name=self._name_schema(entry), summary=summary, items=items)
        array: JsonSchema = {"type": "array", "items": category, "minItems": 1, "maxItems": self._categories}
        return _object(thinking={"type": "string"}, categories=array)

    def read(self, entry: Entry, text: str) -> tuple[SignalCategory, ...]:
        """Return the answer's categories. Raises UnusableAnswer."""
        try:
            answer = json.loads(text)
            found = [answer] if self.brief else answer["categories"]
            categories = [self._category(entry, raw) for raw in found][: self._categories]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnusableAnswer(f"{type(error).__name__}: {error}") from error
        if not categories:
            raise UnusableAnswer("no category")
        return tuple(categories)

    def _category(self, entry: Entry, raw: Mapping[str, object]) -> SignalCategory:
        name, summary, numbers = clean(str(raw["name"])), clean(str(raw["summary"])), _numbers(raw["items"])
        if len(name) < 2 or len(summary) < 2:
            raise ValueError("a category without name or summary")
        shown = self._shown(entry)
        known = dict.fromkeys(n for n in numbers if 1 <= n <= len(shown))
        return SignalCategory(
            name=shorten(name, self._name_chars()),
            summary=shorten(summary, self._summary_chars()),
            representative_items=tuple(shown[n - 1] for n in known)[:_REPRESENTATIVES],
        )

    def _shown(self, entry: Entry) -> tuple[str, ...]:
        return entry.neighbours[: _BRIEF_SHOWN if self.brief else _SHOWN]

    def _name_schema(self, entry: Entry) -> JsonSchema:
        kinds = self._kinds(entry) if self.brief else []
        if kinds:
            return {"type": "string", "enum": kinds + [f"{one}, {two}" for one, two in combinations(kinds, 2)]}
        return {"type": "string", "minLength": 2, "maxLength": self._name_chars()}

    def _kinds(self, entry: Entry) -> list[str]:
        """Return the commonest categories of the items shown."""
        items = (self.items.get(item) for item in self._shown(entry))
        counts = Counter(clean(kind) for item in items if item for kind in item.categories)
        return [kind for kind, _ in counts.most_common(_BRIEF_KINDS) if 2 <= len(kind) <= _BRIEF_NAME_CHARS // 2 - 1]

    def _name_chars(self) -> int:
        return _BRIEF_NAME_CHARS if self.brief else _NAME_CHARS

    def _summary_chars(self) -> int:
        return _BRIEF_SUMMARY_CHARS if self.brief else _SUMMARY_CHARS


def _numbers(value: object) -> list[int]:
    """Return the whole numbers of a list, or of a text such as `1, 3`. Raises ValueError for anything else."""
    if isinstance(value, str):
        return [int(part) for part in value.split(",")]
    if isinstance(value, list):
        return [part for part in value if isinstance(part, int)]
    raise ValueError("items are neither a list nor text")


def _object(**properties: JsonSchema) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
