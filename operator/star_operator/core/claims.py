"""What a service-account token says of itself, unverified: enough to refuse most of what is none, at no cost.

Whether it is true only the API server knows (TokenReview). The claims are those of KEP-1205 (bound service account
tokens): issuer, audiences, expiry, and `sub`, which is `system:serviceaccount:<namespace>:<name>`.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

MAX_TOKEN = 8192
"""Characters; one of Kubernetes has some 1,200."""
LEEWAY_SECONDS = 60.0
SUBJECT = "system:serviceaccount:"


@dataclass(frozen=True)
class Claims:
    """What a token says."""

    issuer: str
    namespace: str
    """Of its service account."""
    audiences: tuple[str, ...]
    expires: float
    """Unix seconds."""
    not_before: float

    def wrong(self, audience: str, issuer: str | None, now: float) -> str | None:
        """Say why nobody would take the token; None when only the API server knows. No issuer: it is not compared."""
        if audience not in self.audiences:
            return f"the token is not for the audience {audience}"
        if issuer is not None and self.issuer != issuer:
            return "the token is of another cluster"
        if now > self.expires + LEEWAY_SECONDS:
            return "the token has expired"
        if now < self.not_before - LEEWAY_SECONDS:
            return "the token is not valid yet"
        return None


def read_claims(token: str) -> Claims | None:
    """Return the claims; None for what is no signed service-account token."""
    parts = token.split(".") if len(token) <= MAX_TOKEN and token.isascii() else []
    if len(parts) != 3 or not all(parts):
        return None
    header, payload = _decoded(parts[0]), _decoded(parts[1])
    if header is None or payload is None or not isinstance(header.get("alg"), str) or header["alg"] == "none":
        return None
    subject, audiences = payload.get("sub"), payload.get("aud")
    if not isinstance(subject, str) or not subject.startswith(SUBJECT) or not isinstance(payload.get("iss"), str):
        return None
    namespace, _, account = subject.removeprefix(SUBJECT).partition(":")
    told = [audiences] if isinstance(audiences, str) else audiences
    times = [payload.get("exp"), payload.get("nbf", 0)]
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told) or not namespace or not account:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < 2**53 for one in times):
        return None
    return Claims(payload["iss"], namespace, tuple(told), float(times[0]), float(times[1]))


def _decoded(part: str) -> dict[str, Any] | None:
    try:
        found = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
