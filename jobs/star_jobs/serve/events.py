"""A backend's stream of server-sent events (HTML standard, 9.2), as OpenAI-compatible servers write it.

Each event's data is a JSON object, and the last one is `[DONE]`: that is how a client tells a whole answer from one
that was cut off.
"""

import re
from collections.abc import Iterator

from star_jobs.serve.strictjson import BadJson, parse_object

MAX_EVENT_BYTES = 1024 * 1024
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DONE = b"[DONE]"


class BrokenStream(Exception):
    """A stream that no client could use from here on."""


class EventStream:
    """Cuts a stream into whole events and checks each."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._done = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Give the events that are whole by now, as they came. Raises BrokenStream after those that were good."""
        searched = max(0, len(self._waiting) - 3)  # an event's end may have come in two parts
        self._waiting += chunk
        received, passed = bytes(self._waiting), 0
        for end in _END.finditer(received, searched):
            event, passed = received[passed : end.end()], end.end()
            self._check(event)
            yield event
        del self._waiting[:passed]
        if len(self._waiting) > MAX_EVENT_BYTES:
            raise BrokenStream(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def end(self) -> bytes:
        """Return what is left when nothing more comes. Raises BrokenStream when something should have."""
        last = bytes(self._waiting)
        self._check(last)
        if not self._done:
            raise BrokenStream("the stream ended before its [DONE]")
        return last

    def _check(self, event: bytes) -> None:
        lines = (line for line in event.splitlines() if line.startswith(b"data:"))
        data = b"\n".join(line.removeprefix(b"data:").strip() for line in lines)
        if data == _DONE:
            self._done = True
        elif data:
            try:
                parse_object(data)
            except BadJson as error:
                raise BrokenStream(f"an event that is no JSON object: {error}") from None
