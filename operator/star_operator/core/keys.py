"""Keys that this operator gives out: of servers that stages share, and of what belongs to one resource alone.

A shared server and the pods that call it learn its key from Secrets of their own, which are made at different times
and go with different owners. The operator can make Secrets and not read them. So the key of a shared server follows
from one root key, which stays in the operator's namespace (HMAC-SHA256, RFC 2104, over what the key is for), and
whoever makes either Secret arrives at the same key.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from star_contracts.base import canonical_json

ROOT_BYTES = 32


@dataclass(frozen=True)
class KeyRing:
    """Gives out keys. It shows none of them in a traceback or a log."""

    root: bytes = field(repr=False, default_factory=lambda: secrets.token_bytes(ROOT_BYTES))

    def server(self, namespace: str, name: str) -> str:
        """Return the key of a shared server: always the same one, 64 hex digits."""
        about = canonical_json(["server", namespace, name])
        return hmac.new(self.root, about, "sha256").hexdigest()


def new_key() -> str:
    """Return a key that nobody has had before: 64 hex digits."""
    return secrets.token_hex(ROOT_BYTES)
