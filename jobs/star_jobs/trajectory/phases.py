"""Which phases an answer must have, in which order, by variant (paper 3.4.3 and the ablations of Table 2)."""

from collections.abc import Sequence

from star_contracts.settings import Variant
from star_jobs.trajectory.sections import ANALYSTS, PLAN, RECOMMEND, REFLECTION, FormatError, Section


def student_variant(trained: Variant, *, tools: bool) -> Variant:
    """Return what a student is prompted and judged as: one that has no tools at hand is one without tools."""
    return trained if tools or trained is Variant.PLANNER_ONLY else Variant.WITHOUT_TOOLS


def check_phases(sections: Sequence[Section], variant: Variant, end: int) -> None:
    """Raise FormatError at the first section out of place.

    `end` is the length of the text in characters: where a phase that never came was expected.
    """
    if variant is Variant.PLANNER_ONLY:
        _check_plan_alone(sections, end)
        return
    rest = list(sections)
    if variant is not Variant.WITHOUT_PLANNER:
        _expect(rest, PLAN, end)
        rest.pop(0)
    _check_middle(rest, variant, end)
    if variant is Variant.WITHOUT_TOOLS:
        _check_no_calls(sections)


def _check_plan_alone(sections: Sequence[Section], end: int) -> None:
    _expect(sections, PLAN, end)
    if len(sections) > 1:
        raise FormatError(sections[1].position, "nothing after the plan", f"<{sections[1].tag}>")


def _expect(sections: Sequence[Section], tag: str, end: int) -> None:
    if not sections:
        raise FormatError(end, f"<{tag}>", "the end of the text")
    if sections[0].tag != tag:
        raise FormatError(sections[0].position, f"<{tag}>", f"<{sections[0].tag}>")


def _check_middle(rest: Sequence[Section], variant: Variant, end: int) -> None:
    """Check analyses, then reflection with revisions, then the recommendation, and nothing after it."""
    allowed: tuple[str, ...] = ANALYSTS
    seen: set[str] = set()
    for index, section in enumerate(rest):
        if section.tag not in allowed:
            raise FormatError(section.position, " or ".join(f"<{tag}>" for tag in allowed), f"<{section.tag}>")
        if section.tag in seen and section.tag in ANALYSTS:
            raise FormatError(section.position, "each analysis once before a reflection", f"<{section.tag}> again")
        if section.tag == RECOMMEND:
            if index + 1 < len(rest):
                raise FormatError(rest[index + 1].position, "nothing after </recommend>", f"<{rest[index + 1].tag}>")
            return
        seen = set() if section.tag == REFLECTION else seen | {section.tag}
        allowed = _next_allowed(section, variant, reflected=REFLECTION in {s.tag for s in rest[: index + 1]})
    raise FormatError(end, " or ".join(f"<{tag}>" for tag in allowed), "the end of the text")


def _next_allowed(section: Section, variant: Variant, *, reflected: bool) -> tuple[str, ...]:
    if variant is Variant.WITHOUT_REFLECTOR:
        return (*ANALYSTS, RECOMMEND)
    if section.tag == REFLECTION:
        # A revision follows only where the reflection named a problem.
        return (RECOMMEND,) if section.payload["correct"] == "yes" else (*ANALYSTS, RECOMMEND)
    return (*ANALYSTS, REFLECTION, RECOMMEND) if reflected else (*ANALYSTS, REFLECTION)


def _check_no_calls(sections: Sequence[Section]) -> None:
    for section in sections:
        if section.calls:
            raise FormatError(section.position, "no tool call in an answer without tools", section.calls[0].render())
