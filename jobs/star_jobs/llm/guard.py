"""What stands before everything that vLLM answers: `vllm serve --middleware star_jobs.llm.guard.KeyGuard`.

vLLM's own `--api-key` covers some paths only: `/tokenize`, `/invocations`, `/pause` and others answer anybody (vLLM,
"Security"). Here everything wants the key but the probe and the metrics. The key is read from a mounted file, so that
it stands in no argument, no environment and no log, and read again when the file changes.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from star_contracts.serving import SERVER_KEY_PATH

OPEN_PATHS = frozenset({"/health", "/metrics"})
_REFUSAL = b'{"error": {"message": "send the server\'s key as `Authorization: Bearer <key>`", "code": 401}}'

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class KeyGuard:
    """ASGI middleware that lets requests with the key pass. Without a key in its file it lets none pass."""

    def __init__(self, app: Application, key_file: str = SERVER_KEY_PATH) -> None:
        self._app = app
        self._path = Path(key_file)
        self._version = -1
        self._digest: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, close a web socket, or pass it on (ASGI 3)."""
        if scope["type"] == "lifespan" or scope.get("path") in OPEN_PATHS or self._has_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
        scheme, _, key = (given[0] if len(given) == 1 else b"").partition(b" ")
        wanted = self._wanted()
        digest = hashlib.sha256(key.strip()).digest()
        return wanted is not None and hmac.compare_digest(digest, wanted) and scheme.lower() == b"bearer"

    def _wanted(self) -> bytes | None:
        """Return the key's digest; None where there is none."""
        try:
            version = self._path.stat().st_mtime_ns
            if version != self._version:
                key = self._path.read_bytes().strip()
                self._digest = hashlib.sha256(key).digest() if key else None
                self._version = version
        except OSError:
            return self._digest
        return self._digest
