"""A roll-out pass by pass, its clock and servers held by the test: what is applied, what is written down, and when."""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from star_operator.core.errors import InvalidSpec, Refused, Retryable, StarError
from star_operator.core.labels import LABEL_COMPONENT, LABEL_SERVER, LEADER
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.policy.rollout import DRAIN
from star_operator.reconcilers.stardeployment import StarDeploymentReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.star import ready_message, star

NAMESPACE, KEY = "team", Key("StarDeployment", "team", "live")
DIGESTS = {"old": "sha256:" + "a" * 64, "new": "sha256:" + "b" * 64}
REPORT = {"uri": "s3://star/report", "digest": "sha256:" + "e" * 64}
STEPS = [{"weight": 20, "pauseSeconds": 60}, {"weight": 50, "pauseSeconds": 60}]


class Mortal(FakeCluster):
    """A cluster that the operator can be cut off from at the worst moment."""

    cut_off = False

    async def apply_status(self, obj: dict[str, Any]) -> dict[str, Any]:
        if self.cut_off:
            raise Retryable("Gone", "the operator died before it wrote this down")
        self.writes.append(f"status {obj['kind']}/{obj['metadata']['name']}")
        return await super().apply_status(obj)


class World:
    """One StarDeployment, two checkpoints, and a kubelet that has every server answer."""

    def __init__(self, **spec: Any) -> None:
        self.cluster = Mortal()
        self.queue = Recorder(time.monotonic)
        self.context = Clock(self.cluster, settings(), self.queue)
        self.reconciler = StarDeploymentReconciler(self.context)
        self.broken: set[str] = set()
        """Checkpoints whose servers do not answer."""
        self.ready: dict[str, int] = {}
        """Checkpoint -> how many of its servers answer, where not all do."""
        data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
        secret = {"name": settings().store.secret_name, "namespace": NAMESPACE}
        self.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
        dataset = star("RecDataset", NAMESPACE, "d", {"source": {"uri": "s3://star/raw", "format": "MovieLens"}})
        artifact = {"uri": "s3://star/d", "digest": "sha256:" + "d" * 64}
        self.cluster.add({**dataset, "status": {"phase": "Succeeded", "artifact": artifact}})
        for name, digest in DIGESTS.items():
            self.cluster.add(star("Checkpoint", NAMESPACE, name, {"uri": f"s3://star/{name}", "digest": digest}))
        common = {"dataset": {"name": "d"}, "checkpoint": {"checkpoint": "old"}, "rollout": {"steps": STEPS}}
        self.cluster.add(star("StarDeployment", NAMESPACE, "live", common | spec))

    def change(self, **spec: Any) -> None:
        """Edit the spec as a user would."""
        self.cluster.objects["StarDeployment", NAMESPACE, "live"]["spec"] |= spec

    def passes(self, count: int = 3, seconds: float = 1) -> None:
        """Reconcile some times, the kubelet between them."""
        for _ in range(count):
            self.kubelet()
            asyncio.run(self.reconciler.reconcile(KEY))
            self.context.time += timedelta(seconds=seconds)

    def dies_in_a_pass(self) -> None:
        """All is applied, nothing is written down; then there is another operator."""
        self.cluster.cut_off = True
        with pytest.raises(Retryable):
            self.passes(1)
        self.cluster.cut_off = False
        self.reconciler = StarDeploymentReconciler(self.context)

    def kubelet(self) -> None:
        """As many pods as a server is to have; the gateway has one that is ready. What is verified holds."""
        for job in self.cluster.of("Job"):
            job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        wanted = set()
        for deployment in self.cluster.of("Deployment"):
            deployment["status"] = {"readyReplicas": 1}
            server = deployment["metadata"]["labels"].get(LABEL_SERVER)
            if server is None:
                continue
            count = deployment["spec"]["replicas"]
            wanted |= {f"{server}-{number}" for number in range(count)}
            ready = sum(self._pod(deployment, server, number) for number in range(count))
            counts = {"replicas": count, "updatedReplicas": count, "readyReplicas": ready}
            deployment["status"] = {"observedGeneration": deployment["metadata"]["generation"], **counts}
        for pod in self.cluster.of("Pod"):
            if pod["metadata"]["name"] not in wanted:
                del self.cluster.objects["Pod", NAMESPACE, pod["metadata"]["name"]]

    def _pod(self, deployment: dict[str, Any], server: str, number: int) -> bool:
        """A server's pod; say whether it is ready."""
        broken = any(DIGESTS[name][7:15] in server for name in self.broken)
        short = next((count for name, count in self.ready.items() if DIGESTS[name][7:15] in server), number + 1)
        ready = not broken and number < short
        own = ("star.recsys.dev/kind", "star.recsys.dev/name")
        labels = {name: deployment["metadata"]["labels"][name] for name in own}
        self.cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{server}-{number}",
                    "namespace": NAMESPACE,
                    "labels": {**labels, LABEL_SERVER: server, LABEL_COMPONENT: LEADER},
                },
                "spec": {"containers": [{"name": "main"}]},
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": str(ready)}],
                },
            }
        )
        return ready

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects["StarDeployment", NAMESPACE, "live"]["status"]
        return found

    @property
    def weights(self) -> dict[str, int]:
        """Checkpoint -> share, by the gateway's configuration."""
        [config] = [obj for obj in self.cluster.of("ConfigMap") if "gateway.json" in obj.get("data", {})]
        backends = json.loads(config["data"]["gateway.json"])["backends"]
        names = {digest: name for name, digest in DIGESTS.items()}
        return {names[one["checkpoint"]]: one["weight"] for one in backends}

    @property
    def servers(self) -> int:
        return sum(LABEL_SERVER in one["metadata"]["labels"] for one in self.cluster.of("Deployment"))

    def gate(self, at_least: float) -> dict[str, Any]:
        """Gates on a figure that the candidates' evaluations have as 0.5."""
        return {"rules": [{"metric": "hrAvg", "value": at_least}], "settings": {"tools": False}}

    def measured(self) -> None:
        """All evaluations have ended."""
        for one in self.cluster.of("Evaluation"):
            one["status"] = {"phase": "Succeeded", "metrics": {"hrAvg": 0.5}, "artifact": REPORT}


