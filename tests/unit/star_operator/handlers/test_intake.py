"""Who is looked at when something changes; what changes is told by events, by answers to writes and by LISTs alike."""

import itertools
import time
from typing import Any

import pytest

from star_contracts.names import LABEL_KIND, LABEL_NAME
from star_operator.core.labels import (
    LABEL_GROUP,
    LABEL_PIPELINE,
    LABEL_SCHEDULE,
    LABEL_SERVER,
    OBSERVERS_ANNOTATION,
    RETENTION,
    label_value,
)
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key, WorkQueue
from star_operator.handlers.intake import Intake
from star_operator.kube.cache import Cache
from star_operator.kube.indexes import indexed
from star_operator.reconcilers.retention import key_of

CLUSTER = ("RetrainSchedule", "Namespace")
SCHEDULE = Key("RetrainSchedule", "", "weekly")
VERSIONS = itertools.count(1)


class Recorder(WorkQueue):
    """Keeps what was added."""

    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self.added: list[Key] = []

    def add(self, key: Key) -> None:
        self.added.append(key)


class World:
    """An intake, and who it has looked at."""

    def __init__(self) -> None:
        self.queue, self.cache = Recorder(), Cache(indexed)
        self.intake = Intake(self.queue, self.cache)

    def tells(self, kind: str, name: str, namespace: str = "ns", **changes: Any) -> list[Key]:
        """An event comes; return who is looked at."""
        return self._of(None, of(kind, name, namespace, **changes))

    def deletes(self, kind: str, name: str, **changes: Any) -> list[Key]:
        """An object goes."""
        return self._of("DELETED", of(kind, name, **changes))

    def answers(self, obj: KubeObject) -> list[Key]:
        """A write of ours is answered."""
        self.queue.added.clear()
        self.cache.put(obj)
        return self.queue.added

    def repeats(self, obj: KubeObject) -> list[Key]:
        """An event tells of an object."""
        return self._of("MODIFIED", obj)

    def _of(self, type_: str | None, obj: KubeObject) -> list[Key]:
        self.queue.added.clear()
        self.intake.event({"type": type_, "object": obj})
        return list(self.queue.added)


def of(kind: str, name: str, namespace: str = "ns", **changes: Any) -> KubeObject:
    where = {} if kind in CLUSTER else {"namespace": namespace}
    meta = {"uid": f"uid-{kind}-{namespace}-{name}", "name": name, "resourceVersion": str(next(VERSIONS)), **where}
    extra = {"spec": {"digest": f"digest-of-{name}"}} if kind == "Checkpoint" else {}
    return {"kind": kind, **extra, **changes, "metadata": {**meta, **changes.pop("metadata", {})}}


def owned(*owners: tuple[str, str]) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": f"uid-{kind}-ns-{name}"} for kind, name in owners]}


def test_a_childs_labels_lead_to_its_resource_however_long_its_name() -> None:
    world, name = World(), "n" * 100
    world.tells("SFTJob", name)
    labels = {LABEL_KIND: "sftjob", LABEL_NAME: label_value(name)}
    assert world.tells("Pod", "pod", metadata={"labels": labels}) == [Key("SFTJob", "ns", name)]
    assert world.deletes("Pod", "pod", metadata={"labels": labels}) == [Key("SFTJob", "ns", name)]


def test_what_a_write_was_answered_is_no_news_when_the_watch_tells_it() -> None:
    world = World()
    world.tells("SFTJob", "x")
    labels = {LABEL_KIND: "sftjob", LABEL_NAME: "x"}
    made = of("Job", "x-1", metadata={"labels": labels})
    assert world.answers(made) == [Key("SFTJob", "ns", "x")]
    assert world.repeats(made) == []


def test_progress_has_those_looked_at_who_show_it_and_not_the_run() -> None:
    world = World()
    world.tells("StarPipeline", "weekly")
    labels = {"labels": {LABEL_PIPELINE: "weekly"}}
    run, pipeline = Key("SFTJob", "ns", "x"), Key("StarPipeline", "ns", "weekly")
    assert world.tells("SFTJob", "x", metadata=labels, status={"phase": "Running"}) == [run, pipeline]
    so_far = {"phase": "Running", "progress": {"done": 1}, "progressText": "1/2", "metrics": {"loss": 1.0}}
    assert world.tells("SFTJob", "x", metadata=labels, status=so_far) == [pipeline]
    assert world.tells("SFTJob", "x", metadata=labels, status={**so_far, "phase": "Failed"}) == [run, pipeline]


