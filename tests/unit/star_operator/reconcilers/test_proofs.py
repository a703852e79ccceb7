"""A Checkpoint's proof: written once for equal facts, again when verdicts change, and told of in its status."""

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.proofs import AttestSpec, PublicKey
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.core.errors import Refused, Retryable, StarError
from star_operator.core.labels import ATTEST_ANNOTATION
from star_operator.core.queue import Key
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import ProofSettings, Settings
from star_operator.core.turns import Turns
from star_operator.kube.resources import JOB
from star_operator.policy.verification import AGAIN
from star_operator.reconcilers.checkpoint import CheckpointReconciler
from star_operator.reconcilers.context import PROOFS_EACH
from star_operator.reconcilers.proofs import REFUSED_SECONDS
from star_operator.reconcilers.stardeployment import StarDeploymentReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.fakekubelet import attested
from tests.support.goldens import settings
from tests.support.star import ready_message, star

NAMESPACE = "team"
CHECKPOINT, DATASET, REPORT = ("sha256:" + digit * 64 for digit in "abc")
PEM = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
DENIED = JobError(error_class=ErrorClass.TERMINAL, reason=Reason.PROOF_ALTERED, message="sha256:1 is not sha256:2")


class World:
    """A training job with its Checkpoint, and a kubelet for small Jobs."""

    def __init__(self, proofs: ProofSettings | None = None, cluster: FakeCluster | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        found: Settings = settings().model_copy(update={"proofs": proofs or ProofSettings()})
        self.queue = Recorder(time.monotonic)
        self.context = Clock(self.cluster, found, self.queue)
        self.checkpoints = CheckpointReconciler(self.context)
        self.deployments = StarDeploymentReconciler(self.context)
        self.answers: dict[str, JobResult] = {}
        """By step, where a Job's answer is not the usual one."""
        self.side_car = False
        """A container that others add to pods, and that never ends."""
        data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
        secret = {"name": found.store.secret_name, "namespace": NAMESPACE}
        self.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
        made = {"phase": "Succeeded", "artifact": {"uri": "s3://star/d", "digest": DATASET}}
        dataset = star("RecDataset", NAMESPACE, "d", {"source": {"uri": "s3://star/raw", "format": "MovieLens"}})
        self.cluster.add({**dataset, "status": made})
        teacher = star("TeacherRun", NAMESPACE, "t", {"dataset": {"name": "d"}, "llm": self.llm("base")})
        self.cluster.add(
            {**teacher, "status": {"phase": "Succeeded", "artifact": {"uri": "s3://star/t", "digest": DATASET}}}
        )
        spec = {"trajectories": {"name": "t"}, "model": {"uri": "hf://org/model"}, "hyperparameters": {"seed": 7}}
        self.trainer = self.cluster.add(star("SFTJob", NAMESPACE, "student", spec))
        lineage = {"producerKind": "SFTJob", "producerName": "student", "producerUid": self.trainer["metadata"]["uid"]}
        record = {"uri": "s3://star/student", "digest": CHECKPOINT, "lineage": lineage}
        self.cluster.add(star("Checkpoint", NAMESPACE, "student", record))

    @staticmethod
    def llm(checkpoint: str) -> dict[str, Any]:
        return {"server": {"model": {"checkpoint": checkpoint}}}

    def evaluate(self, name: str, digest: str = REPORT) -> None:
        spec = {"dataset": {"name": "d"}, "llm": self.llm("student"), "settings": {"tools": False}}
        artifact = {"uri": f"s3://star/{name}", "digest": digest}
        status = {"phase": "Succeeded", "artifact": artifact, "metrics": {"hrAvg": 0.5}}
        self.cluster.add({**star("Evaluation", NAMESPACE, name, spec), "status": status})

    def passes(self, count: int = 3) -> None:
        for _ in range(count):
            self.kubelet()
            asyncio.run(self.checkpoints.reconcile(Key("Checkpoint", NAMESPACE, "student")))

    def serve(self, count: int = 3) -> None:
        for _ in range(count):
            self.kubelet()
            asyncio.run(self.deployments.reconcile(Key("StarDeployment", NAMESPACE, "live")))

    def kubelet(self) -> None:
        """Small Jobs end, each with a pod that says how."""
        for job in self.cluster.of("Job"):
            if job["spec"].get("parallelism") == 0:  # the Job controller takes its pods away
                self.cluster.objects.pop(("Pod", NAMESPACE, f"{job['metadata']['name']}-x"), None)
            if "status" in job or "parallelism" in job["spec"]:
                continue
            meta = job["metadata"]
            step = meta["labels"]["star.recsys.dev/step"]
            text = self.cluster.objects["ConfigMap", NAMESPACE, meta["name"]]["data"][f"{step}.json"]
            usual = attested(AttestSpec.model_validate_json(text)) if step == "attest" else JobResult()
            result = self.answers.get(step, usual)
            ended = "Complete" if result.error is None else "Failed"
            if not self.side_car:
                job["status"] = {"conditions": [{"type": ended, "status": "True"}]}
            beside = [{"name": "mesh", "state": {"running": {}}}] if self.side_car else []
            state = {
                "exitCode": int(result.exit_code()),
                "message": result.termination_message(),
                "finishedAt": "2026-01-01T00:00:00Z",
            }
            labels = meta["labels"] | {"batch.kubernetes.io/job-name": meta["name"]}
            self.cluster.add(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{meta['name']}-x", "namespace": NAMESPACE, "labels": labels},
                    "spec": {"containers": [{"name": "main"}]},
                    "status": {
                        "phase": "Running" if self.side_car else "Succeeded",
                        "containerStatuses": [{"name": "main", "state": {"terminated": state}}, *beside],
                    },
                }
            )

    def forget_jobs(self) -> None:
        """An hour passes: the cluster removes Jobs that have ended."""
        for job in self.cluster.of("Job"):
            asyncio.run(self.cluster.delete(JOB, NAMESPACE, job["metadata"]["name"]))

    @property
    def jobs(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.cluster.of("Job")]

    def told(self, step: str) -> dict[str, Any]:
        """What the one Job of a step is told."""
        [text] = [obj["data"][f"{step}.json"] for obj in self.cluster.of("ConfigMap") if f"{step}.json" in obj["data"]]
        found: dict[str, Any] = json.loads(text)
        return found

    def status(self, kind: str = "Checkpoint", name: str = "student") -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[kind, NAMESPACE, name]["status"]
        return found

    def condition(self) -> tuple[str, str, str]:
        [found] = [one for one in self.status()["conditions"] if one["type"] == "Attested"]
        return found["status"], found["reason"], found["message"]


