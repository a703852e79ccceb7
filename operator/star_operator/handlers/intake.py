"""From watch events to work-queue keys, and proof that the watches still live.

An event says only "look again". kopf delivers them; a watch that died without a word is found by comparing a fresh
LIST with what the events brought (resource versions grow, KEP-5504).
"""

from collections import defaultdict
from typing import Any

import kopf

from star_contracts.names import GROUP, LABEL_KIND, LABEL_NAME, VERSION
from star_operator.api.kinds import BY_KIND, KINDS
from star_operator.api.meta import Phase, Resource, Scope
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.api.stardeployment import StarDeployment
from star_operator.core.labels import (
    LABEL_GROUP,
    LABEL_PIPELINE,
    LABEL_SCHEDULE,
    LABEL_SERVER,
    PIN_ANNOTATION,
    PROBE,
    RETENTION,
    label_value,
    observers,
)
from star_operator.core.queue import Key, WorkQueue
from star_operator.policy.holdings import PIPELINE
from star_operator.policy.status import FINISHED
from star_operator.reconcilers.retention import key_of

REGISTRY = kopf.OperatorRegistry()
SCHEDULE = RetrainSchedule.INFO.kind
PROMOTION, POLICY = Promotion.INFO.kind, PromotionPolicy.INFO.kind
SERVES = StarDeployment.INFO.kind
LOOKED_AT: dict[str, tuple[str, ...]] = {
    PROMOTION: (PROMOTION, POLICY),
    POLICY: (PROMOTION, POLICY),
    "Evaluation": (PROMOTION,),
    SERVES: (PROMOTION, POLICY),
    PIPELINE: (POLICY,),
}
"""Kinds whose resources look at all of a kind in their namespace; at StarDeployments in those that let them, too."""
KIND_NAMES = {kind.INFO.kind for kind in KINDS}


def here(kind: type[Resource[Any, Any]]) -> tuple[str, str, str]:
    """Return where a kind is watched: group, version, plural."""
    return GROUP, VERSION, kind.INFO.plural


