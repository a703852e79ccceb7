"""Shared vLLM servers: who uses one, and since when nobody does.

Both are in the metadata of the server's Service, its anchor: the users are its owner references, and a mark says since
when it is idle. Everything else of the server is owned by the Service and goes with it; when all users are deleted the
garbage collector removes it.

Each change of hands is **one write**, made at the version it was decided on: the first user comes with the Service, who
joins takes the mark off, and the last one who leaves puts it on. So there is no moment at which a server has neither a
user nor a mark. Where somebody else was quicker the API server refuses the write, and it is decided anew on what is
there by then. An idle server is deleted at the version it was seen with, so that a user who comes in between wins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from star_contracts.names import GROUP, LABEL_KIND
from star_operator.core.errors import Retryable
from star_operator.core.labels import LABEL_SERVER
from star_operator.core.objects import KubeObject
from star_operator.kube.cluster import Cluster
from star_operator.kube.indexes import OWNER
from star_operator.kube.resources import SERVICE

IDLE_SINCE = f"{GROUP}/idle-since"
TRIES = 5
"""Of a write that others are quicker than; then the whole pass is tried again."""


@dataclass(frozen=True)
class Hands:
    """Whose a server is."""

    users: tuple[KubeObject, ...] = ()
    """Owner references."""
    idle_since: str | None = None
    """RFC 3339, UTC: when the last user left."""

    @classmethod
    def of(cls, anchor: KubeObject) -> "Hands":
        """Return what an anchor says."""
        meta = anchor["metadata"]
        return cls(tuple(meta.get("ownerReferences") or ()), (meta.get("annotations") or {}).get(IDLE_SINCE))

    def has(self, uid: str) -> bool:
        """Say whether somebody uses it."""
        return any(user["uid"] == uid for user in self.users)

    def joined(self, user: KubeObject) -> "Hands":
        """Return whose it is once somebody uses it."""
        return Hands(self.users if self.has(user["uid"]) else (*self.users, user))

    def left(self, uid: str, now: str) -> "Hands":
        """Return whose it is once somebody does not use it any more."""
        users = tuple(user for user in self.users if user["uid"] != uid)
        return Hands(users, None if users else (self.idle_since or now))


async def join(cluster: Cluster, anchor: KubeObject, user: KubeObject) -> tuple[KubeObject, bool]:
    """Use the server of an anchor, which is made where there is none, and say whether nobody used it until now.

    `anchor` is the Service as it would be made today, `user` an owner reference.
    Raises Retryable when the server is removed meanwhile, because it had been idle for long enough.
    """
    namespace, name = anchor["metadata"]["namespace"], anchor["metadata"]["name"]
    there = await cluster.get(SERVICE, namespace, name)
    for _ in range(TRIES):
        if there is None:
            try:
                made = {**anchor, "metadata": {**anchor["metadata"], "ownerReferences": [user]}}
                return await cluster.create(made), True
            except Retryable as error:
                if error.reason != "AlreadyExists":
                    raise
        else:
            hands = Hands.of(there)
            if "deletionTimestamp" in there["metadata"]:
                raise _removed(name)
            if hands.has(user["uid"]) and hands.idle_since is None:
                return there, False
            if (changed := await _write(cluster, there, hands.joined(user))) is not None:
                return changed, not hands.users
        there = await cluster.live.get(SERVICE, namespace, name)
        if there is None:
            raise _removed(name)
    raise Retryable("Conflict", f"others change who uses LLM server {name}; it is tried again")


async def release(cluster: Cluster, namespace: str, uid: str, now: str) -> list[str]:
    """Take the user off every server it uses, and return the names of those that nobody uses any more."""
    idle = []
    for anchor in await cluster.list_by(SERVICE, namespace, OWNER, uid):
        if not _is_shared(anchor):
            continue  # of the user's own pods, and no server's
        left = await _change(cluster, anchor, lambda hands: hands.left(uid, now))
        if left is not None and not Hands.of(left).users:
            idle.append(anchor["metadata"]["name"])
    return idle


async def mark_idle(cluster: Cluster, anchor: KubeObject, now: str) -> None:
    """Mark a shared server that has no users and does not say since when.

    No write of ours leaves one so; earlier versions did, and so does who deletes its users and orphans their children.
    """
    if _is_shared(anchor):
        await _change(cluster, anchor, lambda hands: hands if hands.users else hands.left("", now))


async def uses_any(cluster: Cluster, namespace: str, names: Sequence[str], uid: str) -> bool:
    """Say whether the user has acquired any of these servers."""
    anchors = [await cluster.get(SERVICE, namespace, name) for name in names]
    return any(anchor is not None and Hands.of(anchor).has(uid) for anchor in anchors)


async def _change(cluster: Cluster, anchor: KubeObject, change: Callable[[Hands], Hands]) -> KubeObject | None:
    """Change whose a server is; return it as it is then, None when it is gone."""
    meta, there = anchor["metadata"], anchor
    for _ in range(TRIES):
        hands = Hands.of(there)
        changed = change(hands)
        if changed == hands:
            return there
        if (written := await _write(cluster, there, changed)) is not None:
            return written
        found = await cluster.live.get(SERVICE, meta["namespace"], meta["name"])
        if found is None or found["metadata"]["uid"] != meta["uid"]:
            return None
        there = found
    raise Retryable("Conflict", f"others change who uses LLM server {meta['name']}; it is tried again")


async def _write(cluster: Cluster, anchor: KubeObject, hands: Hands) -> KubeObject | None:
    """Write whose a server is, in one patch at the version seen; None where that is not the last one any more."""
    meta = anchor["metadata"]
    patch = {
        "metadata": {
            "resourceVersion": meta["resourceVersion"],
            "ownerReferences": list(hands.users),
            "annotations": {IDLE_SINCE: hands.idle_since},
        }
    }
    try:
        return await cluster.merge(SERVICE, meta["namespace"], meta["name"], patch, uid=meta["uid"])
    except Retryable as error:
        if error.reason != "Conflict":
            raise
        return None


def _is_shared(anchor: KubeObject) -> bool:
    """Say whether a Service is the anchor of a shared server, and not of one resource's own."""
    labels = anchor["metadata"].get("labels", {})
    return LABEL_SERVER in labels and LABEL_KIND not in labels and labels[LABEL_SERVER] == anchor["metadata"]["name"]


def _removed(name: str) -> Retryable:
    return Retryable("ServerRemoved", f"LLM server {name} was removed as idle just now; it is made anew")