@pytest.fixture
def rolling() -> World:
    """Half way: the new checkpoint has the first step's share."""
    world = World()
    world.passes()
    assert world.weights == {"old": 100}
    world.change(checkpoint={"checkpoint": "new"})
    world.passes()
    assert world.weights == {"old": 80, "new": 20}
    return world


def test_a_rollout_goes_through_its_steps_to_one_server(rolling: World) -> None:
    assert rolling.status["servingDigest"] == DIGESTS["old"]
    assert "answers 20% of the users" in ready_message(rolling.status)
    rolling.passes(2, seconds=60)
    assert rolling.weights == {"old": 50, "new": 50}
    rolling.passes(1, seconds=60)
    assert (rolling.weights, rolling.servers) == ({"old": 0, "new": 100}, 2), "until the gateways know"
    rolling.passes(1, seconds=DRAIN.total_seconds())
    assert (rolling.weights, rolling.servers) == ({"new": 100}, 1)
    assert rolling.status["phase"] == "Ready"


def test_a_pass_that_changes_nothing_writes_nothing(rolling: World) -> None:
    rolling.cluster.writes.clear()
    rolling.passes(5)
    assert [write for write in rolling.cluster.writes if write.startswith("status")] == []


def test_a_candidate_that_is_held_back_is_written_down_once() -> None:
    world = World()
    world.passes()
    world.change(checkpoint={"checkpoint": "new"}, gates=world.gate(0.9))
    world.passes()
    world.measured()
    world.passes(2)
    assert world.status["phase"] == "Gated"
    world.cluster.writes.clear()
    world.passes(5)
    assert [write for write in world.cluster.writes if write.startswith("status")] == []


