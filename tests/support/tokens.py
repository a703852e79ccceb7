"""Service-account tokens for tests: of the right shape, signed by nobody."""

import base64
import json
from typing import Any

from star_contracts.progress import TOKEN_AUDIENCE

FOR_EVER = 4_000_000_000


def encoded(value: object) -> str:
    """A part of a JSON web token (RFC 7515)."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def service_account_token(namespace: str = "team", **claims: Any) -> str:
    """A token as the API server makes them (KEP-1205), with some claims changed."""
    whole = {
        "aud": [TOKEN_AUDIENCE],
        "exp": FOR_EVER,
        "iat": 1,
        "iss": "https://kubernetes.default.svc.cluster.local",
        "nbf": 1,
        "sub": f"system:serviceaccount:{namespace}:default",
        **claims,
    }
    return ".".join([encoded({"alg": "RS256", "kid": "k"}), encoded(whole), "c2lnbmVk"])
