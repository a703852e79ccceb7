"""From what the watches tell to work-queue keys, and proof that the watches still live.

An event goes into the cache. Each change of the cache, whoever told of it first (a watch, the answer to a write, a
LIST), says "look again" to whom it may concern. A watch that died without a word is found by comparing a LIST with what
its events brought (resource versions grow, KEP-5504).
"""

from collections.abc import Iterator
from typing import Any

from star_contracts.names import LABEL_KIND, LABEL_NAME
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.evaluation import Evaluation
from star_operator.api.kinds import BY_KIND
from star_operator.api.meta import Phase, Scope
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.core.labels import (
    LABEL_GROUP,
    LABEL_PIPELINE,
    LABEL_SCHEDULE,
    LABEL_SERVER,
    PROBE,
    RETENTION,
)
from star_operator.core.queue import Key, WorkQueue
from star_operator.kube.cache import Cache, Entry
from star_operator.kube.indexes import DIGEST, MEASURED, NAMED, OBSERVER, OWNER, PHASE, PIN
from star_operator.kube.resources import NAMESPACE, SERVICE
from star_operator.policy.holdings import DEPLOYMENT, PIPELINE
from star_operator.policy.status import FINISHED
from star_operator.reconcilers.retention import key_of

SCHEDULE, CHECKPOINT, EVALUATION = RetrainSchedule.INFO.kind, Checkpoint.INFO.kind, Evaluation.INFO.kind
PROMOTION, POLICY = Promotion.INFO.kind, PromotionPolicy.INFO.kind
LOOKED_AT: dict[str, tuple[str, ...]] = {
    PROMOTION: (PROMOTION, POLICY),
    POLICY: (PROMOTION, POLICY),
    EVALUATION: (PROMOTION,),
    DEPLOYMENT: (PROMOTION, POLICY),
    PIPELINE: (POLICY,),
}
"""Kinds whose resources look at all of a kind in their namespace; at StarDeployments in those that let them, too."""
KINDS_OF_LABELS = {kind.lower(): kind for kind in BY_KIND}
NAMESPACED = {kind for kind, model in BY_KIND.items() if model.INFO.scope is Scope.NAMESPACED}
ENDED = {*FINISHED, Phase.SUSPENDED}
PROGRESS = ("progress", "progressText", "metrics")
"""What a run's status says of how far it is: only its pods can change that, and nothing follows from it."""


