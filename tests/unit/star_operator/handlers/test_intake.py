import time
from typing import Any

from star_contracts.names import LABEL_KIND, LABEL_NAME
from star_operator.api.checkpoint import Checkpoint
from star_operator.api.evaluation import Evaluation
from star_operator.api.meta import Resource
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.api.sftjob import SFTJob
from star_operator.api.stardeployment import StarDeployment
from star_operator.api.starpipeline import StarPipeline
from star_operator.core.labels import (
    LABEL_GROUP,
    LABEL_SCHEDULE,
    LABEL_SERVER,
    OBSERVERS_ANNOTATION,
    RETENTION,
    label_value,
)
from star_operator.core.queue import Key, WorkQueue
from star_operator.handlers.intake import Intake
from star_operator.reconcilers.retention import key_of


class Recorder(WorkQueue):
    """Keeps what was added."""

    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self.added: list[Key] = []

    def add(self, key: Key) -> None:
        self.added.append(key)


def event(name: str, version: int = 1, **changes: Any) -> dict[str, Any]:
    meta = {"uid": f"uid-{name}", "name": name, "namespace": "ns", "resourceVersion": str(version)}
    metadata = {**meta, **changes.pop("metadata", {})}
    return {"type": None, "object": {"metadata": metadata, **changes}}


def test_a_childs_labels_lead_to_its_resource_however_long_its_name() -> None:
    queue = Recorder()
    intake = Intake(queue)
    name = "n" * 100
    intake.resource_event(SFTJob, event(name))
    labels = {LABEL_KIND: "sftjob", LABEL_NAME: label_value(name)}
    queue.added.clear()
    intake.child_event(event("pod", metadata={"labels": labels}, kind="Pod"))
    assert queue.added == [Key("SFTJob", "ns", name)]


def test_what_promotions_wait_for_has_them_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    intake.resource_event(Promotion, event("p"))
    intake.resource_event(PromotionPolicy, event("prod"))
    promotion, policy = Key("Promotion", "ns", "p"), Key("PromotionPolicy", "ns", "prod")
    elsewhere: dict[str, Any] = {"metadata": {"namespace": "other"}}
    watched: tuple[tuple[type[Resource[Any, Any]], set[Key]], ...] = (
        (StarDeployment, {promotion, policy}),
        (Evaluation, {promotion}),
        (StarPipeline, {policy}),
        (SFTJob, set()),
    )
    for kind, wanted in watched:
        queue.added.clear()
        intake.resource_event(kind, event("x"))
        assert {key for key in queue.added if key.name != "x"} == wanted
        queue.added.clear()
        intake.resource_event(kind, event("x", **elsewhere))
        assert {key for key in queue.added if key.name != "x"} == set()


def test_what_serves_elsewhere_has_the_promotions_looked_at_that_it_lets_look() -> None:
    queue = Recorder()
    intake = Intake(queue)
    promotion, policy = Key("Promotion", "ns", "p"), Key("PromotionPolicy", "ns", "prod")
    intake.resource_event(Promotion, event("p"))
    intake.resource_event(PromotionPolicy, event("prod"))
    lets: dict[str, set[Key]] = {"ns": {promotion, policy}, "more, ns,": {promotion, policy}, "n": set(), "": set()}
    for named, woken in lets.items():
        queue.added.clear()
        metadata = {"namespace": "dev", "annotations": {OBSERVERS_ANNOTATION: named}}
        intake.resource_event(StarDeployment, event("live", metadata=metadata))
        assert {key for key in queue.added if key.namespace == "ns"} == woken
        assert [key for key in queue.added if key.namespace == "dev"] == [Key("StarDeployment", "dev", "live")]
    queue.added.clear()
    intake.resource_event(StarDeployment, event("live", metadata={"annotations": {OBSERVERS_ANNOTATION: "ns"}}))
    assert sorted(key.name for key in queue.added) == ["live", "p", "prod"], "its own namespace is told once"


def test_promotions_that_have_ended_or_gone_are_not_woken() -> None:
    queue = Recorder()
    intake = Intake(queue)
    for name, phase in (("open", "Waiting"), ("done", "Succeeded"), ("given-up", "Failed"), ("late", "Running")):
        intake.resource_event(Promotion, event(name, status={"phase": phase}))
    intake.resource_event(Promotion, event("gone"))
    intake.resource_event(Promotion, {**event("gone"), "type": "DELETED"})
    intake.resource_event(Promotion, event("late", status={"phase": "Succeeded"}))
    for kind in (StarDeployment, Evaluation, PromotionPolicy):
        queue.added.clear()
        intake.resource_event(kind, event("x"))
        assert {key.name for key in queue.added if key.kind == "Promotion"} == {"open"}
    queue.added.clear()
    intake.resource_event(Promotion, event("done", status={"phase": "Succeeded"}))
    assert queue.added == [
        Key("Promotion", "ns", "done"),
        Key("Promotion", "ns", "open"),
        Key("PromotionPolicy", "ns", "x"),
    ]
    intake.resource_event(Promotion, event("late"))
    queue.added.clear()
    intake.resource_event(Evaluation, event("x"))
    assert Key("Promotion", "ns", "late") in queue.added, "one of its name that is made anew has not ended"


def test_an_evaluation_that_succeeded_has_the_checkpoints_of_its_namespace_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    intake.resource_event(Checkpoint, event("c"))
    elsewhere: dict[str, Any] = {"metadata": {"namespace": "other"}}
    intake.resource_event(Checkpoint, event("c", **elsewhere))
    for phase, woken in (("Running", []), ("Succeeded", [Key("Checkpoint", "ns", "c")])):
        queue.added.clear()
        intake.resource_event(Evaluation, event("x", status={"phase": phase}))
        assert [key for key in queue.added if key.kind == "Checkpoint"] == woken


