"""Which revision answers a user: weighted rendezvous hashing, sticky by user and stable under weight changes.

Each backend draws a number from the hash of (user, revision) and the largest weighted draw wins (Thaler & Ravishankar
1998; the weighting `-w / ln(u)` is the one of draft-ietf-bess-weighted-hrw). Shares follow the weights; raising one
backend's weight only moves users *to* it, lowering it only moves users *from* it, and a backend that goes away spreads
its own users while everybody else stays where they are.
"""

import hashlib
from collections.abc import Sequence
from math import log

from star_contracts.serving import Backend

_DRAW_BITS = 53
"""As many bits as a double holds exactly, so that a draw never rounds up to 1."""


def preference(key: str, backends: Sequence[Backend]) -> list[Backend]:
    """Return the backends that take traffic, best match for `key` first.

    The first is where the key belongs; the others are where it goes, in order, while those before them are down.
    Backends of weight 0 take no traffic and are left out.
    """
    active = [backend for backend in backends if backend.weight > 0]
    return sorted(active, key=lambda backend: (-_score(key, backend), backend.revision))


def _score(key: str, backend: Backend) -> float:
    return -backend.weight / log(_draw(key, backend.revision))


def _draw(key: str, revision: str) -> float:
    """Return a number in (0, 1) that depends on the pair alone."""
    digest = hashlib.blake2b(f"{revision}\x00{key}".encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> (64 - _DRAW_BITS)) + 0.5) / 2.0**_DRAW_BITS