class Intake:
    """What the handlers hand events to."""

    def __init__(self, queue: WorkQueue, cache: Cache) -> None:
        self._queue = queue
        self._cache = cache
        cache.changed = self._changed
        self._seen: dict[str, int] = {}
        """Versions that the watches have delivered, by UID."""
        self._deleted: set[str] = set()
        """UIDs of what was deleted since the last round began."""

    def event(self, event: Any) -> None:
        """An object came, changed or went, or is listed at the start of its watch."""
        obj = event["object"]
        meta = obj["metadata"]
        if event["type"] == "DELETED":
            self._seen.pop(meta["uid"], None)
            self._deleted.add(meta["uid"])
            self._cache.drop(obj)
        else:
            self._seen[meta["uid"]] = int(meta["resourceVersion"])
            self._cache.put(obj)

    def begin_round(self) -> None:
        """A listing begins, of which `has_seen` will be asked."""
        self._deleted.clear()

    def has_seen(self, uid: str, version: int) -> bool:
        """Say whether the watch has delivered this version of the object, a later one, or its end since the listing."""
        return uid in self._deleted or self._seen.get(uid, -1) >= version

    def _changed(self, before: Entry | None, after: Entry | None) -> None:
        entry = after or before
        assert entry is not None
        if before is not None and (after is None or after.uid != before.uid):
            self._seen.pop(before.uid, None)
        if entry.place.kind in BY_KIND:
            keys = self._of_resource(entry, before, after)
        elif entry.place.kind == NAMESPACE.kind:
            keys = self._of_namespace(before, after)
        else:
            keys = self._of_child(entry)
        for key in dict.fromkeys(keys):
            self._queue.add(key)

    def _of_resource(self, entry: Entry, before: Entry | None, after: Entry | None) -> Iterator[Key]:
        """Yield who looks at a resource: itself, owners, the pipeline that moved it, and others of its namespace."""
        kind, namespace, _ = entry.place
        if before is None or after is None or not _only_progress(before, after):
            yield _key(entry)
        yield from self._owners(entry)
        yield from self._named(PIPELINE, namespace, entry.labels.get(LABEL_PIPELINE))
        yield from self._watching(entry)
        if kind == EVALUATION and _phase(entry) == Phase.SUCCEEDED:
            yield from self._measured_by(entry)
        if after is None or _phase(entry) in ENDED:  # there is room for another run
            yield from self._named(SCHEDULE, "", entry.labels.get(LABEL_SCHEDULE))
        pins = [one.values(PIN) if one is not None else [] for one in (before, after)]
        if pins[0] != pins[1] or (kind == PIPELINE and _phase(entry) in FINISHED):
            yield key_of(namespace)

    def _watching(self, entry: Entry) -> Iterator[Key]:
        """Yield who looks at all of a kind where this is; a Promotion that has ended looks at nothing any more."""
        for namespace in dict.fromkeys([entry.place.namespace, *entry.values(OBSERVER)]):
            for watching in LOOKED_AT.get(entry.place.kind, ()):
                for one in self._cache.entries(watching, namespace):
                    if one.place != entry.place and not (watching == PROMOTION and _phase(one) in FINISHED):
                        yield _key(one)

    def _owners(self, entry: Entry) -> Iterator[Key]:
        owners = (self._cache.of_uid(uid) for uid in entry.values(OWNER))
        yield from (_key(owner) for owner in owners if owner is not None and owner.place.kind in NAMESPACED)

    def _measured_by(self, evaluation: Entry) -> Iterator[Key]:
        namespace = evaluation.place.namespace
        for name in evaluation.values(MEASURED):
            if (checkpoint := self._cache.entry(CHECKPOINT, namespace, name)) is not None:
                yield _key(checkpoint)
        for digest in evaluation.values(DIGEST):
            yield from map(_key, self._cache.find(CHECKPOINT, namespace, DIGEST, digest))

    def _of_namespace(self, before: Entry | None, after: Entry | None) -> Iterator[Key]:
        """Yield the schedules, where a namespace came, went, or has other labels: they may have another tenant."""
        if _tenancy(before) != _tenancy(after):
            yield from map(_key, self._cache.entries(SCHEDULE))

    def _of_child(self, child: Entry) -> Iterator[Key]:
        """Yield the owner of a child, by its labels, and of a shared server's children its users."""
        (kind, namespace, _), labels = child.place, child.labels
        of_kind, name = labels.get(LABEL_KIND, ""), labels.get(LABEL_NAME)
        if of_kind == RETENTION:
            yield key_of(namespace)
        if of_kind in KINDS_OF_LABELS:
            yield from self._named(KINDS_OF_LABELS[of_kind], namespace, name)
        if of_kind == PROBE:
            yield from self._named(SCHEDULE, "", labels.get(LABEL_SCHEDULE))
        server = labels.get(LABEL_SERVER)
        if server is None:
            return
        if kind == SERVICE.kind or LABEL_GROUP in labels:
            yield Key("LLMServer", namespace, server)
        anchor = self._cache.entry(SERVICE.kind, namespace, server)
        if anchor is not None:
            yield from self._owners(anchor)

    def _named(self, kind: str, namespace: str, label: str | None) -> Iterator[Key]:
        """Yield the resource whose name has this label value."""
        if label is not None:
            yield from map(_key, self._cache.find(kind, namespace, NAMED, label))


def _key(entry: Entry) -> Key:
    return Key(*entry.place)


def _phase(entry: Entry) -> str:
    return next(iter(entry.values(PHASE)), "")


def _only_progress(before: Entry, after: Entry) -> bool:
    """Say whether nothing has changed but how far a run is."""
    return before.uid == after.uid and _essence(before) == _essence(after)


def _essence(entry: Entry) -> Any:
    obj = entry.read()
    for field in ("resourceVersion", "managedFields"):
        obj["metadata"].pop(field, None)
    status = obj.get("status") or {}
    return {**obj, "status": {key: value for key, value in status.items() if key not in PROGRESS}}


def _tenancy(namespace: Entry | None) -> dict[str, str] | None:
    """Return a namespace's labels; None where there is none, or where it goes."""
    if namespace is None or "deletionTimestamp" in namespace.read()["metadata"]:
        return None
    return dict(namespace.labels)
