"""The two collaborative tools of the paper (3.3): one syntax, one look-up, used in training and in serving alike.

A call is `Item-CF("<item id>")` or `User-CF("<user id>")`, nothing else. The answer is text from the look-up store, of
bounded length; a key without a signal and a malformed call are answered in words, as a generation cannot be stopped by
an exception.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from star_contracts.data import Item, Signal, SignalKind
from star_jobs.trajectory.text import clean, shorten

TOOL_STOP: Final = "</tool_call>"
"""A student's generation stops here, to be answered."""

NO_SIGNAL: Final = "no signal"
CALLS_USED_UP: Final = "no more calls; recommend now"
MALFORMED: Final = 'malformed call; write Item-CF("item id") or User-CF("user id")'
DEFAULT_MAX_CHARS: Final = 160

_CALL = re.compile(r'(Item-CF|User-CF)\("([^"\\<>\n]{1,200})"\)')


class ToolCallError(ValueError):
    """The text between `<tool_call>` tags is not a tool call."""


@dataclass(frozen=True)
class ToolCall:
    """A request to look up one collaborative signal."""

    tool: SignalKind
    argument: str
    """Item id for Item-CF, user id for User-CF."""

    @property
    def can_be_written(self) -> bool:
        """Whether the key fits into a call: not with quotes, angle brackets, backslashes or too many characters."""
        return _CALL.fullmatch(self._text) is not None

    def render(self) -> str:
        """Return the call as the student writes it; raises ToolCallError when the key cannot be written."""
        if not self.can_be_written:
            raise ToolCallError(
                f"key {shorten(self.argument, 60)!r} cannot be written in a tool call: it has quotes, angle brackets, "
                "backslashes or too many characters"
            )
        return self._text

    @property
    def _text(self) -> str:
        return f'{self.tool.value}("{self.argument}")'


def parse_tool_call(text: str) -> ToolCall:
    """Parse the text between `<tool_call>` and `</tool_call>`; raises ToolCallError."""
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise ToolCallError(f'expected Item-CF("item id") or User-CF("user id"), found {shorten(text, 60)!r}')
    return ToolCall(SignalKind(match[1]), match[2])


def open_call(text: str) -> str | None:
    """Return the body of a tool call at the end of `text` that waits for its answer, else None.

    `text` is what was generated so far, with or without the closing `</tool_call>`.
    """
    body = text.removesuffix(TOOL_STOP)
    start = body.rfind("<tool_call>")
    if start < 0 or TOOL_STOP in body[start:]:
        return None
    return body[start + len("<tool_call>") :]


def render_response(answer: str) -> str:
    """Return what is appended after `</tool_call>`, byte for byte, in training and in serving.

    The white space around it is for the tokens' sake: training and rollouts tokenize an answer piece by piece, a server
    that continues one tokenizes the whole text, and would join `>` and `<` of neighbours into a token that the student
    has never seen there. Byte-pair tokenizers join no sign to a space after it and no line break to a sign after it.
    """
    return f" <tool_response>{clean(answer)}</tool_response>\n"


class SignalSource(Protocol):
    """Where signals are looked up: `star_jobs.lookup.SignalStore`."""

    def get(self, kind: SignalKind, key: str) -> Signal | None:
        """Return the signal of a key, or None."""
        ...


class ToolBox:
    """Answers tool calls from a look-up store. Safe to share between threads, as it keeps no state."""

    def __init__(self, store: SignalSource, items: Mapping[str, Item], max_chars: int = DEFAULT_MAX_CHARS) -> None:
        # Imported here, as the call syntax above is needed where the store's dependencies are not installed.
        from star_jobs.lookup import render_signal

        self._render = render_signal
        self._store = store
        self._items = items
        self._max_chars = max_chars

    def answer(self, call: ToolCall, max_chars: int | None = None) -> str:
        """Return the signal in at most `max_chars` characters, or `no signal`."""
        limit = max_chars or self._max_chars
        signal = self._store.get(call.tool, call.argument)
        text = clean(self._render(signal, self._items, limit)) if signal is not None else ""
        return shorten(text, limit) if text else NO_SIGNAL

    def knows(self, call: ToolCall) -> bool:
        """Tell whether a call has a signal to answer it."""
        return self._store.get(call.tool, call.argument) is not None

    def respond(self, body: str, max_chars: int | None = None) -> str:
        """Return the `<tool_response>` element for the text between the `<tool_call>` tags."""
        try:
            return render_response(self.answer(parse_tool_call(body), max_chars))
        except ToolCallError:
            return render_response(MALFORMED)
