"""Who sent a progress report: TokenReview of the pod's projected, audience-bound service-account token (KEP-1205)."""

import hashlib
import time

from star_contracts.progress import TOKEN_AUDIENCE
from star_operator.kube.cluster import Cluster

CACHE_SECONDS = 60.0
PREFIX = "system:serviceaccount:"


class TokenReviewer:
    """Answers which namespace a token belongs to; answers are remembered for a minute, tokens are not."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, tuple[float, str | None]] = {}

    async def namespace_of(self, token: str) -> str | None:
        """Return the namespace of the token's service account, or None when the token is not valid here."""
        key = hashlib.sha256(token.encode()).hexdigest()
        now = time.monotonic()
        self._known = {k: v for k, v in self._known.items() if v[0] > now}
        if key not in self._known:
            self._known[key] = (now + CACHE_SECONDS, await self._review(token))
        return self._known[key][1]

    async def _review(self, token: str) -> str | None:
        review = await self._cluster.create(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": token, "audiences": [TOKEN_AUDIENCE]},
            }
        )
        status = review.get("status", {})
        user: str = status.get("user", {}).get("username", "")
        if not status.get("authenticated") or not user.startswith(PREFIX):
            return None
        return user.removeprefix(PREFIX).split(":")[0]