class Intake:
    """What the handlers hand events to."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._seen: dict[str, int] = {}
        self._deleted: set[str] = set()
        """UIDs of what was deleted since the last round began."""
        self._users: dict[tuple[str, str], set[Key]] = {}
        self._by_label: dict[tuple[str, str, str], Key] = {}
        self._looking: defaultdict[tuple[str, str], dict[Key, None]] = defaultdict(dict)
        """By namespace and kind: what may have to look at others, in the order in which they were seen first."""
        self._namespaces: dict[str, dict[str, str] | None] = {}
        """Labels by name; None for one that is going."""
        self._pins: dict[str, str] = {}
        """Why resources are pinned, by UID."""

    def resource_event(self, kind: type[Resource[Any, Any]], event: Any) -> None:
        """A resource of ours changed, or is listed at the start."""
        meta = event["object"]["metadata"]
        self._seen[meta["uid"]] = int(meta["resourceVersion"])
        if event["type"] == "DELETED":
            self._seen.pop(meta["uid"], None)
            self._deleted.add(meta["uid"])
        key = Key(kind.INFO.kind, meta.get("namespace", ""), meta["name"])
        self._by_label[key.namespace, key.kind.lower(), label_value(key.name)] = key
        self._keep(key, event)
        self._queue.add(key)
        for dependent in self._dependents(key, event["object"]):
            self._queue.add(dependent)
        schedule = self._schedule_of(meta.get("labels", {}))
        ended = event["object"].get("status", {}).get("phase") in (Phase.SUCCEEDED, Phase.FAILED, Phase.SUSPENDED)
        if schedule is not None and (event["type"] == "DELETED" or ended):
            self._queue.add(schedule)  # there is room for another run
        done = key.kind == PIPELINE and event["object"].get("status", {}).get("completionTime")
        if self._has_new_pin(event) or done:
            self._queue.add(key_of(key.namespace))

    def namespace_event(self, event: Any) -> None:
        """A namespace came, went, or has other labels: schedules may have another tenant."""
        meta = event["object"]["metadata"]
        labels = meta.get("labels", {}) if "deletionTimestamp" not in meta and event["type"] != "DELETED" else None
        if self._namespaces.get(meta["name"]) == labels:
            return
        self._namespaces[meta["name"]] = labels
        for key in self._looking["", SCHEDULE]:
            self._queue.add(key)

    def _keep(self, key: Key, event: Any) -> None:
        """Remember who may have to look at others; a Promotion that has ended looks at nothing any more."""
        ended = key.kind == PROMOTION and event["object"].get("status", {}).get("phase") in FINISHED
        if event["type"] == "DELETED" or ended:
            self._looking[key.namespace, key.kind].pop(key, None)
        else:
            self._looking[key.namespace, key.kind][key] = None

    def _schedule_of(self, labels: Any) -> Key | None:
        """Return the schedule that started a run."""
        return self._by_label.get(("", SCHEDULE.lower(), labels.get(LABEL_SCHEDULE, "")))

    def _has_new_pin(self, event: Any) -> bool:
        """Say whether a resource was pinned or unpinned."""
        meta = event["object"]["metadata"]
        before: str | None = self._pins.pop(meta["uid"], None)
        pin: str | None = meta.get("annotations", {}).get(PIN_ANNOTATION)
        if pin is not None and event["type"] != "DELETED":
            self._pins[meta["uid"]] = pin
        return before != pin

    def _dependents(self, key: Key, obj: Any) -> list[Key]:
        """Return who looks at this resource: owners, the pipeline that moved it, an evaluation's checkpoints."""
        moved_by = obj["metadata"].get("labels", {}).get(LABEL_PIPELINE)
        pipeline = self._by_label.get((key.namespace, "starpipeline", moved_by)) if moved_by else None
        owners = [
            Key(reference["kind"], key.namespace, reference["name"])
            for reference in obj["metadata"].get("ownerReferences", [])
            if reference["kind"] in KIND_NAMES and BY_KIND[reference["kind"]].INFO.scope is Scope.NAMESPACED
        ]
        owners += [pipeline] if pipeline is not None and pipeline not in owners else []
        namespaces = [key.namespace, *(observers(obj) - {key.namespace} if key.kind == SERVES else ())]
        for watching in LOOKED_AT.get(key.kind, ()):
            for namespace in namespaces:
                owners += [one for one in self._looking.get((namespace, watching), ()) if one != key]
        if key.kind != "Evaluation" or obj.get("status", {}).get("phase") != "Succeeded":
            return owners
        return [*owners, *self._looking[key.namespace, "Checkpoint"]]

    def child_event(self, event: Any) -> None:
        """A child changed: its owner is told by labels, a shared server's users by its owner references."""
        obj = event["object"]
        meta = obj["metadata"]
        labels, namespace = meta.get("labels", {}), meta["namespace"]
        if labels.get(LABEL_KIND) == RETENTION:
            self._queue.add(key_of(namespace))
        owner = self._by_label.get((namespace, labels.get(LABEL_KIND, ""), labels.get(LABEL_NAME, "")))
        if owner is not None:
            self._queue.add(owner)
        schedule = self._schedule_of(labels) if labels.get(LABEL_KIND) == PROBE else None
        if schedule is not None:
            self._queue.add(schedule)
        server = labels.get(LABEL_SERVER)
        if server is None:
            return
        if obj.get("kind") == "Service":
            references = meta.get("ownerReferences", [])
            users = {Key(ref["kind"], namespace, ref["name"]) for ref in references if ref["kind"] in KIND_NAMES}
            self._users[namespace, server] = users
        if obj.get("kind") == "Service" or LABEL_GROUP in labels:
            self._queue.add(Key("LLMServer", namespace, server))
        for key in self._users.get((namespace, server), set()):
            self._queue.add(key)

    def begin_round(self) -> None:
        """A listing begins, of which `has_seen` will be asked."""
        self._deleted.clear()

    def has_seen(self, uid: str, version: int) -> bool:
        """Say whether the watch has delivered this version of the object, a later one, or its end since the listing."""
        return uid in self._deleted or self._seen.get(uid, -1) >= version
