"""What the watches and our own writes have told of the cluster: objects by name and by index, never older than told.

The contract. Each kind is fed by three: events of its watch, answers to the operator's own writes, and LISTs. They may
come in any order: of one object's versions the highest wins (resource versions of a kind are comparable, KEP-5504), and
what is known to be gone stays gone, whoever tells of it late. So a read is never older than the last write of one's
own. `changed` is called once for each change, whoever told of it first.

Nothing here waits or calls: `kube/cached.py` reads and feeds, `handlers/intake.py` hands events over. Bodies are kept
as JSON: a third of the memory of objects, and each reader gets a copy of its own.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from star_operator.core.objects import KubeObject

MAX_TOMBSTONES = 20_000
"""UIDs of what is gone that are remembered: late answers come within seconds."""

ALL = "*"
"""In place of a namespace: all of them. None can be called so."""

Indexer: TypeAlias = Callable[[KubeObject], Iterable[tuple[str, str]]]
"""Returns the (index, value) pairs under which an object is to be found within its kind and namespace."""


class Place(NamedTuple):
    """Where an object is; the namespace of cluster-scoped ones is empty."""

    kind: str
    namespace: str
    name: str


class Slot(NamedTuple):
    """A set of an index."""

    kind: str
    namespace: str
    by: str
    value: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object, as it was told of last."""

    place: Place
    uid: str
    version: int
    labels: Mapping[str, str]
    slots: tuple[Slot, ...]
    body: bytes

    def read(self) -> KubeObject:
        """Return the object."""
        found: KubeObject = json.loads(self.body)
        return found

    def values(self, index: str) -> list[str]:
        """Return the values that an index has it under."""
        return [slot.value for slot in self.slots if slot.by == index and slot.namespace == ALL]


Changed: TypeAlias = Callable[[Entry | None, Entry | None], None]
"""Told of what was known before, and of what is known now; None where there is nothing."""


def no_one(before: Entry | None, after: Entry | None) -> None:
    """Listen to nothing."""