def test_a_step_that_was_taken_and_not_written_down_is_taken_again(rolling: World) -> None:
    rolling.context.time += timedelta(seconds=60)
    rolling.dies_in_a_pass()
    assert rolling.weights == {"old": 50, "new": 50}
    rolling.passes(1)
    assert rolling.weights == {"old": 50, "new": 50}
    rolling.context.time += timedelta(seconds=60)
    rolling.dies_in_a_pass()
    rolling.passes(1, seconds=DRAIN.total_seconds())
    assert (rolling.weights, rolling.servers) == ({"old": 0, "new": 100}, 2)
    rolling.dies_in_a_pass()
    rolling.passes(2)
    assert (rolling.weights, rolling.servers, rolling.status["phase"]) == ({"new": 100}, 1, "Ready")


def test_the_old_checkpoint_is_back_in_one_pass(rolling: World) -> None:
    rolling.change(checkpoint={"checkpoint": "old"})
    rolling.passes(1)
    assert (rolling.weights, rolling.servers) == ({"new": 0, "old": 100}, 2)
    rolling.passes(2, seconds=DRAIN.total_seconds())
    assert (rolling.weights, rolling.servers, rolling.status["phase"]) == ({"old": 100}, 1, "Ready")


def test_a_server_that_stops_answering_gives_its_users_back(rolling: World) -> None:
    rolling.broken.add("new")
    rolling.passes(1)
    assert rolling.weights == {"old": 100, "new": 0}
    assert ready_message(rolling.status).endswith("revision aaaaaaaaaaaa goes on serving")


def test_a_revision_gets_what_its_ready_servers_carry_and_is_ready_with_all_of_them() -> None:
    world = World(server={"replicas": 4}, rollout={"steps": []})
    world.ready["old"] = 1
    world.passes()
    assert (world.weights, world.status["phase"]) == ({"old": 100}, "Degraded")
    said = {one["type"]: one for one in world.status["conditions"]}
    assert (said["Ready"]["status"], said["Ready"]["reason"]) == ("False", "Degraded")
    assert said["Reconciling"]["status"] == "True"
    assert "Stalled" not in said
    assert "1 of 4 servers are ready" in ready_message(world.status)
    assert served(world, "old") == 0, "what is short of servers does not count"
    world.ready["old"] = 4
    world.passes()
    assert world.status["phase"] == "Ready"

    world.ready["new"] = 0
    world.change(checkpoint={"checkpoint": "new"})
    for ready in range(4):
        world.ready["new"] = ready
        world.passes(2, seconds=60)
        assert world.weights == {"old": 100 - 25 * ready, "new": 25 * ready}
        assert world.servers == 2
    assert "3 of 4 servers are ready" in ready_message(world.status)
    world.ready["new"] = 4
    world.passes(1)
    assert (world.weights, world.servers) == ({"old": 0, "new": 100}, 2)
    world.passes(2, seconds=DRAIN.total_seconds())
    assert (world.weights, world.servers, world.status["phase"]) == ({"new": 100}, 1, "Ready")


def test_to_scale_up_half_way_moves_nobody(rolling: World) -> None:
    rolling.ready = {"old": 1, "new": 1}
    rolling.change(server={"replicas": 8})
    rolling.passes()
    assert rolling.weights == {"old": 80, "new": 20}
    rolling.ready = {"old": 1, "new": 8}
    rolling.passes()
    assert rolling.weights == {"old": 80, "new": 20}
    rolling.ready = {"old": 8, "new": 1}
    rolling.passes()
    assert rolling.weights == {"old": 88, "new": 12}, "by now eight carry everything"


def test_gates_that_are_tightened_half_way_take_the_candidate_back() -> None:
    world = World(gates=None)
    world.change(gates=world.gate(0.4))
    world.passes(1)
    world.measured()
    world.passes()
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(1)
    world.measured()
    world.passes()
    assert world.weights == {"old": 80, "new": 20}
    world.change(gates=world.gate(0.9))
    world.passes(1)
    assert (world.weights, world.servers) == ({"new": 0, "old": 100}, 2)
    gates = {one["digest"]: one["gate"] for one in world.status["revisions"]}
    assert gates[DIGESTS["new"]] == "Failed"
    world.passes(2, seconds=DRAIN.total_seconds())
    assert (world.weights, world.servers, world.status["phase"]) == ({"old": 100}, 1, "Gated")


