"""The student's answer, taken apart for people."""

import json

from star_jobs.serve.models import ReasoningSection
from star_jobs.trajectory.parser import parse_sections
from star_jobs.trajectory.sections import FormatError, Section, Thinking


def sections(text: str) -> list[ReasoningSection]:
    """Return the phases of an answer in order; empty for a text that is not one."""
    try:
        return [_section(section) for section in parse_sections(text)]
    except FormatError:
        return []


def _section(section: Section) -> ReasoningSection:
    thinking = "\n".join(element.text for element in section.elements if isinstance(element, Thinking))
    return ReasoningSection(
        section=section.tag, thinking=thinking, output=json.dumps(section.payload, ensure_ascii=False)
    )
