"""What a history of promotions must end in, told without any Git: a list of commits and the value at the place.

It knows the promise, not the way: a promotion is in the branch once or not at all, whoever writes the same place
between its look and its push wins, and nobody else's commit is ever lost.
"""

from dataclasses import dataclass, field

from star_contracts.promotion import PromotionState

Value = tuple[str, str]
"""uri and digest."""
KILLED, CONFLICT = "Killed", "PromotionConflict"
UNSEEN = ("fetched", "read", "hash-object", "read-tree", "write-tree", "commit-tree", "committed", "push")
"""Points at which nothing has reached the server yet, in the order of a run."""
SEEN = ("pushed", "opened")


@dataclass(frozen=True)
class Disturbance:
    """What others do between a run's look and its push."""

    note: str = ""
    """A commit of another file, with this message."""
    value: Value | None = None
    """A commit to the very place."""
    promotion: str = ""
    """A whole run of another promotion."""


@dataclass
class Request:
    """A pull request: made where the place said `base`."""

    base: Value
    state: PromotionState | None = None
    """None: its branch is there, and it is not open yet."""


@dataclass
class Model:
    """The branch as it must be."""

    place: Value
    log: list[str] = field(default_factory=list)
    """Names of promotions, and others' messages, in the order in which they reached the branch."""
    wanted: dict[str, Value] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)

    def disturb(self, by: Disturbance) -> bool:
        """Let others act; return whether the branch moved."""
        before = len(self.log)
        if by.note:
            self.log.append(by.note)
        if by.value is not None and by.value != self.place:
            self.place = by.value
            self.log.append(f"by hand {len(self.log)}")
        if by.promotion:
            self.commit(by.promotion, [], None)
        return len(self.log) > before

    def commit(self, name: str, disturbances: list[Disturbance], killed_at: str | None) -> str:
        """Run a promotion of mode Commit; return how it ends."""
        first = None
        while True:
            if killed_at == "fetched":
                return KILLED
            if name in self.log:
                return PromotionState.COMMITTED
            if killed_at == "read":
                return KILLED
            if self.place == self.wanted[name]:
                return PromotionState.ALREADY_THERE
            first = first or self.place
            if self.place != first:
                return CONFLICT
            if killed_at in UNSEEN and killed_at not in ("committed", "push"):
                return KILLED
            moved = bool(disturbances) and self.disturb(disturbances.pop(0))
            if killed_at in UNSEEN:
                return KILLED
            if not moved:
                self.log.append(name)
                self.place = self.wanted[name]
                return KILLED if killed_at == "pushed" else PromotionState.COMMITTED

    def open(self, name: str, killed_at: str | None) -> str:
        """Run a promotion of mode PullRequest; return how it ends."""
        request = self.requests.get(name)
        if request is not None and request.state in (PromotionState.MERGED, PromotionState.CLOSED):
            return request.state
        if killed_at == "fetched":
            return KILLED
        if request is None:
            if killed_at == "read":
                return KILLED
            if self.place == self.wanted[name]:
                return PromotionState.ALREADY_THERE
            if killed_at in UNSEEN:
                return KILLED
            request = self.requests[name] = Request(self.place)
            if killed_at == "pushed":
                return KILLED
        request.state = PromotionState.OPEN
        return KILLED if killed_at == "opened" else PromotionState.OPENED

    def merge(self, name: str) -> bool:
        """Merge a pull request; return whether Git can: not where both sides changed the place differently."""
        request = self.requests[name]
        if self.place not in (request.base, self.wanted[name]):
            return False
        self.place = self.wanted[name]
        self.log.append(name)
        request.state = PromotionState.MERGED
        return True