def test_what_promotions_wait_for_has_them_looked_at() -> None:
    world = World()
    world.tells("Promotion", "p")
    world.tells("PromotionPolicy", "prod")
    promotion, policy = Key("Promotion", "ns", "p"), Key("PromotionPolicy", "ns", "prod")
    watched: dict[str, set[Key]] = {
        "StarDeployment": {promotion, policy},
        "Evaluation": {promotion},
        "StarPipeline": {policy},
        "SFTJob": set(),
    }
    for kind, wanted in watched.items():
        assert {key for key in world.tells(kind, "x") if key.name != "x"} == wanted
        assert {key for key in world.tells(kind, "x", "other") if key.name != "x"} == set()


def test_what_serves_elsewhere_has_the_promotions_looked_at_that_it_lets_look() -> None:
    world = World()
    promotion, policy = Key("Promotion", "ns", "p"), Key("PromotionPolicy", "ns", "prod")
    world.tells("Promotion", "p")
    world.tells("PromotionPolicy", "prod")
    lets: dict[str, set[Key]] = {"ns": {promotion, policy}, "more, ns,": {promotion, policy}, "n": set(), "": set()}
    for named, woken in lets.items():
        added = world.tells("StarDeployment", "live", "dev", metadata={"annotations": {OBSERVERS_ANNOTATION: named}})
        assert {key for key in added if key.namespace == "ns"} == woken
        assert [key for key in added if key.namespace == "dev"] == [Key("StarDeployment", "dev", "live")]
    told = world.tells("StarDeployment", "live", metadata={"annotations": {OBSERVERS_ANNOTATION: "ns"}})
    assert sorted(key.name for key in told) == ["live", "p", "prod"], "its own namespace is told once"


def test_promotions_that_have_ended_or_gone_are_not_woken() -> None:
    world = World()
    for name, phase in (("open", "Waiting"), ("done", "Succeeded"), ("given-up", "Failed"), ("late", "Running")):
        world.tells("Promotion", name, status={"phase": phase})
    world.tells("Promotion", "gone")
    world.deletes("Promotion", "gone")
    world.tells("Promotion", "late", status={"phase": "Succeeded"})
    for kind in ("StarDeployment", "Evaluation", "PromotionPolicy"):
        assert {key.name for key in world.tells(kind, "x") if key.kind == "Promotion"} == {"open"}
    assert world.tells("Promotion", "done", status={"phase": "Succeeded", "commit": "c0ffee"}) == [
        Key("Promotion", "ns", "done"),
        Key("Promotion", "ns", "open"),
        Key("PromotionPolicy", "ns", "x"),
    ]
    world.tells("Promotion", "late", metadata={"uid": "another"})
    assert Key("Promotion", "ns", "late") in world.tells("Evaluation", "x"), "one that is made anew has not ended"


@pytest.mark.parametrize("model", [{"checkpoint": "c"}, {"uri": "s3://x", "digest": "digest-of-c"}])
def test_an_evaluation_that_succeeded_has_the_checkpoints_that_it_measured_looked_at(model: dict[str, str]) -> None:
    world = World()
    for name in ("c", "d"):
        world.tells("Checkpoint", name)
        world.tells("Checkpoint", name, "other")
    spec = {"llm": {"server": {"model": model}}}
    checkpoint, itself = Key("Checkpoint", "ns", "c"), Key("Evaluation", "ns", "x")
    assert world.tells("Evaluation", "x", spec=spec, status={"phase": "Running"}) == [itself]
    assert world.tells("Evaluation", "x", spec=spec, status={"phase": "Succeeded"}) == [itself, checkpoint]
    assert world.deletes("Evaluation", "x", spec=spec, status={"phase": "Succeeded"}) == [itself, checkpoint]


def test_a_run_that_ends_or_goes_has_its_schedule_looked_at() -> None:
    world = World()
    world.tells("RetrainSchedule", "weekly")
    metadata = {"labels": {LABEL_SCHEDULE: "weekly"}, "ownerReferences": [{"uid": "uid-RetrainSchedule-ns-weekly"}]}
    cases: tuple[tuple[dict[str, Any], bool], ...] = (
        ({}, False),
        ({"status": {"phase": "Running"}}, False),
        ({"status": {"phase": "Failed"}}, True),
    )
    for changes, told in cases:
        woken = world.tells("StarPipeline", "run", metadata=metadata, **changes)
        assert (SCHEDULE in woken) is told
    assert SCHEDULE in world.deletes("StarPipeline", "run", metadata=metadata)


