"""The trajectory format: serializing the teacher's runs into it and parsing a student's answers (paper 3.4.1, F.3).

    answer   := plan analysis+ reflection (analysis+ reflection?)* recommend
    section  := "<tag>" (thinking | exchange)* json "</tag>"
    thinking := "<Thinking>" text "</Thinking>"
    exchange := "<tool_call>" call "</tool_call>" "<tool_response>" text "</tool_response>"
    json     := "<JSON>" value "</JSON>"

White space between elements means nothing. Each tag has one shape of payload: plan a list of analysts, an analysis a
list of conclusions, reflection `{"correct":"yes"}` or `{"correct":"no","problematic_agent":[…]}`, and recommend a list
of item ids, best first. The variants of the paper's ablations leave phases out; see `phases.py`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from star_contracts.data import AgentStep, Trajectory
from star_contracts.settings import Variant
from star_jobs.trajectory.parser import parse_sections
from star_jobs.trajectory.phases import check_phases
from star_jobs.trajectory.sections import (
    ANALYSTS,
    PLAN,
    RECOMMEND,
    RECOMMEND_STOP,
    REFLECTION,
    Exchange,
    FormatError,
    Section,
    Segment,
    Thinking,
    merge,
    render_json,
    render_section,
)
from star_jobs.trajectory.tools import ToolCall, ToolCallError

__all__ = [
    "ANALYSTS",
    "PLAN",
    "PLANNER",
    "RECOMMEND",
    "RECOMMEND_STOP",
    "REFLECTION",
    "Exchange",
    "FormatError",
    "ParsedTrajectory",
    "Section",
    "Segment",
    "Thinking",
    "VariantUnavailable",
    "parse",
    "recommended",
    "render",
    "render_json",
    "serialize",
]

PLANNER: Final = "planner"
"""The agent whose step becomes the `<plan>` section; every other agent's name is its tag."""


class VariantUnavailable(ValueError):
    """A trajectory lacks the phases that a variant is made of."""


@dataclass(frozen=True)
class ParsedTrajectory:
    """A well-formed answer."""

    sections: tuple[Section, ...]

    @property
    def plan(self) -> tuple[str, ...]:
        """The analysts the plan names, in order; empty without a plan."""
        return tuple(next((section.payload for section in self.sections if section.tag == PLAN), ()))

    @property
    def ranking(self) -> tuple[str, ...]:
        """The item ids of the recommendation, best first; empty in a plan alone."""
        return tuple(next((section.payload for section in self.sections if section.tag == RECOMMEND), ()))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All tool calls, in order."""
        return tuple(call for section in self.sections for call in section.calls)

    @property
    def thinking(self) -> str:
        """All reasoning in free text, one element a line."""
        texts = (e.text for section in self.sections for e in section.elements if isinstance(e, Thinking))
        return "\n".join(texts)


def parse(text: str, variant: Variant = Variant.FULL) -> ParsedTrajectory:
    """Parse an answer and check that its phases are those of the variant; raises FormatError at the first fault."""
    sections = parse_sections(text)
    check_phases(sections, variant, len(text))
    return ParsedTrajectory(sections)


def recommended(text: str) -> tuple[str, ...]:
    """Return the ids of the last well-formed `<recommend>` section, whatever the rest looks like; empty without one.

    For measuring hits: an answer that skips a phase has still ranked. The list is taken as written, with repeated and
    unknown ids.
    """
    start = text.rfind(f"<{RECOMMEND}>")
    end = text.find(RECOMMEND_STOP, start)
    if start < 0 or end < 0:
        return ()
    try:
        (section,) = parse_sections(text[start : end + len(RECOMMEND_STOP)])
    except FormatError:
        return ()
    return tuple(section.payload)


def render(sections: Iterable[Section]) -> tuple[Segment, ...]:
    """Return sections as segments, one section a line; their texts joined are the answer."""
    segments: list[Segment] = []
    for section in sections:
        if segments:
            segments.append(Segment("\n", True))
        segments.extend(render_section(section))
    return merge(segments)


def serialize(trajectory: Trajectory, variant: Variant = Variant.FULL) -> tuple[Segment, ...]:
    """Serialize a teacher's run into the answer a student of this variant is trained to give (paper 3.4.1, Table 3).

    - WithoutTools drops the tool exchanges and the reasoning that led to them, WithoutPlanner the plan, PlannerOnly all
      but the plan.
    - WithoutReflector drops the reflections and keeps each analyst's last revision in its first place, so that the
      recommendation still follows from what stands before it.

    Raises VariantUnavailable when the run lacks a phase of the variant, e.g. was made without a planner, or looked up
    what cannot be written in a tool call.
    """
    steps = list(trajectory.steps)
    if variant is Variant.WITHOUT_REFLECTOR:
        steps = _final_revisions(steps)
    sections = [_section(step, tools=variant is not Variant.WITHOUT_TOOLS) for step in steps]
    if variant is Variant.WITHOUT_PLANNER:
        sections = [section for section in sections if section.tag != PLAN]
    if variant is Variant.PLANNER_ONLY:
        sections = [section for section in sections if section.tag == PLAN]
    try:
        segments = render(sections)
        parse("".join(segment.text for segment in segments), variant)
    except (FormatError, ToolCallError) as error:
        raise VariantUnavailable(
            f"trajectory of task {trajectory.task_id}, pass {trajectory.pass_index}, cannot be serialized as "
            f"{variant.value}: {error}"
        ) from error
    return segments


def _section(step: AgentStep, *, tools: bool) -> Section:
    elements: list[Thinking | Exchange] = []
    for exchange in step.tools if tools else ():
        elements += _thinking(exchange.thinking)
        elements.append(Exchange(ToolCall(exchange.tool, exchange.argument), exchange.response))
    # What the agent concluded comes last: it reasoned over the answers of all its calls.
    elements += _thinking(step.thinking)
    tag = PLAN if step.agent == PLANNER else step.agent
    return Section(tag, tuple(elements), json.loads(step.output))


def _thinking(text: str) -> list[Thinking]:
    return [Thinking(text)] if text.strip() else []


def _final_revisions(steps: list[AgentStep]) -> list[AgentStep]:
    last = {step.agent: step for step in steps}
    order = dict.fromkeys(step.agent for step in steps if step.agent != REFLECTION)
    return [last[agent] for agent in order]