def test_a_checkpoint_is_attested_when_it_appears() -> None:
    world = World()
    world.passes(1)
    assert world.condition()[:2] == ("False", "Attesting")
    assert world.status()["phase"] == "Ready", "it can be used meanwhile"
    world.passes(1)
    assert world.condition()[:2] == ("True", "Attested")
    proofs = world.status()["proofs"]
    assert proofs["uri"].startswith("s3://star/student.proofs/")
    assert proofs["card"] == {"uri": f"{proofs['uri']}/card.md", "digest": value_hash("card.md")}
    assert "signature" not in proofs


@pytest.mark.case("side-car")
def test_a_side_car_keeps_no_proof_from_being_written_down() -> None:
    world = World()
    world.side_car = True
    world.passes(4)
    assert world.condition()[:2] == ("True", "Attested")
    assert world.status()["proofs"]["uri"].startswith("s3://star/student.proofs/")
    assert world.jobs == [], "it would never end"


def test_equal_facts_start_no_second_job() -> None:
    world = World()
    world.passes()
    world.cluster.writes.clear()
    world.passes(5)
    assert world.cluster.writes == []


def test_a_verdict_is_another_proof_and_the_earlier_one_is_named() -> None:
    world = World()
    world.passes()
    before = world.status()["proofs"]
    world.evaluate("first")
    world.passes(1)
    assert len(world.jobs) == 1, "the one before is gone"
    later = world.told("attest")
    world.passes(1)
    after = world.status()["proofs"]
    assert after["facts"] != before["facts"]
    assert later["previous"] == {"uri": before["uri"], "digest": before["digest"]}
    assert later["measured"] == [{"evaluation": "first", "report": {"uri": "s3://star/first", "digest": REPORT}}]