class Cache:
    """Objects of several kinds; a kind counts as known once it was listed."""

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        self.changed: Changed = no_one
        self._entries: dict[Place, Entry] = {}
        self._kinds: dict[str, dict[Place, None]] = {}
        self._slots: dict[Slot, dict[Place, None]] = {}
        self._uids: dict[str, Place] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        """UID -> the version up to which nobody is believed who says that it is there."""
        self._going: dict[str, str] = {}
        """UID -> since when it is being deleted, as we have asked for it."""
        self._listed: set[str] = set()

    # Feeding.

    def put(self, obj: KubeObject) -> bool:
        """Take an object as an event, an answer or a listing tells of it, and say whether that is news."""
        entry = self._entry(obj)
        before = self._entries.get(entry.place)
        if entry.version <= self._gone.get(entry.uid, -1) or (before and before.version >= entry.version):
            return False
        if before is not None and before.uid != entry.uid:  # a name stands for one object at a time
            self._bury(before.uid, entry.version)
        self._set(entry, before)
        self.changed(before, entry)
        return True

    def drop(self, obj: KubeObject) -> bool:
        """Take the end of an object: `obj` is as it was when it ended. Say whether that is news."""
        meta = obj["metadata"]
        return self._end(_place(obj), meta["uid"], int(meta["resourceVersion"]))

    def missing(self, entry: Entry) -> bool:
        """Take that the API server knows no object of that name any more, which had just been read here."""
        return self._entries.get(entry.place) is entry and self._end(entry.place, entry.uid, entry.version)

    def going(self, entry: Entry, now: str) -> None:
        """Take that the API server was told to delete an object: until it is gone, or for ever, it is being deleted."""
        if (there := self._entries.get(entry.place)) is not None and there.uid == entry.uid:
            self._going.setdefault(entry.uid, now)

    def listed(self, kind: str, objects: Sequence[KubeObject], version: int) -> None:
        """Take a whole LIST of a kind at that version: what it lacks, and is no younger than it, is gone."""
        for obj in objects:
            self.put(obj)
        self.swept(kind, {obj["metadata"]["uid"] for obj in objects}, version)
        self._listed.add(kind)

    def swept(self, kind: str, uids: Iterable[str], version: int) -> None:
        """Take the UIDs of all that there was of a kind at that version."""
        there = set(uids)
        for entry in list(self.entries(kind)):
            if entry.uid not in there and entry.version <= version:
                self._end(entry.place, entry.uid, version)

    # Reading.

    def knows(self, kind: str) -> bool:
        """Say whether all of a kind is here."""
        return kind in self._listed

    def entry(self, kind: str, namespace: str, name: str) -> Entry | None:
        """Return what is known of an object."""
        return self._entries.get(Place(kind, namespace, name))

    def of_uid(self, uid: str) -> Entry | None:
        """Return what is known of the object with a UID."""
        place = self._uids.get(uid)
        return self._entries[place] if place is not None else None

    def entries(self, kind: str, namespace: str | None = None) -> Iterator[Entry]:
        """Yield all of a kind, or of a kind and namespace, in the order in which they were told of first."""
        places = self._kinds.get(kind, {}) if namespace is None else self._slot(kind, namespace, "", "")
        return (self._entries[place] for place in places)

    def find(self, kind: str, namespace: str | None, index: str, value: str) -> Iterator[Entry]:
        """Yield what an index has under a value, in the order in which it came there; None is all namespaces."""
        return (self._entries[place] for place in self._slot(kind, namespace, index, value))

    def read(self, entry: Entry) -> KubeObject:
        """Return a copy of an object, with the deletion that we have asked for ourselves."""
        obj, since = entry.read(), self._going.get(entry.uid)
        if since is not None:
            obj["metadata"].setdefault("deletionTimestamp", since)
        return obj

    def __len__(self) -> int:
        return len(self._entries)

    # Inside.

    def _slot(self, kind: str, namespace: str | None, index: str, value: str) -> dict[Place, None]:
        return self._slots.get(Slot(kind, ALL if namespace is None else namespace, index, value), {})

    def _end(self, place: Place, uid: str, version: int) -> bool:
        self._bury(uid, version)
        entry = self._entries.get(place)
        if entry is None or entry.uid != uid or entry.version > version:
            return False
        self._set(None, entry)
        self.changed(entry, None)
        return True

    def _bury(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.pop(uid, -1))
        self._going.pop(uid, None)
        while len(self._gone) > MAX_TOMBSTONES:
            self._gone.popitem(last=False)

    def _set(self, after: Entry | None, before: Entry | None) -> None:
        if before is not None:
            del self._uids[before.uid]
            kept = after.slots if after is not None else ()
            for slot in set(before.slots) - set(kept):
                _take(self._slots, slot, before.place)
            if after is None:
                _take(self._kinds, before.place.kind, before.place)
                del self._entries[before.place]
        if after is not None:
            self._entries[after.place] = after
            self._uids[after.uid] = after.place
            self._kinds.setdefault(after.place.kind, {})[after.place] = None
            for slot in after.slots:
                self._slots.setdefault(slot, {})[after.place] = None

    def _entry(self, obj: KubeObject) -> Entry:
        place, meta = _place(obj), obj["metadata"]
        pairs = [("", ""), *self._indexer(obj)]
        slots = [Slot(place.kind, where, *pair) for pair in pairs for where in (place.namespace, ALL)]
        managers = [{**one, "fieldsV1": {}} for one in meta.get("managedFields", ())]
        slim = {**obj, "metadata": {**meta, "managedFields": managers}} if managers else obj
        body = json.dumps(slim, separators=(",", ":"), ensure_ascii=False).encode()
        labels = dict(meta.get("labels") or {})
        return Entry(place, meta["uid"], int(meta["resourceVersion"]), labels, tuple(dict.fromkeys(slots)), body)


def _place(obj: KubeObject) -> Place:
    meta = obj["metadata"]
    return Place(obj["kind"], meta.get("namespace", ""), meta["name"])


def _take(sets: dict[Any, dict[Place, None]], key: Any, place: Place) -> None:
    """Take a place out of a set; a set that is empty goes."""
    there = sets[key]
    there.pop(place, None)
    if not there:
        del sets[key]