def test_an_event_walks_over_nothing_but_who_looks_at_it() -> None:
    intake = Intake(Recorder())
    walked = Walked()
    intake._by_label = walked
    intake.resource_event(SFTJob, event("x"))
    intake.resource_event(Evaluation, event("x", status={"phase": "Succeeded"}))
    intake.namespace_event(cluster_event("team"))
    assert walked.walks == 0


class Walked(dict[tuple[str, str, str], Key]):
    """Counts who goes over all of it."""

    walks = 0

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def test_a_run_that_ends_or_goes_has_its_schedule_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    schedule = Key("RetrainSchedule", "", "weekly")
    intake.resource_event(RetrainSchedule, cluster_event("weekly"))
    labels = {"labels": {LABEL_SCHEDULE: "weekly"}, "ownerReferences": [{"kind": "RetrainSchedule", "name": "weekly"}]}
    cases: tuple[tuple[dict[str, Any], bool], ...] = (
        ({}, False),
        ({"status": {"phase": "Running"}}, False),
        ({"status": {"phase": "Failed"}}, True),
    )
    for changes, told in cases:
        queue.added.clear()
        intake.resource_event(StarPipeline, event("run", metadata=labels, **changes))
        assert (schedule in queue.added) is told
        assert Key("RetrainSchedule", "ns", "weekly") not in queue.added
    queue.added.clear()
    intake.resource_event(StarPipeline, {**event("run", metadata=labels), "type": "DELETED"})
    assert schedule in queue.added


def test_a_namespace_whose_labels_change_has_all_schedules_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    schedule = Key("RetrainSchedule", "", "weekly")
    intake.resource_event(RetrainSchedule, cluster_event("weekly"))
    intake.namespace_event(cluster_event("team"))
    queue.added.clear()
    intake.namespace_event(cluster_event("team"))
    assert queue.added == [], "nothing that matters has changed"
    labelled = cluster_event("team")
    labelled["object"]["metadata"]["labels"] = {"star.recsys.dev/retrain": "true"}
    for following in (labelled, {**labelled, "type": "DELETED"}):
        queue.added.clear()
        intake.namespace_event(following)
        assert queue.added == [schedule]


def cluster_event(name: str) -> dict[str, Any]:
    found = event(name)
    del found["object"]["metadata"]["namespace"]
    return found


def test_a_servers_pods_lead_to_its_users() -> None:
    queue = Recorder()
    intake = Intake(queue)
    owners = [{"kind": "TeacherRun", "name": "t"}, {"kind": "Other", "name": "x"}]
    meta = {"labels": {LABEL_SERVER: "llm-1"}, "ownerReferences": owners}
    intake.child_event(event("llm-1", metadata=meta, kind="Service"))
    queue.added.clear()
    intake.child_event(event("llm-1-abc", metadata={"labels": {LABEL_SERVER: "llm-1"}}, kind="Pod"))
    assert queue.added == [Key("TeacherRun", "ns", "t")]


def test_a_pod_of_a_group_has_its_server_looked_at_and_a_single_one_has_not() -> None:
    queue = Recorder()
    intake = Intake(queue)
    intake.child_event(event("llm-1-abc", metadata={"labels": {LABEL_SERVER: "llm-1"}}, kind="Pod"))
    assert queue.added == []
    labels = {LABEL_SERVER: "llm-1", LABEL_GROUP: "0"}
    intake.child_event(event("llm-1-0-w-1", metadata={"labels": labels}, kind="Pod"))
    assert queue.added == [Key("LLMServer", "ns", "llm-1")]


def test_an_owned_resource_has_its_owner_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    owners = [{"kind": "StarDeployment", "name": "live"}]
    intake.resource_event(Evaluation, event("gate", metadata={"ownerReferences": owners}))
    assert Key("StarDeployment", "ns", "live") in queue.added


def test_a_run_that_ended_and_a_sweep_have_what_is_kept_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    intake.resource_event(StarPipeline, event("weekly", status={"phase": "Running"}))
    assert key_of("ns") not in queue.added
    intake.resource_event(StarPipeline, event("weekly", status={"completionTime": "2026-01-01T00:00:00Z"}))
    assert queue.added[-1] == key_of("ns")
    queue.added.clear()
    intake.child_event(event("star-retention-sweep", metadata={"labels": {LABEL_KIND: RETENTION}}, kind="Job"))
    assert queue.added == [key_of("ns")]


def test_a_pin_that_comes_or_goes_has_what_is_kept_looked_at() -> None:
    queue = Recorder()
    intake = Intake(queue)
    pinned = {"annotations": {"star.recsys.dev/pin": "the paper"}}
    asked = []
    for metadata in ({}, pinned, pinned, {}, {}):
        queue.added.clear()
        intake.resource_event(SFTJob, event("sft", metadata=metadata))
        asked.append(key_of("ns") in queue.added)
    assert asked == [False, True, False, True, False]


def test_a_watch_that_stopped_delivering_is_behind_a_fresh_listing() -> None:
    intake = Intake(Recorder())
    intake.resource_event(SFTJob, event("a", version=5))
    assert intake.has_seen("uid-a", 5)
    assert intake.has_seen("uid-a", 4), "a later version makes up for an earlier one"
    assert not intake.has_seen("uid-a", 6)
    assert not intake.has_seen("uid-b", 1), "never delivered at all"
