"""The strict parser of the trajectory format: text -> sections, or the first fault with its position."""

import json
from typing import Any, NoReturn

from star_jobs.trajectory.sections import (
    ANALYSTS,
    PLAN,
    RECOMMEND,
    REFLECTION,
    Exchange,
    FormatError,
    Section,
    Thinking,
)
from star_jobs.trajectory.text import RESERVED_TAG, SECTION_TAGS, shorten
from star_jobs.trajectory.tools import ToolCallError, parse_tool_call


def parse_sections(text: str) -> tuple[Section, ...]:
    """Parse a whole answer; raises FormatError."""
    scanner = _Scanner(text)
    sections: list[Section] = []
    while not scanner.at_end():
        sections.append(_section(scanner))
    return tuple(sections)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def at_end(self) -> bool:
        """Skip white space; true when nothing is left."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.position == len(self.text)

    def fail(self, expected: str, position: int | None = None) -> NoReturn:
        where = self.position if position is None else position
        rest = self.text[where:]
        raise FormatError(where, expected, repr(shorten(rest, 40)) if rest.strip() else "the end of the text")

    def accept(self, literal: str) -> bool:
        self.at_end()
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        return True

    def expect(self, *literals: str) -> None:
        if not any(self.accept(literal) for literal in literals):
            self.fail(" or ".join(literals))

    def until(self, closing: str) -> str:
        """Return the stripped text before a closing tag; no other tag of the format may stand in it."""
        match = RESERVED_TAG.search(self.text, self.position)
        if match is None or match[0] != closing:
            self.fail(f"text and then {closing}", match.start() if match else len(self.text))
        body = self.text[self.position : match.start()]
        self.position = match.end()
        return body.strip()


def _section(scanner: _Scanner) -> Section:
    start = scanner.position
    tag = next((tag for tag in SECTION_TAGS if scanner.accept(f"<{tag}>")), None)
    if tag is None:
        scanner.fail("a section such as <plan> or <recommend>")
    elements: list[Thinking | Exchange] = []
    while not scanner.accept("<JSON>"):
        if scanner.accept("<Thinking>"):
            if thought := scanner.until("</Thinking>"):
                elements.append(Thinking(thought))
        elif scanner.accept("<tool_call>"):
            elements.append(_exchange(scanner))
        else:
            scanner.fail("<Thinking>, <tool_call> or <JSON>")
    payload = _payload(scanner, tag)
    scanner.expect(f"</{tag}>")
    return Section(tag, tuple(elements), payload, start)


def _exchange(scanner: _Scanner) -> Exchange:
    start = scanner.position
    body = scanner.until("</tool_call>")
    try:
        call = parse_tool_call(body)
    except ToolCallError:
        scanner.fail('Item-CF("item id") or User-CF("user id")', start)
    scanner.expect("<tool_response>")
    return Exchange(call, scanner.until("</tool_response>"))


def _payload(scanner: _Scanner, tag: str) -> Any:
    start = scanner.position
    body = scanner.until("</JSON>")
    try:
        payload = json.loads(body)
        json.dumps(payload, ensure_ascii=False).encode()  # no half of a surrogate pair, which nothing could write
    except (ValueError, RecursionError) as error:  # a list within a list, a thousand times
        offset = getattr(error, "pos", 0)
        scanner.fail("valid JSON", start + offset)
    if problem := _shape_problem(tag, payload):
        scanner.fail(problem, start)
    return payload


def _shape_problem(tag: str, payload: Any) -> str | None:
    """Say what the payload of a tag must be, when it is not."""
    if tag == PLAN:
        return None if _is_plan(payload) else f"a list of different analysts out of {', '.join(ANALYSTS)}"
    if tag == REFLECTION:
        return None if _is_verdict(payload) else '{"correct":"yes"} or {"correct":"no","problematic_agent":[…]}'
    if tag == RECOMMEND:
        return None if payload and _is_strings(payload) else "a list of item ids as strings"
    return None if _is_strings(payload) else "a list of strings"


def _is_strings(payload: Any) -> bool:
    return isinstance(payload, list) and all(isinstance(element, str) for element in payload)


def _is_plan(payload: Any) -> bool:
    return (
        _is_strings(payload)
        and bool(payload)
        and len(set(payload)) == len(payload)
        and all(name in ANALYSTS for name in payload)
    )


def _is_verdict(payload: Any) -> bool:
    if payload == {"correct": "yes"}:
        return True
    if not isinstance(payload, dict) or set(payload) != {"correct", "problematic_agent"} or payload["correct"] != "no":
        return False
    problems = payload["problematic_agent"]
    return isinstance(problems, list) and bool(problems) and all(_is_problem(problem) for problem in problems)


def _is_problem(problem: Any) -> bool:
    return (
        isinstance(problem, dict)
        and set(problem) == {"agent_name", "suggestion"}
        and problem["agent_name"] in ANALYSTS
        and isinstance(problem["suggestion"], str)
    )
