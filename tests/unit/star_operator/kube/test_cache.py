"""The cache against a model: it shows the newest that it was told, in whatever order, and nothing that is gone."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from star_operator.core.objects import KubeObject
from star_operator.kube import cache as module
from star_operator.kube.cache import Cache, Entry, Place, Slot

KIND = "Job"
PLACES = [("a", "x"), ("a", "y"), ("b", "x")]
COLOURS = ["red", "blue", ""]


def colours(obj: KubeObject) -> Iterable[tuple[str, str]]:
    colour = obj["metadata"].get("labels", {}).get("colour")
    return [("colour", colour)] if colour else []


def job(name: str = "x", uid: str = "u1", version: int = 1, colour: str = "", namespace: str = "a") -> KubeObject:
    labels = {"colour": colour} if colour else {}
    meta = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "batch/v1", "kind": KIND, "metadata": meta}


class Server:
    """An API server's history of one kind: what is there now, the events so far, the answers to writes, and LISTs."""

    def __init__(self) -> None:
        self.version = 0
        self.there: dict[tuple[str, str], KubeObject] = {}
        self.events: list[tuple[str, KubeObject]] = []
        self.answers: list[KubeObject] = []
        self.lists: list[tuple[list[KubeObject], int]] = []
        self._uids = itertools.count()

    def write(self, place: tuple[str, str], colour: str) -> None:
        self.version += 1
        old = self.there.get(place)
        uid = old["metadata"]["uid"] if old else f"u{next(self._uids)}"
        new = job(place[1], uid, self.version, colour, place[0])
        self.there[place] = new
        self.events.append(("MODIFIED", new))
        self.answers.append(new)

    def delete(self, place: tuple[str, str]) -> None:
        old = self.there.pop(place, None)
        if old is not None:
            self.version += 1
            ended = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
            self.events.append(("DELETED", ended))

    def list(self) -> None:
        self.lists.append((list(self.there.values()), self.version))


def model(cache: Cache) -> dict[tuple[str, str], tuple[str, int]]:
    return {entry.place[1:]: (entry.uid, entry.version) for entry in cache.entries(KIND)}


