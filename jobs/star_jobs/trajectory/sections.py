"""The parts of an answer: sections, what stands in them, and how they are written down."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from star_jobs.trajectory.text import clean
from star_jobs.trajectory.tools import ToolCall, render_response

PLAN: Final = "plan"
REFLECTION: Final = "reflection"
RECOMMEND: Final = "recommend"
ANALYSTS: Final = ("user_profile", "historical_analysis", "recent_analysis", "interest_divergence")

RECOMMEND_STOP: Final = "</recommend>"
"""Nothing follows the recommendation: a generation may stop here."""


class FormatError(ValueError):
    """A text is not a trajectory: where, what was expected, and what stood there."""

    def __init__(self, position: int, expected: str, found: str) -> None:
        super().__init__(f"at character {position}: expected {expected}, found {found}")
        self.position = position
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Thinking:
    """Reasoning in free text."""

    text: str


@dataclass(frozen=True)
class Exchange:
    """A tool call and its answer."""

    call: ToolCall
    response: str


@dataclass(frozen=True)
class Section:
    """One phase of an answer."""

    tag: str
    elements: tuple[Thinking | Exchange, ...]
    payload: Any
    """The JSON value; its shape is given by the tag."""
    position: int = field(default=0, compare=False)
    """Where the section starts in the parsed text, in characters."""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls made in this section."""
        return tuple(element.call for element in self.elements if isinstance(element, Exchange))


@dataclass(frozen=True)
class Segment:
    """A piece of a serialized trajectory. Tool answers are not trained on: the student never writes them."""

    text: str
    trainable: bool


def render_json(value: Any) -> str:
    """Return the compact JSON of a payload; a reserved tag inside a string is broken apart as in any other text."""
    return json.dumps(_clean_strings(value), ensure_ascii=False, separators=(",", ":"))


def render_section(section: Section) -> tuple[Segment, ...]:
    """Return the section as segments: everything is trainable but the tool answers."""
    pieces = [Segment(f"<{section.tag}>", True)]
    for element in section.elements:
        if isinstance(element, Thinking):
            pieces.append(Segment(f"<Thinking>{clean(element.text)}</Thinking>", True))
        else:
            pieces.append(Segment(f"<tool_call>{element.call.render()}</tool_call>", True))
            pieces.append(Segment(render_response(element.response), False))
    pieces.append(Segment(f"<JSON>{render_json(section.payload)}</JSON></{section.tag}>", True))
    return tuple(pieces)


def merge(segments: list[Segment]) -> tuple[Segment, ...]:
    """Join neighbours of the same kind."""
    merged: list[Segment] = []
    for segment in segments:
        if merged and merged[-1].trainable == segment.trainable:
            merged[-1] = Segment(merged[-1].text + segment.text, segment.trainable)
        else:
            merged.append(segment)
    return tuple(merged)


def _clean_strings(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [_clean_strings(element) for element in value]
    if isinstance(value, dict):
        return {key: _clean_strings(element) for key, element in value.items()}
    return value
