"""Turns: how many may be at the same kind of work at once, in a namespace and in all; the others stand in a line.

Who has a turn is seen anew after a restart, by its Job: `hold`.
"""

from collections import Counter
from zlib import crc32

from star_operator.core.queue import Key

SECONDS = 60.0
"""How soon one in a short line looks again by itself, besides being woken when it is its turn."""
SHORT = 100
"""The longer the line, the later: so many a minute, whatever its length."""


class Turns:
    """Whose turn it is. Use within one event loop."""

    def __init__(self, each: int, in_all: int) -> None:
        self._each = each
        self._in_all = in_all
        self._held: set[Key] = set()
        self._count: Counter[str] = Counter()
        """Of `_held`, by namespace."""
        self._line: dict[Key, None] = {}
        """In the order in which they came."""

    def take(self, key: Key) -> bool:
        """Say whether it is the key's turn, and give it that; where it is not, it stands in line from now on."""
        if key not in self._held and not self._has_room(key):
            self._line.setdefault(key)
            return False
        self.hold(key)
        return True

    def hold(self, key: Key) -> None:
        """Count the key, which is at work already, whether there is room or not."""
        self._line.pop(key, None)
        if key not in self._held:
            self._held.add(key)
            self._count[key.namespace] += 1

    def leave(self, key: Key) -> Key | None:
        """Take the key's turn, or its place in line, from it; return whose turn it is now, to be looked at."""
        self._line.pop(key, None)
        if key in self._held:
            self._held.discard(key)
            self._count -= Counter([key.namespace])
        if len(self._held) >= self._in_all:
            return None
        return next((one for one in self._line if self._has_room(one)), None)

    def pause(self, key: Key) -> float:
        """Return in how many seconds a key in line looks again; keys that came at once are spread."""
        spread = 0.75 + crc32(str(key).encode()) % 512 / 1024
        return SECONDS * spread * max(1.0, len(self._line) / SHORT)

    def _has_room(self, key: Key) -> bool:
        return len(self._held) < self._in_all and self._count[key.namespace] < self._each