def check_indexes(cache: Cache) -> None:
    """Every index is what it would be if it were made anew, and keeps nothing of what is gone."""
    wanted: dict[Slot, set[Place]] = {}
    for entry in cache.entries(KIND):
        for index, value in [("", ""), *colours(entry.read())]:
            for namespace in (entry.place.namespace, "*"):
                wanted.setdefault(Slot(KIND, namespace, index, value), set()).add(entry.place)
    assert {slot: set(places) for slot, places in cache._slots.items()} == wanted
    assert cache._uids == {entry.uid: entry.place for entry in cache.entries(KIND)}
    assert set(cache._going) <= {entry.uid for entry in cache.entries(KIND)}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(PLACES), st.sampled_from(COLOURS)),
        st.tuples(st.just("delete"), st.sampled_from(PLACES)),
        st.tuples(st.just("list")),
        st.tuples(st.just("watch")),
        st.tuples(st.just("relist")),
        st.tuples(st.just("answer"), st.integers(0, 50)),
        st.tuples(st.just("listing"), st.integers(0, 50)),
        st.tuples(st.just("go"), st.sampled_from(PLACES)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_the_cache_is_as_new_as_the_newest_it_was_told_and_ends_as_the_server_is(steps: list[tuple[Any, ...]]) -> None:
    server, cache = Server(), Cache(colours)
    newest: dict[tuple[str, str], int] = {}
    ended: set[str] = set()
    seen: dict[Place, Entry] = {}

    def changed(before: Entry | None, after: Entry | None) -> None:
        entry = after or before
        assert entry is not None
        assert seen.pop(entry.place, None) is before, "each change follows the one before"
        if after is not None:
            seen[after.place] = after

    cache.changed = changed

    def told(obj: KubeObject) -> None:
        place = obj["metadata"]["namespace"], obj["metadata"]["name"]
        newest[place] = max(newest.get(place, 0), int(obj["metadata"]["resourceVersion"]))

    def deliver(kind: str, obj: KubeObject) -> None:
        told(obj)
        if kind == "DELETED":
            ended.add(obj["metadata"]["uid"])
            cache.drop(obj)
        else:
            cache.put(obj)

    delivered = 0
    for step, *of in steps:
        if step == "write":
            server.write(*of)
        elif step == "delete":
            server.delete(*of)
        elif step == "list":
            server.list()
        elif step == "watch" and delivered < len(server.events):
            deliver(*server.events[delivered])
            delivered += 1
        elif step == "relist":  # a watch that starts anew tells of all there is, and of no end that it has missed
            for obj in server.there.values():
                deliver("LISTED", obj)
            delivered = len(server.events)
        elif step == "answer" and server.answers:
            deliver("ANSWER", server.answers[of[0] % len(server.answers)])
        elif step == "listing" and server.lists:
            objects, version = server.lists[of[0] % len(server.lists)]
            for obj in objects:
                told(obj)
            cache.listed(KIND, objects, version)
        elif step == "go" and (entry := cache.entry(KIND, *of[0])) is not None:
            cache.going(entry, "2026-01-01T00:00:00Z")
            assert "deletionTimestamp" in cache.read(entry)["metadata"]
        for place, (uid, version) in model(cache).items():
            assert version >= newest[place], "older than what it was told"
            assert uid not in ended, "what is gone is back"
        assert {place[1:] for place in seen} == set(model(cache))
        check_indexes(cache)

    server.list()
    cache.listed(KIND, *server.lists[-1])
    wanted = {
        place: (obj["metadata"]["uid"], int(obj["metadata"]["resourceVersion"])) for place, obj in server.there.items()
    }
    assert model(cache) == wanted
    check_indexes(cache)


def names(entries: Iterator[Entry]) -> list[str]:
    return [f"{entry.place.namespace}/{entry.place.name}" for entry in entries]


def test_what_is_found_by_an_index_is_found_in_one_namespace_and_in_all() -> None:
    cache = Cache(colours)
    cache.put(job("x", "u1", 1, "red", "a"))
    cache.put(job("x", "u2", 2, "red", "b"))
    cache.put(job("y", "u3", 3, "blue", "a"))
    assert names(cache.find(KIND, "a", "colour", "red")) == ["a/x"]
    assert names(cache.find(KIND, None, "colour", "red")) == ["a/x", "b/x"]
    assert names(cache.entries(KIND, "a")) == ["a/x", "a/y"]
    assert names(cache.entries("Pod")) == []


def test_what_was_gone_is_not_brought_back_by_a_late_answer() -> None:
    cache = Cache(colours)
    cache.put(job(version=3))
    cache.drop(job(version=5))
    assert not cache.put(job(version=4))
    assert len(cache) == 0


def test_what_left_a_watch_by_its_labels_may_come_back() -> None:
    cache = Cache(colours)
    cache.put(job(version=3))
    cache.drop(job(version=5))
    assert cache.put(job(version=6)), "somebody took our label off, and we have put it there again"


def test_a_name_stands_for_one_object_and_the_one_before_stays_gone() -> None:
    cache = Cache(colours)
    cache.put(job(uid="old", version=3))
    cache.put(job(uid="new", version=9))
    assert not cache.put(job(uid="old", version=4))
    assert not cache.drop(job(uid="old", version=8))
    assert model(cache) == {("a", "x"): ("new", 9)}


def test_an_answer_that_there_is_none_is_of_what_was_read_before() -> None:
    cache = Cache(colours)
    cache.put(job(uid="old", version=3))
    read = cache.entry(KIND, "a", "x")
    assert read is not None
    cache.put(job(uid="new", version=9))
    assert not cache.missing(read)
    assert model(cache) == {("a", "x"): ("new", 9)}


def test_nobody_else_sees_what_a_reader_changes() -> None:
    cache = Cache(colours)
    cache.put(job())
    entry = cache.entry(KIND, "a", "x")
    assert entry is not None
    cache.read(entry)["metadata"]["name"] = "z"
    assert cache.read(entry)["metadata"]["name"] == "x"


def test_of_field_managers_who_they_are_is_kept_and_not_what_they_manage() -> None:
    cache = Cache(colours)
    obj = job()
    obj["metadata"]["managedFields"] = [{"manager": "kubectl", "subresource": "scale", "fieldsV1": {"f:spec": {}}}]
    cache.put(obj)
    entry = cache.entry(KIND, "a", "x")
    assert entry is not None
    assert entry.read()["metadata"]["managedFields"] == [{"manager": "kubectl", "subresource": "scale", "fieldsV1": {}}]


def test_tombstones_are_bounded() -> None:
    cache = Cache(colours)
    for number in range(module.MAX_TOMBSTONES + 10):
        cache.drop(job(uid=f"u{number}", version=number))
    assert len(cache._gone) == module.MAX_TOMBSTONES
