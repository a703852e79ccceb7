"""Who sent a report: TokenReview of the pod's projected, audience-bound service-account token (KEP-1205).

A review is a write on the API server, and who asks for one has proved nothing yet. So tokens that cannot be right are
told apart without one, answers are remembered, yes and no, and only a few reviews are made at once.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from star_contracts.progress import TOKEN_AUDIENCE
from star_operator.core.claims import SUBJECT, Claims, read_claims
from star_operator.core.errors import Retryable
from star_operator.kube.cluster import Cluster

VALID_SECONDS = 600.0
"""A token that was right is believed for so long, and no longer than it is valid: all it can do is report."""
INVALID_SECONDS = 60.0
MAX_VALID, MAX_INVALID = 20_000, 2_000
"""Answers that are remembered. Tokens themselves are not."""
AT_ONCE, MAX_WAITING = 8, 64
"""Reviews that are made, and such that wait for one."""
OWN_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Answer:
    """What a review said."""

    namespace: str | None
    """Of the token's service account; None when it is not valid here."""
    until: float


class TokenReviewer:
    """Answers which namespace a token belongs to. `clock` gives Unix seconds."""

    def __init__(
        self, cluster: Cluster, *, clock: Callable[[], float] = time.time, own_token: Path = OWN_TOKEN
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._own_token = own_token
        self._valid: OrderedDict[bytes, Answer] = OrderedDict()
        self._invalid: OrderedDict[bytes, Answer] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def known(self, token: str) -> Answer | None:
        """Return what is remembered of a token."""
        key, now = _key(token), self._clock()
        for answers in (self._valid, self._invalid):
            answer = answers.get(key)
            if answer is not None and answer.until > now:
                answers.move_to_end(key)
                return answer
            answers.pop(key, None)
        return None

    def claims(self, token: str) -> Claims | str:
        """Return what a token says of itself, or why nobody would take it."""
        claims = read_claims(token)
        if claims is None:
            return "send the pod's service-account token"
        return claims.wrong(TOKEN_AUDIENCE, self._issuer(), self._clock()) or claims

    async def namespace_of(self, token: str) -> str | None:
        """Return the namespace of the token's service account, or None when the token is not valid here.

        Raises Retryable when too many reviews wait already, and what else the API server may answer.
        """
        if (answer := self.known(token)) is not None:
            return answer.namespace
        if self._waiting >= MAX_WAITING:
            raise Retryable("TooManyReviews", f"{MAX_WAITING} tokens wait to be reviewed")
        self._waiting += 1
        try:
            async with self._turns:
                if (answer := self.known(token)) is not None:  # of the same token, asked for at the same time
                    return answer.namespace
                return self._remember(token, await self._review(token))
        finally:
            self._waiting -= 1

    def _remember(self, token: str, namespace: str | None) -> str | None:
        now, claims = self._clock(), read_claims(token)
        if namespace is not None:
            until = min(now + VALID_SECONDS, claims.expires if claims is not None else now)
            self._valid[_key(token)] = Answer(namespace, until)
        else:
            self._invalid[_key(token)] = Answer(None, now + INVALID_SECONDS)
        for answers, most in ((self._valid, MAX_VALID), (self._invalid, MAX_INVALID)):
            while len(answers) > most:
                answers.popitem(last=False)
        return namespace

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
        if not status.get("authenticated") or not user.startswith(SUBJECT):
            return None
        return user.removeprefix(SUBJECT).split(":")[0]

    def _issuer(self) -> str | None:
        """Return who issues this cluster's tokens, as the operator's own says; None outside of a pod."""
        try:
            own = read_claims(self._own_token.read_text().strip())
        except (OSError, UnicodeError):
            return None
        return own.issuer if own is not None else None


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
