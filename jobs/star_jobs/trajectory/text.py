"""Free text inside the tagged format: kept to one line, and never mistaken for one of its tags."""

import re
from typing import Final

SECTION_TAGS: Final = (
    "plan",
    "user_profile",
    "historical_analysis",
    "recent_analysis",
    "interest_divergence",
    "reflection",
    "recommend",
)
ELEMENT_TAGS: Final = ("Thinking", "tool_call", "tool_response", "JSON")

_NAMES = "|".join((*SECTION_TAGS, *ELEMENT_TAGS))
RESERVED_TAG: Final = re.compile(rf"</?(?:{_NAMES})>")
"""An opening or closing tag of the format."""

_DANGEROUS = re.compile(rf"<(?=/?(?:{_NAMES})>|[|｜]|/?s>)")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """Return the text on one line, with reserved tags and chat control tokens (`<|im_end|>`, `</s>`) broken apart.

    Titles, reviews and model output are data: none of them may open a section or end a chat message. Idempotent.
    """
    return _DANGEROUS.sub("< ", _SPACE.sub(" ", whole_text(text)).strip())


def whole_text(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can spell and UTF-8 cannot, by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shorten(text: str, max_chars: int) -> str:
    """Return at most `max_chars` characters, cut at a word with `…` to show it."""
    if len(text) <= max_chars:
        return text
    if max_chars < 2:
        return text[:max_chars]
    cut = text[: max_chars - 1]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) * 2 > max_chars else cut).rstrip(" ,;:") + "…"