def test_the_job_is_told_of_the_training_and_of_what_it_was_made_from() -> None:
    world = World()
    world.passes(1)
    told = world.told("attest")
    assert [(one["kind"], one["name"]) for one in told["madeBy"]] == [
        ("SFTJob", "student"),
        ("TeacherRun", "t"),
        ("RecDataset", "d"),
    ]
    assert told["madeBy"][0]["parameters"]["hyperparameters"]["seed"] == 7


def test_a_training_job_created_anew_is_not_told_of() -> None:
    world = World()
    world.cluster.objects["SFTJob", NAMESPACE, "student"]["metadata"]["uid"] = "another"
    world.passes(1)
    assert world.told("attest")["madeBy"] == []


def test_the_digest_of_an_image_is_the_kubelets() -> None:
    world = World()
    labels = {"star.recsys.dev/kind": "sftjob", "star.recsys.dev/name": "student", "star.recsys.dev/step": "train"}
    image = "registry.example/trainer@sha256:" + "9" * 64
    world.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": NAMESPACE, "labels": labels},
            "spec": {"containers": [{"name": "main", "image": "registry.example/trainer:1"}]},
            "status": {"containerStatuses": [{"name": "main", "imageID": f"docker-pullable://{image}"}]},
        }
    )
    world.passes(1)
    assert world.told("attest")["madeBy"][0]["images"] == {"train": "registry.example/trainer:1@sha256:" + "9" * 64}


def test_an_annotation_has_it_made_anew() -> None:
    world = World()
    world.passes()
    before = world.status()["proofs"]["facts"]
    world.cluster.objects["Checkpoint", NAMESPACE, "student"]["metadata"]["annotations"] = {
        ATTEST_ANNOTATION: "new key"
    }
    world.passes()
    assert world.status()["proofs"]["facts"] != before


def test_the_key_is_mounted_where_it_is_there_and_never_an_argument() -> None:
    world = World(ProofSettings(signing_secret_name="star-signing"))
    world.passes(1)
    [job] = world.cluster.of("Job")
    pod = job["spec"]["template"]["spec"]
    [volume] = [one for one in pod["volumes"] if one["name"] == "star"]
    secrets = [one["secret"] for one in volume["projected"]["sources"] if "secret" in one]
    assert [(one["name"], one["optional"]) for one in secrets] == [("star-signing", True)] * 2
    assert world.told("attest")["keyFile"] == "/etc/star/keys/signing.key"
    assert pod["automountServiceAccountToken"] is False


def test_proofs_can_be_switched_off() -> None:
    world = World(ProofSettings(enabled=False))
    world.passes()
    assert world.jobs == []
    assert [one["type"] for one in world.status()["conditions"]] == ["Ready"]


@pytest.mark.bad_input
def test_what_cannot_be_written_is_told_and_the_checkpoint_stays_usable() -> None:
    world = World()
    error = JobError(error_class=ErrorClass.TERMINAL, reason=Reason.INVALID_KEY, message="signing.key is no key")
    world.answers["attest"] = JobResult(error=error)
    world.passes()
    assert world.condition()[:2] == ("False", "InvalidKey")
    assert "signing.key is no key" in world.condition()[2]
    assert world.status()["phase"] == "Ready"


@pytest.mark.bad_input
def test_an_answer_of_another_place_is_not_taken() -> None:
    world = World()
    world.passes(1)
    other = attested(AttestSpec.model_validate(world.told("attest"))).model_dump()
    other["artifact"]["uri"] = "s3://star/elsewhere"
    world.answers["attest"] = JobResult.model_validate(other)
    world.passes(1)
    assert "proofs" not in world.status()
    assert world.jobs == []


def test_what_a_job_was_told_goes_once_its_proof_is_written_down() -> None:
    world = World()
    world.passes(1)
    assert world.told("attest")
    world.passes(1)
    assert world.cluster.of("ConfigMap") == []


@pytest.mark.bad_input
def test_what_would_fail_again_is_not_made_again_until_it_is_asked_for() -> None:
    world = World()
    error = JobError(error_class=ErrorClass.TERMINAL, reason=Reason.INVALID_KEY, message="signing.key is no key")
    world.answers["attest"] = JobResult(error=error)
    world.passes(2)
    world.forget_jobs()
    world.passes(2)
    assert world.jobs == []
    assert world.cluster.of("ConfigMap") == []
    assert world.condition()[1] == "InvalidKey"
    assert "star.recsys.dev/attest" in world.condition()[2]
    del world.answers["attest"]
    world.cluster.objects["Checkpoint", NAMESPACE, "student"]["metadata"]["annotations"] = {ATTEST_ANNOTATION: "again"}
    world.passes(2)
    assert world.condition()[1] == "Attested"
    assert "failedFacts" not in world.status()


