"""Users who ask a gateway for recommendations, one after the other, for as long as something is done to it."""

import base64
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, groupby

import httpx

from star_contracts.names import LABEL_KIND, LABEL_NAME
from star_operator.builders.keys import GATEWAY_KEY
from star_operator.core.labels import GATEWAY, LABEL_COMPONENT
from tests.support.kubectl import Kubectl

USERS = [f"visitor-{n}" for n in range(12)]
_HISTORY = [{"item_id": "50", "rating": 5}]
_CANDIDATES = ["1", "2", "3", "4", "5"]
"""Films of MovieLens-100K."""


@dataclass
class Traffic:
    """What the users were told so far."""

    url: str
    patience: float
    """Seconds to wait for an answer; more than the gateway's deadline: it is the gateway that has to answer, with an
    error if need be."""
    key: str
    """The gateway's."""
    failures: list[str] = field(default_factory=list)
    """Requests without a recommendation, in words."""
    checkpoints: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """User -> the digests that answered, in order."""

    def answered_by(self) -> set[str]:
        """Return the digests that have answered anybody."""
        return {digest for digests in list(self.checkpoints.values()) for digest in digests}

    def journey(self, user: str) -> list[str]:
        """Return the digests that answered a user, without those that repeat the one before."""
        return [digest for digest, _ in groupby(self.checkpoints[user])]

    def ask(self, user: str) -> None:
        """Ask once, and write down what came of it."""
        body = {"user_id": user, "history": _HISTORY, "candidates": _CANDIDATES, "explain": False}
        try:
            response = httpx.post(
                f"{self.url}/v1/recommend",
                json=body,
                headers={"authorization": f"Bearer {self.key}"},
                timeout=self.patience,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            self.failures.append(f"{user}: {error or type(error).__name__}")
            return
        if response.is_success:
            self.checkpoints[user].append(response.json()["checkpoint"])
        else:
            self.failures.append(f"{user}: {response.status_code} {response.text[:300]}")


def gateway_key(kubectl: Kubectl, name: str, namespace: str) -> str:
    """Return the key that the operator made for a deployment's gateway."""
    labels = f"{LABEL_KIND}=stardeployment,{LABEL_NAME}={name},{LABEL_COMPONENT}={GATEWAY}"
    [secret] = kubectl.list("secrets", namespace, labels)
    return base64.b64decode(secret["data"][GATEWAY_KEY]).decode()


@contextmanager
def traffic(url: str, patience: float, key: str) -> Iterator[Traffic]:
    """Let all users ask again and again until the block ends; every request that was begun is waited for."""
    seen, stop = Traffic(url, patience, key), threading.Event()

    def run() -> None:
        for user in cycle(USERS):
            if stop.is_set():
                return
            seen.ask(user)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