def test_a_namespace_whose_labels_change_has_all_schedules_looked_at() -> None:
    world = World()
    world.tells("RetrainSchedule", "weekly")
    assert world.tells("Namespace", "team") == [SCHEDULE]
    assert world.tells("Namespace", "team") == [], "nothing that matters has changed"
    labelled = {"labels": {"star.recsys.dev/retrain": "true"}}
    assert world.tells("Namespace", "team", metadata=labelled) == [SCHEDULE]
    going = {**labelled, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert world.tells("Namespace", "team", metadata=going) == [SCHEDULE]
    assert world.deletes("Namespace", "team", metadata=going) == []


def test_a_servers_pods_lead_to_its_users_whatever_other_services_it_has() -> None:
    world = World()
    user = Key("TeacherRun", "ns", "t")
    world.tells("TeacherRun", "t")
    labels = {"labels": {LABEL_SERVER: "llm-1"}}
    world.tells("Service", "llm-1", metadata={**labels, **owned(("TeacherRun", "t"), ("Other", "x"))})
    assert user in world.tells("Service", "llm-1-peers", metadata={**labels, **owned(("Service", "llm-1"))})
    assert world.tells("Pod", "llm-1-abc", metadata=labels) == [user]


def test_a_pod_of_a_group_has_its_server_looked_at_and_a_single_one_has_not() -> None:
    world = World()
    assert world.tells("Pod", "llm-1-abc", metadata={"labels": {LABEL_SERVER: "llm-1"}}) == []
    labels = {LABEL_SERVER: "llm-1", LABEL_GROUP: "0"}
    assert world.tells("Pod", "llm-1-0-w-1", metadata={"labels": labels}) == [Key("LLMServer", "ns", "llm-1")]


def test_an_owned_resource_has_its_owner_looked_at_and_no_namesake_of_that() -> None:
    world = World()
    world.tells("StarDeployment", "live")
    live = Key("StarDeployment", "ns", "live")
    assert live in world.tells("Evaluation", "gate", metadata=owned(("StarDeployment", "live")))
    world.deletes("StarDeployment", "live")
    world.tells("StarDeployment", "live", metadata={"uid": "made-anew"})
    assert live not in world.tells("Evaluation", "gate", metadata=owned(("StarDeployment", "live")))


def test_a_run_that_ended_and_a_sweep_have_what_is_kept_looked_at() -> None:
    world = World()
    assert key_of("ns") not in world.tells("StarPipeline", "weekly", status={"phase": "Running"})
    assert world.tells("StarPipeline", "weekly", status={"phase": "Succeeded"})[-1] == key_of("ns")
    sweep = {"labels": {LABEL_KIND: RETENTION}}
    assert world.tells("Job", "star-retention-sweep", metadata=sweep) == [key_of("ns")]


def test_a_pin_that_comes_or_goes_has_what_is_kept_looked_at() -> None:
    world = World()
    pinned = {"annotations": {"star.recsys.dev/pin": "the paper"}}
    asked = [key_of("ns") in world.tells("SFTJob", "sft", metadata=meta) for meta in ({}, pinned, pinned, {}, {})]
    assert asked == [False, True, False, True, False]


def test_a_watch_that_stopped_delivering_is_behind_a_listing_whatever_writes_were_answered() -> None:
    world = World()
    made = of("SFTJob", "a")
    uid, version = made["metadata"]["uid"], int(made["metadata"]["resourceVersion"])
    world.answers(made)
    assert not world.intake.has_seen(uid, version), "that the API server took it proves no watch"
    world.repeats(made)
    assert world.intake.has_seen(uid, version)
    assert world.intake.has_seen(uid, version - 1), "a later version makes up for an earlier one"
    assert not world.intake.has_seen(uid, version + 1)
    assert not world.intake.has_seen("uid-b", 1), "never delivered at all"


def test_what_is_gone_is_remembered_no_more() -> None:
    world = World()
    kinds = ("SFTJob", "Checkpoint", "RetrainSchedule", "Namespace", "Job", "Service")
    labels = {"labels": {LABEL_SERVER: "llm-1", LABEL_KIND: "sftjob", LABEL_NAME: "x"}}
    for kind in kinds:
        world.tells(kind, "x", metadata=labels)
    lost = of("SFTJob", "lost")
    world.repeats(lost)
    for kind in kinds:
        world.deletes(kind, "x", metadata=labels)
    world.cache.listed("SFTJob", [], next(VERSIONS))  # whose end no watch has told
    assert (len(world.cache), world.cache._slots, world.cache._kinds, world.intake._seen) == (0, {}, {}, {})