@pytest.mark.bad_input
def test_what_may_succeed_another_time_is_made_again_when_its_job_has_gone() -> None:
    world = World()
    error = JobError(error_class=ErrorClass.RETRYABLE, reason=Reason.STORE_UNREACHABLE, message="no route")
    world.answers["attest"] = JobResult(error=error)
    world.passes(2)
    assert world.condition()[1] == "StoreUnreachable"
    del world.answers["attest"]
    world.forget_jobs()
    world.passes(2)
    assert world.condition()[1] == "Attested"


class TestTurns:
    """Many checkpoints without a proof, as after an upgrade."""

    COUNT = 9

    @pytest.fixture
    def world(self) -> World:
        world = World()
        self.names = [f"old-{number}" for number in range(self.COUNT)]
        for number, name in enumerate(self.names):
            record = {"uri": f"s3://star/{name}", "digest": f"sha256:{number:064}"}
            world.cluster.add(star("Checkpoint", NAMESPACE, name, record))
        return world

    def look(self, world: World, names: list[str] | None = None) -> None:
        for name in names or self.names:
            asyncio.run(world.checkpoints.reconcile(Key("Checkpoint", NAMESPACE, name)))

    def at_work(self, world: World) -> int:
        return sum("status" not in job for job in world.cluster.of("Job"))

    def test_few_are_at_work_at_once_and_all_come_to_it(self, world: World) -> None:
        self.look(world)
        assert self.at_work(world) == PROOFS_EACH
        last = world.status(name=self.names[-1])
        [said] = [one for one in last["conditions"] if one["type"] == "Attested"]
        assert "wait their turn" in said["message"]
        assert last["phase"] == "Ready"
        assert world.queue.later is not None
        for _ in self.names:
            world.kubelet()
            self.look(world)
            assert self.at_work(world) <= PROOFS_EACH
        assert all("proofs" in world.status(name=name) for name in self.names)

    def test_an_end_has_the_next_one_looked_at(self, world: World) -> None:
        self.look(world)
        world.kubelet()
        self.look(world, self.names[:1])
        assert asyncio.run(world.queue.get()).name == self.names[PROOFS_EACH]

    def test_a_checkpoint_that_goes_leaves_its_turn(self, world: World) -> None:
        self.look(world)
        for name in self.names[:2]:
            del world.cluster.objects["Checkpoint", NAMESPACE, name]
        self.look(world)
        assert len(world.cluster.of("Job")) == PROOFS_EACH + 2, "the fake cluster collects no garbage"

    @pytest.mark.bad_input
    def test_what_gives_up_leaves_its_turn(self, world: World) -> None:
        world.answers["attest"] = JobResult(error=DENIED)
        for _ in self.names:
            self.look(world)
            world.kubelet()
        self.look(world)
        assert all("failedFacts" in world.status(name=name) for name in self.names)

    def test_another_operator_counts_what_is_at_work(self, world: World) -> None:
        self.look(world)
        world.context.proofs = Turns(PROOFS_EACH, PROOFS_EACH)
        self.look(world)
        assert self.at_work(world) == PROOFS_EACH


class Refusing(FakeCluster):
    """A cluster that makes no Job."""

    error: StarError | None = None

    async def apply(self, obj: dict[str, Any], *, manager: str = "") -> dict[str, Any]:
        if self.error is not None and obj["kind"] == "Job":
            raise self.error
        return await super().apply(obj, manager=manager)


@pytest.mark.bad_input
def test_a_quota_on_jobs_is_told_and_the_checkpoint_is_usable() -> None:
    world = World(cluster=Refusing())
    assert isinstance(world.cluster, Refusing)
    world.cluster.error = Refused(ConditionReason.REFUSED, "exceeded quota: jobs")
    world.evaluate("first")
    world.passes(1)
    assert world.status()["phase"] == "Ready"
    assert [one["evaluation"] for one in world.status()["verdicts"]] == ["first"]
    assert world.condition() == ("False", "Refused", "its card and provenance wait: exceeded quota: jobs")
    assert world.queue.later == REFUSED_SECONDS
    world.cluster.error = None
    world.passes(2)
    assert world.condition()[:2] == ("True", "Attested")


