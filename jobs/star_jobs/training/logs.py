"""Follow a JSON Lines file that another process is writing."""

import json
from pathlib import Path
from typing import Any


class JsonLinesFollower:
    """Reads the complete lines that were added since the last call; a half-written last line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new JSON objects; lines that are not JSON objects are passed over."""
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._offset:
                    self._offset = 0  # the writer started the file anew
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [value for line in complete.splitlines() if isinstance(value := _parse(line), dict)]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
