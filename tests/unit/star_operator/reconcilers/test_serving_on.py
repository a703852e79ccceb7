"""What serves has all that it needs pinned, and believes only what was measured for it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from star_operator.core.errors import InvalidSpec
from star_operator.core.labels import LABEL_SERVER
from star_operator.core.reasons import ConditionReason
from star_operator.policy.rollout import DRAIN
from star_operator.reconcilers.context import UNWATCHED_SECONDS
from star_operator.reconcilers.gate import in_its_fields
from star_operator.reconcilers.stardeployment import StarDeploymentReconciler
from tests.support.fakecluster import FakeCluster
from tests.support.star import ready_message
from tests.unit.star_operator.reconcilers.test_stardeployment import DIGESTS, NAMESPACE, World

PLACE = ("StarDeployment", NAMESPACE, "live")


def gated() -> World:
    """It serves `old`, which has passed its gates."""
    world = World(gates=None)
    world.change(gates=world.gate(0.4))
    world.passes(1)
    world.measured()
    world.passes()
    assert (world.weights, world.status["phase"]) == ({"old": 100}, "Ready")
    return world


def forget(world: World, *kinds: str) -> None:
    """Somebody deletes all resources of these kinds."""
    for place in [place for place in world.cluster.objects if place[0] in kinds]:
        del world.cluster.objects[place]


def replicas(world: World) -> list[int]:
    servers = [one for one in world.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"]]
    return [one["spec"]["replicas"] for one in servers]


def dataset_told(world: World) -> str:
    [config] = [obj for obj in world.cluster.of("ConfigMap") if "gateway.json" in obj.get("data", {})]
    digest: str = json.loads(config["data"]["gateway.json"])["dataset"]["digest"]
    return digest


@pytest.mark.parametrize("make", [gated, World])
def test_what_serves_needs_no_record_of_its_training(make: Callable[[], World]) -> None:
    world = make()
    world.passes()
    forget(world, "RecDataset", "Checkpoint", "SFTJob", "TeacherRun")
    told = dataset_told(world)
    world.change(server={"replicas": 3})
    world.passes()
    assert (replicas(world), world.status["phase"], dataset_told(world)) == ([3], "Ready", told)
    assert "it goes on as it began: spec.dataset names RecDataset d, which does not exist" in ready_message(
        world.status
    )
    world.change(suspend=True)
    world.passes(2)
    assert (replicas(world), world.status["phase"]) == ([0], "Suspended")
    world.change(suspend=False)
    world.passes()
    assert world.status["phase"] == "Ready"


def test_a_dataset_that_is_made_anew_takes_over_when_it_is_there_and_was_measured_on() -> None:
    world = gated()
    told = dataset_told(world)
    dataset = world.cluster.objects["RecDataset", NAMESPACE, "d"]
    dataset["metadata"]["uid"], dataset["status"] = "another", {"phase": "Running"}
    world.passes()
    assert (world.status["phase"], dataset_told(world)) == ("Ready", told)
    assert "it goes on as it began: spec.dataset: RecDataset d is Running" in ready_message(world.status)
    artifact = {"uri": "s3://star/d2", "digest": "sha256:" + "2" * 64}
    dataset["status"] = {"phase": "Succeeded", "artifact": artifact}
    world.passes()
    assert len(world.cluster.of("Evaluation")) == 2
    world.measured()
    world.passes()
    assert (world.status["phase"], dataset_told(world)) == ("Ready", artifact["digest"])
    assert [(row["uid"], row["digest"]) for row in world.status["inputs"]] == [("another", artifact["digest"])]


def test_a_roll_out_is_aborted_and_rolled_back_though_the_records_are_gone() -> None:
    world = gated()
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(1)
    world.measured()
    world.passes(3)
    assert world.weights == {"old": 80, "new": 20}
    forget(world, "RecDataset", "Checkpoint")
    world.change(checkpoint={"checkpoint": "old"})
    world.passes(1)
    assert world.weights["old"] == 100, "aborted"
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(12, seconds=60)
    assert (world.weights, world.status["phase"]) == ({"new": 100}, "Ready"), "and gone on with"
    world.change(checkpoint={"checkpoint": "old"})
    world.passes(12, seconds=60)
    assert (world.weights, world.status["phase"]) == ({"old": 100}, "Ready"), "rolled back to what is history by now"
    assert len(world.cluster.of("Evaluation")) == 2, "nothing is measured twice"


def test_a_revision_that_passed_is_not_measured_again_where_it_cannot_be() -> None:
    world = gated()
    forget(world, "RecDataset", "Evaluation")
    world.passes(3)
    assert (world.weights, world.status["phase"]) == ({"old": 100}, "Ready")
    assert world.cluster.of("Evaluation") == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("checkpoint", "phase", "reason"),
    [
        ({"checkpoint": "lost"}, "Waiting", "InputMissing"),
        ({"checkpoint": "new", "digest": DIGESTS["old"]}, "Failed", "DigestMismatch"),
        ({"uri": "hf://org/name"}, "Failed", "NotPinned"),
    ],
)
def test_a_reference_that_stands_for_nothing_leaves_what_serves_alone(
    checkpoint: dict[str, Any], phase: str, reason: str
) -> None:
    world = gated()
    world.change(checkpoint=checkpoint, server={"replicas": 2})
    world.passes()
    [ready] = [one for one in world.status["conditions"] if one["type"] == "Ready"]
    assert (world.status["phase"], ready["reason"], replicas(world)) == (phase, reason, [2])
    assert ready["message"].endswith(f"; revision {DIGESTS['old'][7:19]} goes on serving")
    world.change(suspend=True)
    world.passes(1)
    assert replicas(world) == [0]
    world.change(suspend=False, checkpoint={"checkpoint": "old"})
    world.passes()
    assert world.status["phase"] == "Ready"


def test_a_reference_that_comes_to_stand_for_nothing_half_way_gives_everything_to_the_one_before() -> None:
    world = World()
    world.passes()
    world.change(checkpoint={"checkpoint": "new"})
    world.passes()
    assert world.weights == {"old": 80, "new": 20}
    world.change(checkpoint={"checkpoint": "lost"})
    world.passes(1)
    assert world.weights["old"] == 100
    world.passes(2, seconds=DRAIN.total_seconds())
    assert (world.weights, world.servers) == ({"old": 100}, 1)


@pytest.mark.bad_input
def test_a_dataset_that_is_named_anew_and_is_not_there_is_waited_for() -> None:
    world = gated()
    told = dataset_told(world)
    world.change(dataset={"name": "later"}, server={"replicas": 2})
    world.passes()
    assert (world.status["phase"], replicas(world), dataset_told(world)) == ("Waiting", [2], told)
    assert "spec.dataset names RecDataset later, which does not exist" in ready_message(world.status)


def test_a_status_of_before_knows_what_the_gateway_was_told() -> None:
    world = World()
    world.passes()
    world.status["inputs"] = []
    for row in (*world.status["revisions"], *world.status["served"]):
        row.pop("checkpoint")
    forget(world, "RecDataset")
    world.change(server={"replicas": 2})
    world.passes()
    assert (world.status["phase"], replicas(world)) == ("Ready", [2])


def test_what_was_never_served_waits_as_ever() -> None:
    world = World()
    forget(world, "RecDataset")
    world.passes()
    assert (world.status["phase"], world.cluster.of("Deployment")) == ("Waiting", [])


class TestAnEvaluationOfOthers:
    """A name proves nothing."""

    @pytest.fixture
    def world(self) -> World:
        world = World(gates=None)
        world.change(gates=world.gate(0.4))
        world.passes(1)
        return world

    def taken(self, world: World) -> None:
        world.measured()
        world.passes(3)
        assert world.cluster.of("Deployment") == []
        [ready] = [one for one in world.status["conditions"] if one["type"] == "Ready"]
        assert (ready["reason"], world.status["phase"]) == ("NameTaken", "Running")
        assert "is not of this StarDeployment, so what it says does not count" in ready["message"]
        assert world.queue.later == UNWATCHED_SECONDS

    def test_of_a_deployment_of_the_name_that_is_gone(self, world: World) -> None:
        [evaluation] = world.cluster.of("Evaluation")
        evaluation["metadata"]["ownerReferences"][0]["uid"] = "the-one-before"
        self.taken(world)
        del world.cluster.objects["Evaluation", NAMESPACE, evaluation["metadata"]["name"]]
        world.passes(1)
        world.measured()
        world.passes(3)
        assert world.status["phase"] == "Ready"

    def test_of_nobody(self, world: World) -> None:
        [evaluation] = world.cluster.of("Evaluation")
        del evaluation["metadata"]["ownerReferences"]
        self.taken(world)

    @pytest.mark.parametrize(
        "change",
        [
            {"llm": {"server": {"model": {"uri": "s3://star/new", "digest": DIGESTS["new"]}}}},
            {"settings": {"tools": False, "samples": 1}},
        ],
    )
    def test_of_something_else(self, world: World, change: dict[str, Any]) -> None:
        [evaluation] = world.cluster.of("Evaluation")
        evaluation["spec"] |= change
        self.taken(world)

    def test_it_is_not_deleted_with_a_candidate(self, world: World) -> None:
        [evaluation] = world.cluster.of("Evaluation")
        evaluation["metadata"]["ownerReferences"][0]["uid"] = "the-one-before"
        world.change(checkpoint={"checkpoint": "new"})
        world.passes(2)
        assert evaluation["metadata"]["name"] in {one["metadata"]["name"] for one in world.cluster.of("Evaluation")}


def test_servers_of_others_with_the_same_labels_are_left_alone() -> None:
    world = World()
    world.passes()
    [mine] = [one for one in world.cluster.of("Deployment") if LABEL_SERVER in one["metadata"]["labels"]]
    other = {**mine, "metadata": {**mine["metadata"], "name": "copy", "uid": "copy", "ownerReferences": []}}
    world.cluster.add(other)
    world.passes(2)
    assert ("Deployment", NAMESPACE, "copy") in world.cluster.objects


@pytest.mark.bad_input
class TestFieldsAreThoseOfTheDeployment:
    @pytest.mark.parametrize(
        ("of_the_evaluation", "of_the_deployment"),
        [
            ("spec.settings.samples: must be 1 or more", "spec.gates.settings.samples: must be 1 or more"),
            ("spec.llm.server.compute.pool is 'x'", "spec.server.compute.pool is 'x'"),
            ("spec.compute.pool is 'x'; spec.dataset", "spec.gates.compute.pool is 'x'; spec.dataset"),
            ("spec.against.teacherRun names TeacherRun t", "spec.gates.against.teacherRun names TeacherRun t"),
            ("set settings.tools to false", "set gates.settings.tools to false"),
            ("spec.gates.settings.tools, spec.server.compute", "spec.gates.settings.tools, spec.server.compute"),
        ],
    )
    def test_in_words(self, of_the_evaluation: str, of_the_deployment: str) -> None:
        assert in_its_fields(of_the_evaluation) == of_the_deployment

    def test_of_an_evaluation_that_failed(self) -> None:
        world = World(gates=None)
        world.change(gates=world.gate(0.4))
        world.passes(1)
        text = "spec.compute.pool is 'h200', which is not among the pools (cpu, h20)"
        said = {"type": "Ready", "status": "False", "reason": "UnknownPool", "message": text}
        [evaluation] = world.cluster.of("Evaluation")
        evaluation["status"] = {"phase": "Failed", "conditions": [said]}
        world.passes(1)
        assert "failed: spec.gates.compute.pool is 'h200'" in ready_message(world.status)

    def test_of_one_that_the_api_server_does_not_take(self) -> None:
        class Strict(FakeCluster):
            async def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
                raise InvalidSpec(ConditionReason.INVALID_OBJECT, "spec.settings.samples: should be at most 64")

        world = World(gates=None)
        world.change(gates=world.gate(0.4))
        strict = Strict()
        strict.objects = world.cluster.objects
        world.context.cluster = strict
        world.reconciler = StarDeploymentReconciler(world.context)
        world.passes(1)
        assert world.status["phase"] == "Failed"
        assert ready_message(world.status) == "spec.gates.settings.samples: should be at most 64"