class TestGatesAgainstAnotherRun:
    GATES = {"rules": [{"metric": "against.ciLow", "value": 0}], "against": {"evaluation": "last"}}
    LAST = {"dataset": {"name": "d"}, "settings": {"tools": False}}

    def world(self) -> World:
        world = World(gates=self.GATES | {"settings": {"tools": False}})
        world.cluster.add(star("Evaluation", NAMESPACE, "last", self.LAST))
        world.passes(1)
        return world

    def gates(self, world: World) -> list[str]:
        return [one["metadata"]["name"] for one in world.cluster.of("Evaluation") if "gate" in one["metadata"]["name"]]

    def test_a_run_made_anew_under_its_name_is_compared_with_anew(self) -> None:
        world = self.world()
        world.passes(2)
        assert len(self.gates(world)) == 1
        del world.cluster.objects["Evaluation", NAMESPACE, "last"]
        world.cluster.add(star("Evaluation", NAMESPACE, "last", self.LAST))
        world.passes(2)
        assert len(self.gates(world)) == 2

    def test_a_run_that_is_gone_does_not_undo_what_has_passed(self) -> None:
        world = self.world()
        [name] = self.gates(world)
        metrics = {"against.ciLow": 0.1}
        world.cluster.objects["Evaluation", NAMESPACE, name]["status"] = {
            "phase": "Succeeded",
            "metrics": metrics,
            "artifact": REPORT,
        }
        world.passes(4)
        assert world.status["phase"] == "Ready"
        del world.cluster.objects["Evaluation", NAMESPACE, "last"]
        world.passes(4)
        assert world.status["phase"] == "Ready"
        assert self.gates(world) == [name]


def served(world: World, name: str, weight: int = 100) -> int:
    """Seconds that a checkpoint has served with a share."""
    rows = world.status["served"]
    return sum(row["seconds"] for row in rows if row["digest"] == DIGESTS[name] and row["weight"] == weight)


def test_what_serves_is_counted_and_remembered() -> None:
    world = World(rollout={"steps": []})
    world.passes(5, seconds=100)
    before = served(world, "old")
    assert 0 < before <= 500
    world.reconciler = StarDeploymentReconciler(world.context)
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(6, seconds=100)
    assert served(world, "old") >= before
    assert served(world, "new") > 0


def test_time_without_servers_and_time_suspended_do_not_count() -> None:
    world = World()
    world.passes(4, seconds=100)
    world.broken = {"old"}
    world.passes(2, seconds=100)
    stopped = served(world, "old")
    world.passes(5, seconds=100)
    assert served(world, "old") == stopped
    world.broken = set()
    world.passes(4, seconds=100)
    again = served(world, "old")
    assert again > stopped
    world.change(suspend=True)
    world.passes(4, seconds=100)
    assert served(world, "old") == again
    assert not any(row["serving"] for row in world.status["served"])


def test_the_shares_of_a_roll_out_are_counted_apart() -> None:
    world = World()
    world.passes(3, seconds=1)
    world.change(checkpoint={"checkpoint": "new"})
    world.passes(12, seconds=30)
    assert {row["weight"] for row in world.status["served"] if row["digest"] == DIGESTS["new"]} == {20, 50, 100}


