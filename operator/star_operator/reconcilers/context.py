"""What every reconciler works with."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from star_operator.core.keys import KeyRing
from star_operator.core.online import OnlineBoard
from star_operator.core.progress import ProgressBoard
from star_operator.core.queue import Key, WorkQueue
from star_operator.core.settings import Settings
from star_operator.core.turns import Turns
from star_operator.kube.cluster import Cluster

UNWATCHED_SECONDS = 15.0
"""How soon to look again at what sends no events, such as Secrets."""
PROOFS_EACH, PROOFS_IN_ALL = 4, 16
"""Jobs that write proofs at once, in a namespace and in all."""


@dataclass
class Context:
    """The operator's connections and memory. Nothing in here is state that a restart would lose."""

    cluster: Cluster
    settings: Settings
    queue: WorkQueue
    keys: KeyRing = field(default_factory=KeyRing)
    """Keys of shared servers. The process' own root key is stored: servers outlive the process."""
    progress: ProgressBoard = field(default_factory=ProgressBoard)
    online: OnlineBoard = field(default_factory=lambda: OnlineBoard(time.time()))
    waiting: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """Resources that wait for others of their namespace: looked at when any of these ends."""
    updating: set[Key] = field(default_factory=set)
    """StarDeployments whose servers get their turn to move to another build; those that have it say so in status."""
    proofs: Turns = field(default_factory=lambda: Turns(PROOFS_EACH, PROOFS_IN_ALL))
    """Checkpoints whose proof is being written."""

    def now(self) -> datetime:
        """Return the time, UTC."""
        return datetime.now(UTC)

    def wake_waiting(self, namespace: str) -> None:
        """Have every resource of a namespace that waits for another looked at."""
        for key in self.waiting.pop(namespace, set()):
            self.queue.add(key)


Reconcile = Callable[[Key], Awaitable[None]]