def test_verdicts_are_written_down_whatever_the_api_does() -> None:
    world = World(cluster=Refusing())
    assert isinstance(world.cluster, Refusing)
    world.cluster.error = Retryable("Http500", "etcd is in trouble")
    world.evaluate("first")
    with pytest.raises(Retryable):
        world.passes(1)
    assert world.status()["phase"] == "Ready"
    assert [one["evaluation"] for one in world.status()["verdicts"]] == ["first"]


class TestServing:
    """A StarDeployment that requires signatures, or has gates."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.passes()
        return world

    def deploy(self, world: World, **spec: Any) -> None:
        common = {"dataset": {"name": "d"}, "checkpoint": {"checkpoint": "student"}}
        world.cluster.add(star("StarDeployment", NAMESPACE, "live", common | spec))

    def signed_by(self, **key: Any) -> dict[str, Any]:
        return {"requireSignatures": {"keys": [{"name": "ours", **(key or {"publicKey": PEM})}]}}

    def test_no_serving_pod_before_it_is_verified(self, world: World) -> None:
        self.deploy(world, **self.signed_by())
        world.serve(1)
        assert world.cluster.of("Deployment") == []
        assert [name for name in world.jobs if "verify" in name]
        told = world.told("verify")
        assert told["checkpoint"]["digest"] == CHECKPOINT
        assert told["signatures"]["keys"] == [PublicKey(name="ours", pem=PEM).to_json_dict()]
        world.serve(2)
        assert world.cluster.of("Deployment")

    @pytest.mark.case("side-car")
    def test_a_side_car_keeps_nothing_from_being_served(self, world: World) -> None:
        world.side_car = True
        self.deploy(world, **self.signed_by())
        world.serve(2)
        assert world.cluster.of("Deployment")
        made = list(world.cluster.writes)
        world.serve(3)
        [job] = [one for one in world.cluster.of("Job") if "verify" in one["metadata"]["name"]]
        assert job["spec"]["parallelism"] == 0
        assert not [one for one in world.cluster.of("Pod") if "verify" in one["metadata"]["name"]], "nothing goes on"
        assert not [one for one in world.cluster.writes[len(made) :] if "Job" in one], "it is remembered"

    @pytest.mark.bad_input
    @pytest.mark.case("side-car")
    def test_a_refusal_beside_a_side_car_is_told_and_looked_at_again_in_its_time(self, world: World) -> None:
        world.side_car = True
        world.answers["verify"] = JobResult(error=DENIED)
        self.deploy(world, **self.signed_by())
        world.serve(4)
        status = world.status("StarDeployment", "live")
        assert (status["phase"], DENIED.message in ready_message(status)) == ("Gated", True)
        del world.answers["verify"]
        world.context.time += AGAIN + timedelta(seconds=1)
        world.serve(4)
        assert world.cluster.of("Deployment")

    @pytest.mark.bad_input
    def test_what_does_not_hold_is_refused_with_the_jobs_sentence(self, world: World) -> None:
        world.answers["verify"] = JobResult(error=DENIED)
        self.deploy(world, **self.signed_by())
        world.serve()
        status = world.status("StarDeployment", "live")
        assert status["phase"] == "Gated"
        assert DENIED.message in ready_message(status)
        assert [one["reason"] for one in status["conditions"] if one["type"] == "Ready"] == ["ProofAltered"]
        assert world.cluster.of("Deployment") == []

    def test_a_new_proof_is_looked_at_at_once_and_the_old_one_after_an_hour(self, world: World) -> None:
        world.answers["verify"] = JobResult(error=DENIED)
        self.deploy(world, **self.signed_by())
        world.serve()
        world.cluster.writes.clear()
        world.serve(2)
        assert not [write for write in world.cluster.writes if "Job" in write]
        del world.answers["verify"]
        world.evaluate("first")
        world.passes()
        world.serve(3)
        assert world.cluster.of("Deployment")

    def test_what_was_refused_is_looked_at_again_after_an_hour(self, world: World) -> None:
        world.answers["verify"] = JobResult(error=DENIED)
        self.deploy(world, **self.signed_by())
        world.serve()
        del world.answers["verify"]
        world.context.time += AGAIN + timedelta(seconds=1)
        world.serve(4)
        assert world.cluster.of("Deployment")

    def test_a_first_proof_is_waited_for(self) -> None:
        world = World()
        self.deploy(world, **self.signed_by())
        world.serve()
        assert "the proof of Checkpoint student is being written" in ready_message(
            world.status("StarDeployment", "live")
        )
        world.passes()
        world.serve()
        assert world.cluster.of("Deployment")

    @pytest.mark.bad_input
    def test_a_key_that_is_not_there_is_waited_for(self, world: World) -> None:
        self.deploy(world, **self.signed_by(configMapKeyRef={"name": "keys", "key": "ours.pem"}))
        world.serve()
        said = ready_message(world.status("StarDeployment", "live"))
        assert "spec.requireSignatures.keys[0].configMapKeyRef names ConfigMap keys, which does not exist" in said
        meta = {"name": "keys", "namespace": NAMESPACE}
        world.cluster.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"ours.pem": PEM}})
        world.serve()
        assert world.cluster.of("Deployment")

    def gates(self) -> dict[str, Any]:
        rules = [{"metric": "hrAvg", "value": 0.4}]
        return {"gates": {"rules": rules, "settings": {"tools": False}}}

    def measured(self, world: World, **status: Any) -> None:
        [name] = [one["metadata"]["name"] for one in world.cluster.of("Evaluation")]
        artifact = {"uri": "s3://star/report", "digest": REPORT}
        ended = {"phase": "Succeeded", "metrics": {"hrAvg": 0.5}, "artifact": artifact}
        world.cluster.objects["Evaluation", NAMESPACE, name]["status"] = ended | status

    def test_a_gates_report_is_verified_by_its_digest(self, world: World) -> None:
        self.deploy(world, **self.gates())
        world.serve(1)
        self.measured(world)
        world.serve(1)
        verdict = world.told("verify")["verdict"]
        assert verdict["report"]["digest"] == REPORT
        assert verdict["measured"] == {"llm": CHECKPOINT, "dataset": DATASET}
        assert verdict["metrics"] == {"hrAvg": 0.5}
        world.serve(2)
        assert world.cluster.of("Deployment")

    @pytest.mark.bad_input
    def test_an_edited_status_is_another_question(self, world: World) -> None:
        self.deploy(world, **self.gates())
        world.serve(1)
        self.measured(world, metrics={"hrAvg": 0.3})
        world.serve()
        assert world.status("StarDeployment", "live")["phase"] == "Gated", "honestly so"
        self.measured(world, metrics={"hrAvg": 0.9})
        world.answers["verify"] = JobResult(error=DENIED)
        world.serve()
        assert DENIED.message in ready_message(world.status("StarDeployment", "live"))
        assert world.cluster.of("Deployment") == []

    @pytest.mark.bad_input
    def test_a_status_without_a_report_is_not_believed(self, world: World) -> None:
        self.deploy(world, **self.gates())
        world.serve(1)
        self.measured(world, artifact=None)
        world.serve()
        assert "its status names no report" in ready_message(world.status("StarDeployment", "live"))
        assert world.cluster.of("Deployment") == []

    def test_without_gates_and_keys_nothing_is_verified(self, world: World) -> None:
        self.deploy(world)
        world.serve(1)
        assert world.cluster.of("Deployment")
        assert not [name for name in world.jobs if "verify" in name]


def test_a_verdict_is_of_what_was_measured_whatever_its_name_stood_for() -> None:
    world = World(ProofSettings(enabled=False))
    measures = {"dataset": {"name": "d"}, "llm": world.llm("student")}
    for name, digest in (("this", CHECKPOINT), ("other", DATASET)):
        status = {
            "phase": "Succeeded",
            "metrics": {"hrAvg": 0.5},
            "artifact": {"uri": f"s3://star/{name}", "digest": REPORT},
            "inputs": [{"role": "llm", "uri": "s3://star/student", "digest": digest}],
        }
        world.cluster.add({**star("Evaluation", NAMESPACE, name, measures), "status": status})
    world.passes(1)
    assert [one["evaluation"] for one in world.status()["verdicts"]] == ["this"]