class TestARolledBackPin:
    """The commit that pinned the new checkpoint is reverted, wherever its roll-out is: the incumbent stays for good."""

    def served(self) -> World:
        world = World(gates=None)
        world.change(gates=world.gate(0.4))
        world.passes(1)
        world.measured()
        world.passes()
        assert (world.weights, world.status["phase"]) == ({"old": 100}, "Ready")
        return world

    def stays(self, world: World) -> None:
        """Nothing is measured, moved or written from now on, whatever time passes."""
        world.passes(2, seconds=DRAIN.total_seconds())
        evaluations = {one["metadata"]["uid"] for one in world.cluster.of("Evaluation")}
        world.cluster.writes.clear()
        before = {**world.status, "served": None}
        world.passes(20, seconds=3600)
        assert (world.weights, world.servers, world.status["phase"]) == ({"old": 100}, 1, "Ready")
        assert {**world.status, "served": None} == before
        assert {one["metadata"]["uid"] for one in world.cluster.of("Evaluation")} == evaluations
        assert [write for write in world.cluster.writes if write.startswith("delete")] == []
        assert [write for write in world.cluster.writes if "Evaluation" in write] == []
        assert [one["digest"] for one in world.status["revisions"]] == [DIGESTS["old"]]

    @pytest.mark.parametrize("steps", [0, 1, 2, 3])
    def test_half_way(self, steps: int) -> None:
        world = self.served()
        world.change(checkpoint={"checkpoint": "new"})
        world.passes(1)
        world.measured()
        world.passes(3 + steps, seconds=60)
        reached = world.weights["new"]
        assert reached > 0
        world.change(checkpoint={"checkpoint": "old"})
        world.passes(1)
        assert reached == 100 or world.weights["old"] == 100, "one that has everything is taken over from by steps"
        world.passes(6, seconds=60)
        self.stays(world)

    def test_while_it_is_measured(self) -> None:
        world = self.served()
        world.change(checkpoint={"checkpoint": "new"})
        world.passes(2)
        assert len(world.cluster.of("Evaluation")) == 2
        world.change(checkpoint={"checkpoint": "old"})
        world.passes(1)
        assert (world.weights, world.status["phase"]) == ({"old": 100}, "Ready")
        assert len(world.cluster.of("Evaluation")) == 1, "what nobody asks for is not measured to its end"
        self.stays(world)

    def test_after_it_had_failed_its_gates(self) -> None:
        world = self.served()
        world.change(checkpoint={"checkpoint": "new"})
        world.passes(2)
        bad = next(one for one in world.cluster.of("Evaluation") if "phase" not in one.get("status", {}))
        bad["status"] = {"phase": "Succeeded", "metrics": {"hrAvg": 0.1}}
        world.passes(2)
        assert (world.weights, world.status["phase"]) == ({"old": 100}, "Gated")
        world.change(checkpoint={"checkpoint": "old"})
        self.stays(world)
        assert len(world.cluster.of("Evaluation")) == 2, "what was measured stays known"

    def test_and_an_operator_that_dies_in_between(self) -> None:
        world = self.served()
        world.change(checkpoint={"checkpoint": "new"})
        world.passes(2)
        world.change(checkpoint={"checkpoint": "old"})
        world.dies_in_a_pass()
        world.passes(1)
        self.stays(world)


def test_what_somebody_has_changed_by_hand_is_put_right_and_told(rolling: World) -> None:
    name = next(one["metadata"]["name"] for one in rolling.cluster.of("Deployment"))
    rolling.cluster.taken[f"Deployment/{name}"] = (".spec.replicas", ".spec.template.spec.containers")
    rolling.cluster.writes.clear()
    rolling.passes(1)
    assert f"apply Deployment/{name}" in rolling.cluster.writes
    [event] = [one for one in rolling.cluster.of("Event") if one["reason"] == "DriftCorrected"]
    assert event["type"] == "Warning"
    assert event["message"] == (
        f"Deployment {name}: kubectl-edit had changed .spec.replicas, .spec.template.spec.containers; "
        "it is as this resource says again"
    )
    rolling.passes(3)
    assert len([one for one in rolling.cluster.of("Event") if one["reason"] == "DriftCorrected"]) == 1


class Refusing(Mortal):
    """A cluster that makes no Job."""

    error: StarError | None = None

    async def apply(self, obj: dict[str, Any], *, manager: str = "") -> dict[str, Any]:
        if self.error is not None and obj["kind"] == "Job":
            raise self.error
        return await super().apply(obj, manager=manager)


class TestVerificationThatCannotRun:
    """What serves is looked after meanwhile; what is new is held back, and told."""

    @pytest.fixture
    def world(self) -> World:
        """It serves, verified with a key of a ConfigMap."""
        keys = [{"name": "ours", "configMapKeyRef": {"name": "keys", "key": "ours.pem"}}]
        world = World(requireSignatures={"keys": keys})
        refusing = Refusing()
        refusing.objects = world.cluster.objects
        world.cluster = world.context.cluster = refusing
        world.reconciler = StarDeploymentReconciler(world.context)
        world.reconciler = StarDeploymentReconciler(world.context)
        condition = {"type": "Attested", "status": "False", "reason": "InvalidKey", "message": "no key"}
        said = {**condition, "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for name in DIGESTS:
            refusing.objects["Checkpoint", NAMESPACE, name]["status"] = {"conditions": [said]}
        meta = {"name": "keys", "namespace": NAMESPACE}
        pem = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
        refusing.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"ours.pem": pem}})
        world.passes(6)
        assert world.status["phase"] == "Ready"
        return world

    def replicas(self, world: World) -> list[int]:
        return [
            one["spec"]["replicas"]
            for one in world.cluster.of("Deployment")
            if LABEL_SERVER in one["metadata"]["labels"]
        ]

    def looks_after_what_serves(self, world: World) -> None:
        before = served(world, "old")
        world.change(server={"replicas": 3})
        world.passes(3, seconds=100)
        assert self.replicas(world) == [3]
        assert served(world, "old") > before
        assert KEY in world.context.waiting[NAMESPACE]

    def test_a_key_that_goes_does_not_stop_what_it_verified(self, world: World) -> None:
        del world.cluster.objects["ConfigMap", NAMESPACE, "keys"]
        self.looks_after_what_serves(world)
        assert world.status["phase"] == "Ready"
        assert "cannot be verified: spec.requireSignatures.keys[0]" in ready_message(world.status)
        world.change(suspend=True)
        world.passes(1)
        assert world.status["phase"] == "Suspended"
        assert self.replicas(world) == [0]

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (Refused(ConditionReason.REFUSED, "exceeded quota: jobs"), "Refused"),
            (InvalidSpec(ConditionReason.INVALID_OBJECT, "exceeded quota: jobs"), "InvalidObject"),
        ],
    )
    def test_a_candidate_is_held_back_and_told(self, world: World, error: StarError, reason: str) -> None:
        assert isinstance(world.cluster, Refusing)
        world.cluster.error = error
        world.change(checkpoint={"checkpoint": "new"})
        self.looks_after_what_serves(world)
        [said] = [one for one in world.status["conditions"] if one["type"] == "Ready"]
        assert said["reason"] == reason
        assert "exceeded quota: jobs" in said["message"]
        assert said["message"].endswith("revision aaaaaaaaaaaa goes on serving")
        assert world.queue.later == 60
        world.cluster.error = None
        world.passes(4)
        assert world.weights["new"] > 0

    def test_a_secret_that_goes_holds_back_the_candidate_alone(self, world: World) -> None:
        del world.cluster.objects["Secret", NAMESPACE, settings().store.secret_name]
        world.change(checkpoint={"checkpoint": "new"})
        self.looks_after_what_serves(world)
        assert "cannot be verified" in ready_message(world.status)
        assert world.weights == {"old": 100}

    @pytest.mark.bad_input
    def test_where_nothing_serves_it_waits(self) -> None:
        keys = [{"name": "ours", "configMapKeyRef": {"name": "keys", "key": "ours.pem"}}]
        world = World(requireSignatures={"keys": keys}, checkpoint={"uri": "s3://star/x", "digest": DIGESTS["old"]})
        world.passes(1)
        assert (world.status["phase"], world.servers) == ("Waiting", 0)
