"""A Promotion pass by pass in a cluster in memory: what waits, what its Jobs are told, and an operator that dies."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from star_contracts.base import sha256_digest
from star_contracts.promotion import PromotionState
from star_contracts.result import ErrorClass, JobError, JobResult
from star_operator.core.errors import Retryable
from star_operator.core.objects import KubeObject
from star_operator.core.queue import Key
from star_operator.reconcilers.promotion import PromotionReconciler
from star_operator.reconcilers.promotionpolicy import PromotionPolicyReconciler
from tests.support.clock import Clock, Recorder
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings
from tests.support.promotions import COMMIT, DIGEST, NAMESPACE, OTHER, answer, environment, guard, promotion, target
from tests.support.star import checkpoint, star


class Mortal(FakeCluster):
    """A cluster that cuts its operator off before the write of a number, once."""

    dies_before: int | None = None
    done = 0

    def _survives(self) -> None:
        self.done += 1
        if self.done == self.dies_before:
            raise Retryable("Gone", "the operator died")

    async def apply(self, obj: KubeObject, *, manager: str = "") -> KubeObject:
        self._survives()
        return await super().apply(obj, manager=manager)

    async def apply_status(self, obj: KubeObject) -> KubeObject:
        self._survives()
        return await super().apply_status(obj)

    async def create(self, obj: KubeObject, *, dry_run: bool = False) -> KubeObject:
        self._survives()
        if (obj["kind"], NAMESPACE, obj["metadata"]["name"]) in self.objects:
            raise Retryable("AlreadyExists", "it is there")
        return await FakeCluster.apply(self, obj)


class World:
    """A namespace with a checkpoint, its operator, and a kubelet played by hand."""

    def __init__(self, *objects: KubeObject) -> None:
        self.cluster = Mortal()
        self.queue = Recorder(time.monotonic)
        self.context = Clock(self.cluster, settings(), self.queue)
        self.start()
        data = {"AWS_ACCESS_KEY_ID": "aWQ=", "AWS_SECRET_ACCESS_KEY": "a2V5"}
        secret = {"name": settings().store.secret_name, "namespace": NAMESPACE}
        self.add({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
        self.add(checkpoint(NAMESPACE, "new", DIGEST), *guard(), *objects)

    def start(self) -> None:
        """There is another operator."""
        self.promotions, self.policies = PromotionReconciler(self.context), PromotionPolicyReconciler(self.context)

    def add(self, *objects: KubeObject) -> None:
        for obj in objects:
            self.cluster.add(obj)
            obj = self.cluster.objects[obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]
            obj["metadata"].setdefault("creationTimestamp", f"2026-01-01T00:00:{len(self.cluster.objects):02}Z")

    def passes(self, count: int = 3, seconds: float = 1) -> None:
        """Look at everything some times."""
        for _ in range(count):
            for kind, reconciler in (("PromotionPolicy", self.policies), ("Promotion", self.promotions)):
                for obj in self.cluster.of(kind):
                    asyncio.run(reconciler.reconcile(Key(kind, NAMESPACE, obj["metadata"]["name"])))
            self.context.time += timedelta(seconds=seconds)

    def body(self, name: str = "p", kind: str = "Promotion") -> KubeObject:
        return self.cluster.objects[kind, NAMESPACE, name]

    def status(self, name: str = "p", kind: str = "Promotion") -> dict[str, Any]:
        found: dict[str, Any] = self.body(name, kind).get("status", {})
        return found

    def ready(self, name: str = "p", kind: str = "Promotion") -> tuple[str, str, str]:
        """Phase, reason and message."""
        status = self.status(name, kind)
        one = next(one for one in status["conditions"] if one["type"] == "Ready")
        return status["phase"], one["reason"], one["message"]

    @property
    def jobs(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.cluster.of("Job")]

    def orders(self, step: str = "promote", name: str = "p") -> dict[str, Any]:
        """What a step's Job is told."""
        data = self.cluster.objects["ConfigMap", NAMESPACE, f"{name}-promo-{step}"]["data"]
        orders: dict[str, Any] = json.loads(data["promotion.json"])
        return orders

    def ends(self, result: JobResult) -> None:
        """The one Job that runs ends so."""
        [job] = [job for job in self.cluster.of("Job") if "conditions" not in job.get("status", {})]
        failed = result.error is not None
        state = {"terminated": {"message": result.termination_message(), "exitCode": int(result.exit_code())}}
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{job['metadata']['name']}-0", "namespace": NAMESPACE, "labels": labels},
            "spec": {"containers": [{"name": "main"}]},
            "status": {
                "phase": "Failed" if failed else "Succeeded",
                "containerStatuses": [{"name": "main", "state": state}],
                "conditions": [],
            },
        }
        self.cluster.add(pod)
        condition = {"type": "Failed" if failed else "Complete", "status": "True"}
        job["status"] = {"conditions": [condition]}

    def events(self, reason: str) -> list[str]:
        return [one["message"] for one in self.cluster.of("Event") if one["reason"] == reason]


def failure(reason: str, *, terminal: bool) -> JobResult:
    kind = ErrorClass.TERMINAL if terminal else ErrorClass.RETRYABLE
    return JobResult(error=JobError(error_class=kind, reason=reason, message="it went wrong"))


def test_a_commit_lands() -> None:
    world = World(promotion())
    world.passes()
    assert world.jobs == ["p-promo-1-promote"]
    told = world.orders()
    assert (told["action"], told["digest"], told["uri"]) == ("Promote", DIGEST, "s3://star/models/new")
    world.ends(answer(PromotionState.COMMITTED, commit=COMMIT))
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Succeeded", "Promoted")
    assert COMMIT in message
    status = world.status()
    assert (status["from"], status["digest"], status["commit"]) == (OTHER, DIGEST, COMMIT)
    assert world.jobs == ["p-promo-1-promote"]


def test_the_secret_is_files_and_nothing_else() -> None:
    world = World(promotion())
    world.passes()
    pod = world.cluster.of("Job")[0]["spec"]["template"]["spec"]
    [volume] = [one for one in pod["volumes"] if "secret" in one]
    assert volume["secret"]["secretName"] == "git"
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"]]
    assert (mount["mountPath"], mount["readOnly"]) == ("/var/run/star/git", True)
    assert "secretKeyRef" not in json.dumps(pod["containers"][0]["env"])
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.bad_input
def test_a_checkpoint_with_a_lineage_of_long_names_stops_nobody() -> None:
    other = checkpoint(NAMESPACE, "other", OTHER)
    other["spec"]["lineage"] = {"inputs": {"x" * 254: DIGEST, "dataset": DIGEST}}
    world = World(promotion(), other)
    world.passes()
    assert world.jobs
    assert [one["inputs"] for one in world.orders()["facts"] if one["digest"] == OTHER] == [{"dataset": DIGEST}]


def test_a_pull_request_is_opened_followed_and_merged() -> None:
    world = World(promotion(mode="PullRequest"))
    world.passes()
    world.ends(answer(PromotionState.OPENED, 7))
    world.passes()
    assert world.ready()[:2] == ("Waiting", "PullRequestOpen")
    assert world.status()["pullRequest"]["url"].endswith("/pulls/7")
    assert len(world.jobs) == 1
    world.passes(2, seconds=300)
    assert world.jobs == ["p-promo-1-follow", "p-promo-1-promote"]
    assert world.orders("follow")["pullRequest"]["number"] == 7
    world.ends(answer(PromotionState.OPEN, 7))
    world.passes(1)
    world.passes(2, seconds=300)
    assert world.jobs == ["p-promo-1-promote", "p-promo-2-follow"]
    world.ends(answer(PromotionState.MERGED, 7, commit=COMMIT))
    world.passes()
    assert world.ready()[:2] == ("Succeeded", "Promoted")


def test_a_cancelled_one_has_its_pull_request_closed() -> None:
    world = World(promotion(mode="PullRequest"))
    world.passes()
    world.ends(answer(PromotionState.OPENED, 7))
    world.passes()
    world.body()["spec"]["cancel"] = True
    world.passes()
    assert world.orders("close")["action"] == "Close"
    world.ends(answer(PromotionState.CLOSED, 7))
    world.passes()
    assert world.ready()[:2] == ("Failed", "Cancelled")


def test_what_waits_is_cancelled_without_a_job() -> None:
    world = World(promotion(cancel=True))
    world.passes()
    assert world.ready()[:2] == ("Failed", "Cancelled")
    assert world.jobs == []


def test_a_forge_that_does_not_answer_costs_no_pull_request() -> None:
    world = World(promotion(mode="PullRequest"))
    world.passes()
    world.ends(answer(PromotionState.OPENED, 7))
    world.passes(3, seconds=300)
    world.ends(failure("ForgeAccessDenied", terminal=True))
    world.passes(1)
    assert world.ready()[:2] == ("Waiting", "ForgeAccessDenied")
    world.passes(2, seconds=300)
    world.ends(answer(PromotionState.MERGED, 7))
    world.passes()
    assert world.ready()[0] == "Succeeded"


def test_a_retryable_failure_is_tried_again_by_one_job_at_a_time() -> None:
    world = World(promotion())
    world.passes()
    for attempt in (1, 2):
        world.ends(failure("GitUnreachable", terminal=False))
        world.passes(5, seconds=60)
        assert world.jobs == [f"p-promo-{attempt + 1}-promote"]
    world.ends(answer(PromotionState.COMMITTED))
    world.passes()
    assert world.ready()[0] == "Succeeded"


@pytest.mark.bad_input
def test_a_terminal_failure_is_never_tried_again() -> None:
    world = World(promotion())
    world.passes()
    world.ends(failure("PromotionConflict", terminal=True))
    world.passes(5, seconds=600)
    assert world.ready() == ("Failed", "PromotionConflict", "it went wrong")
    assert world.jobs == ["p-promo-1-promote"]


def test_a_suspended_one_begins_nothing() -> None:
    world = World(promotion(suspend=True))
    world.passes()
    assert world.ready()[:2] == ("Suspended", "Suspended")
    world.body()["spec"]["suspend"] = False
    world.passes()
    assert world.jobs


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("looks", "phase", "says"),
    [
        (answer(PromotionState.COMMITTED, commit=COMMIT), "Succeeded", f"commit {COMMIT} pins"),
        (answer(PromotionState.CLOSED, standing=OTHER), "Failed", "no commit of this Promotion is on main"),
        (failure("GitUnreachable", terminal=False), "Failed", "whether an attempt has committed is not known"),
    ],
)
@pytest.mark.parametrize("suspended", [False, True])
def test_one_that_is_cancelled_after_a_lost_answer_is_looked_for(
    looks: JobResult, phase: str, says: str, suspended: bool
) -> None:
    world = World(promotion())
    world.passes()
    if suspended:
        world.body()["spec"]["suspend"] = True
        world.passes()
        assert world.jobs == []
    else:
        world.ends(failure("GitUnreachable", terminal=False))
        world.passes(1)
    world.body()["spec"]["cancel"] = True
    world.passes()
    [job] = world.jobs
    assert job.endswith("-close")
    assert (world.orders("close")["action"], world.orders("close")["mode"]) == ("Close", "Commit")
    assert world.ready()[0] == "Running"
    world.ends(looks)
    world.passes(3, seconds=600)
    assert world.ready()[0] == phase
    assert says in world.ready()[2]
    assert "nothing was committed" not in world.ready()[2]


@pytest.mark.bad_input
def test_one_that_gives_up_says_what_is_not_known() -> None:
    world = World(promotion(retries=0))
    world.passes()
    world.ends(failure("GitUnreachable", terminal=False))
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Failed", "GitUnreachable")
    assert "look on main for a commit with the trailer Star-Promotion: team/p/" in message


HOLD = {"digest": OTHER, "reason": "incident 7"}


@pytest.mark.bad_input
def test_one_that_is_suspended_after_it_began_is_decided_once_more() -> None:
    world = World(environment(requires={"approvals": 1}), promotion(approvals=[{"user": "ann", "digest": DIGEST}]))
    world.passes()
    assert world.jobs == ["p-promo-1-promote"]
    world.body()["spec"]["suspend"] = True
    world.passes()
    assert world.jobs == []
    assert world.ready()[:2] == ("Suspended", "Suspended")
    world.body("prod", "PromotionPolicy")["spec"]["hold"] = HOLD
    world.body()["spec"] |= {"suspend": False, "approvals": []}
    world.passes()
    assert world.jobs == []
    assert {one["name"]: one["state"] for one in world.status()["requirements"]} == {
        "approvals": "Waiting",
        "hold": "Waiting",
    }
    del world.body("prod", "PromotionPolicy")["spec"]["hold"]
    world.body()["spec"]["approvals"] = [{"user": "ann", "digest": DIGEST}]
    world.passes()
    assert world.jobs == ["p-promo-2-promote"], "a name is not used twice"
    world.ends(answer(PromotionState.COMMITTED, commit=COMMIT))
    world.passes()
    assert world.ready()[0] == "Succeeded"


@pytest.mark.bad_input
def test_one_that_is_suspended_before_its_job_is_made_is_decided_once_more() -> None:
    world = World(environment(), promotion())
    world.passes(1)
    assert world.status()["begun"]
    world.body()["spec"]["suspend"] = True
    world.passes()
    world.body("prod", "PromotionPolicy")["spec"]["hold"] = HOLD
    world.body()["spec"]["suspend"] = False
    world.passes()
    assert world.ready()[1] == "Held"
    assert world.jobs == []


@pytest.mark.bad_input
def test_an_operator_that_was_away_decides_once_more() -> None:
    world = World(environment(), promotion())
    world.passes(1, seconds=3600)
    world.body("prod", "PromotionPolicy")["spec"]["hold"] = HOLD
    world.passes()
    assert world.ready()[1] == "Held"
    assert world.jobs == []


@pytest.mark.bad_input
def test_a_further_attempt_is_decided_once_more() -> None:
    world = World(environment(), promotion())
    world.passes()
    world.ends(failure("GitUnreachable", terminal=False))
    world.body("prod", "PromotionPolicy")["spec"]["hold"] = HOLD
    world.passes(5, seconds=60)
    assert world.ready()[1] == "Held"
    assert world.jobs == []


def evaluation(digest: str = DIGEST) -> KubeObject:
    model = {"uri": "s3://star/models/new", "digest": digest}
    body = star("Evaluation", NAMESPACE, "e", {"dataset": {"name": "d"}, "llm": {"server": {"model": model}}})
    report = {"uri": "s3://star/team/evaluation/e/1/evaluate", "digest": "sha256:" + "e" * 64}
    ended = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z", "artifact": report}
    metrics = {"hrAvg": 0.4, "hrAvgCiLow": 0.3, "hrAvgCiHigh": 0.5}
    return {**body, "status": {**ended, "metrics": metrics}}


def dataset() -> KubeObject:
    body = star("RecDataset", NAMESPACE, "d", {"source": {"uri": "s3://star/raw", "format": "MovieLens"}})
    source = {"digest": "sha256:" + "f" * 64, "objects": 1, "bytes": 1, "newest": "2025-12-31T00:00:00Z"}
    artifact = {"uri": "s3://star/d", "digest": "sha256:" + "d" * 64}
    return {**body, "status": {"phase": "Succeeded", "artifact": artifact, "source": source}}


VERDICTS: dict[str, Any] = {"requires": {"verdicts": [{"metric": "hrAvg", "value": 0.35}], "maxDataAgeDays": 7}}


def test_what_was_measured_is_told_to_be_verified_and_to_be_read() -> None:
    world = World(environment(**VERDICTS), evaluation(), dataset(), promotion())
    world.passes()
    told = world.orders()
    [claim] = told["reports"]
    assert (claim["checkpoint"], claim["dataset"], claim["metrics"]) == (DIGEST, "sha256:" + "d" * 64, {"hrAvg": 0.4})
    assert told["environment"] == "prod"
    assert told["facts"][0]["metrics"]["hrAvg"] == {"value": 0.4, "low": 0.3, "high": 0.5}
    assert told["facts"][0]["dataAgeDays"] == 1.0
    assert [gate["met"] for gate in told["gates"]] == [True, True]
    env = world.cluster.of("Job")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert any(one["name"] == "AWS_ACCESS_KEY_ID" for one in env)


@pytest.mark.bad_input
def test_a_figure_of_another_digest_does_not_count() -> None:
    world = World(environment(**VERDICTS), evaluation(OTHER), dataset(), promotion())
    world.passes()
    assert world.ready()[:2] == ("Waiting", "NotMeasured")
    assert world.jobs == []


@pytest.mark.bad_input
@pytest.mark.parametrize("url", ["ssh://git@git.example.com/org/repo", "git@Git.Example.com:org/repo.git"])
def test_a_target_spelt_in_another_way_gets_round_nothing(url: str) -> None:
    wish = promotion(target=target(repository=url))
    world = World(environment(**VERDICTS), wish)
    world.passes()
    assert world.status()["environment"] == "prod"
    assert world.ready()[:2] == ("Waiting", "NotMeasured")


@pytest.mark.bad_input
def test_a_repository_that_must_not_be_called_fails_before_anybody_waits_for_it() -> None:
    world = World(environment(**VERDICTS), promotion(target=target(repository="https://169.254.169.254/a.git")))
    world.passes()
    assert world.ready()[:2] == ("Failed", "ForbiddenEndpoint")
    assert world.jobs == []


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("objects", "reason", "says"),
    [
        ([promotion(environment="nowhere")], "InputMissing", "PromotionPolicy nowhere, which does not exist"),
        ([environment(), environment("dev"), promotion(environment="dev")], "NotGoverned", "governs another place"),
        ([environment(), environment("rival", target=target()), promotion()], "PolicyConflict", "prod and rival"),
        ([environment(after="prod"), promotion()], "OrderCycle", "prod after prod"),
        ([environment(after="dev"), promotion()], "InputMissing", "names dev, which does not exist"),
        ([promotion(checkpoint={"name": "gone"})], "InputMissing", "spec.checkpoint.name names Checkpoint gone"),
        (
            [environment("dev", serves={"name": "x", "namespace": "other"}), environment(after="dev"), promotion()],
            "NotObservable",
            "star.recsys.dev/observers has to name team",
        ),
        (
            [environment("dev", serves={"name": "x"}), environment(after="dev"), promotion()],
            "InputMissing",
            "StarDeployment x, which does not exist",
        ),
    ],
)
def test_what_cannot_be_followed_waits_with_a_sentence(objects: list[KubeObject], reason: str, says: str) -> None:
    world = World(*objects)
    world.passes()
    phase, found, message = world.ready()
    assert (phase, found) == ("Waiting", reason)
    assert says in message
    assert world.jobs == []


@pytest.mark.bad_input
def test_another_digest_than_the_pinned_one_is_refused() -> None:
    world = World(promotion(checkpoint={"name": "new", "digest": OTHER}))
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Failed", "DigestMismatch")
    assert OTHER in message
    assert DIGEST in message


@pytest.mark.bad_input
def test_a_checkpoint_that_is_created_anew_as_another_one_is_refused() -> None:
    world = World(environment(requires={"approvals": 1}), promotion())
    world.passes()
    del world.cluster.objects["Checkpoint", NAMESPACE, "new"]
    world.passes()
    assert world.ready()[:2] == ("Waiting", "InputMissing")
    world.add(checkpoint(NAMESPACE, "new", OTHER))
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Failed", "DigestMismatch")
    assert "was created anew" in message


@pytest.mark.bad_input
def test_a_checkpoint_that_is_created_anew_elsewhere_is_refused() -> None:
    world = World(environment(requires={"approvals": 1}), promotion())
    world.passes()
    world.body("new", "Checkpoint")["spec"]["uri"] = "s3://star/models/elsewhere"
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Failed", "DigestMismatch")
    assert "created anew at s3://star/models/elsewhere" in message


def test_a_checkpoint_is_looked_at_in_the_store_where_a_policy_governs() -> None:
    governed, free = World(environment(), promotion()), World(promotion())
    for world in (governed, free):
        world.passes()
        assert any(one["name"] == "AWS_ACCESS_KEY_ID" for one in containers(world)[0]["env"]) is (world is governed)
        assert ("store" in world.orders() and world.orders()["store"] is not None) is (world is governed)


@pytest.mark.bad_input
def test_the_stores_secret_is_needed_where_a_policy_governs() -> None:
    world = World(environment(), promotion())
    del world.cluster.objects["Secret", NAMESPACE, settings().store.secret_name]
    world.passes()
    assert world.ready()[:2] == ("Waiting", "SecretMissing")
    assert world.jobs == []


def test_a_checkpoint_that_is_created_anew_as_the_same_one_goes_on() -> None:
    world = World(environment(requires={"approvals": 1}), promotion())
    world.passes()
    del world.cluster.objects["Checkpoint", NAMESPACE, "new"]
    world.add(checkpoint(NAMESPACE, "new", DIGEST))
    world.body()["spec"]["approvals"] = [{"user": "ann", "digest": DIGEST}]
    world.passes()
    assert world.jobs


@pytest.mark.bad_input
def test_a_checkpoint_that_goes_after_the_job_was_made_stops_nothing() -> None:
    world = World(promotion())
    world.passes()
    del world.cluster.objects["Checkpoint", NAMESPACE, "new"]
    world.ends(answer(PromotionState.COMMITTED))
    world.passes()
    assert world.ready()[0] == "Succeeded"


def test_a_policy_that_is_edited_after_the_beginning_changes_nothing() -> None:
    world = World(environment(), promotion())
    world.passes()
    assert world.jobs
    world.body("prod", "PromotionPolicy")["spec"]["requires"] = {"approvals": 3}
    world.ends(answer(PromotionState.COMMITTED))
    world.passes()
    assert world.ready()[0] == "Succeeded"


def test_approvals_are_noted_told_and_counted() -> None:
    world = World(environment(requires={"approvals": 2}), promotion())
    world.passes()
    assert world.ready()[:2] == ("Waiting", "AwaitingApproval")
    world.body()["spec"]["approvals"] = [{"user": "ann", "digest": DIGEST, "comment": "looks good"}]
    world.passes(1)
    seen = world.status()["approvals"]
    assert [(one["user"], one["digest"]) for one in seen] == [("ann", DIGEST)]
    world.passes()
    assert world.status()["approvals"] == seen
    world.body()["spec"]["approvals"] += [{"user": "bob", "digest": DIGEST}]
    world.passes()
    assert len(world.events("Approved")) == 2
    assert [(one["user"], one["comment"]) for one in world.orders()["approvals"]] == [
        ("ann", "looks good"),
        ("bob", ""),
    ]


@pytest.mark.bad_input
def test_approvals_of_another_digest_do_not_count() -> None:
    world = World(environment(requires={"approvals": 1}), promotion(approvals=[{"user": "ann", "digest": OTHER}]))
    world.passes()
    assert world.ready()[:2] == ("Waiting", "AwaitingApproval")
    assert world.status()["approvals"] == []


@pytest.mark.bad_input
@pytest.mark.parametrize("gone", ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"])
def test_nobody_is_believed_without_the_guard(gone: str) -> None:
    given: dict[str, Any] = {
        "approvals": [{"user": "ann", "digest": DIGEST}],
        "override": {"user": "ann", "reason": "x"},
    }
    world = World(environment(requires={"approvals": 1}), promotion(**given))
    del world.cluster.objects[gone, "", "star-approvals"]
    world.passes()
    assert world.ready()[:2] == ("Waiting", "ApprovalsUnguarded")
    assert world.status()["approvals"] == []
    assert world.jobs == []


@pytest.mark.bad_input
@pytest.mark.parametrize("again", ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"])
def test_what_was_written_while_there_was_no_guard_is_not_believed_later(again: str) -> None:
    given: dict[str, Any] = {
        "approvals": [{"user": "ann", "digest": DIGEST}],
        "override": {"user": "ann", "reason": "x"},
    }
    world = World(environment(requires={"approvals": 1}), promotion(**given))
    world.cluster.objects[again, "", "star-approvals"]["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.passes()
    phase, reason, message = world.ready()
    assert (phase, reason) == ("Waiting", "ApprovalsUnguarded")
    assert "there since 2026-01-02T00:00:00Z" in message
    assert world.status()["approvals"] == []
    assert world.jobs == []
    world.body()["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.passes()
    assert world.jobs


@pytest.mark.bad_input
def test_a_guard_that_was_weakened_is_none() -> None:
    world = World(environment(requires={"approvals": 1}), promotion(approvals=[{"user": "ann", "digest": DIGEST}]))
    found = world.cluster.objects["ValidatingAdmissionPolicy", "", "star-approvals"]
    found["spec"]["validations"] = found["spec"]["validations"][1:]
    world.passes()
    assert world.ready()[:2] == ("Waiting", "ApprovalsUnguarded")


def test_an_override_is_shouted() -> None:
    world = World(environment(**VERDICTS), promotion(override={"user": "eve", "reason": "the shop is down"}))
    world.passes()
    assert world.orders()["override"] == {"user": "eve", "reason": "the shop is down"}
    assert "reports" not in world.orders() or world.orders()["reports"] == []
    [shouted] = [one for one in world.status()["conditions"] if one["type"] == "Overridden"]
    assert "eve decided to do without verdict hrAvg, data age: the shop is down" in shouted["message"]
    assert len(world.events("Overridden")) == 1
    world.ends(answer(PromotionState.COMMITTED))
    world.passes()
    assert "Overridden" in [one["type"] for one in world.status()["conditions"]]


def test_one_moves_at_a_time() -> None:
    world = World(promotion(mode="PullRequest"))
    world.passes()
    world.add(promotion("q", checkpoint={"uri": "s3://star/models/x", "digest": OTHER}))
    world.passes()
    assert world.ready("q")[:2] == ("Waiting", "InFlight")
    world.ends(answer(PromotionState.OPENED, 7))
    world.passes()
    assert "has an open pull request" in world.ready("q")[2]
    world.passes(2, seconds=300)
    world.ends(answer(PromotionState.CLOSED, 7))
    world.passes()
    assert "q-promo-1-promote" in world.jobs


@pytest.mark.bad_input
def test_a_namespace_that_is_going_starts_nothing() -> None:
    world = World(promotion())
    meta = {"name": NAMESPACE, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    world.add({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    world.passes()
    assert world.ready()[:2] == ("Waiting", "NamespaceTerminating")
    assert world.jobs == []


@pytest.mark.bad_input
@pytest.mark.parametrize("data", [None, {}, {"promotion.json": "{"}])
def test_orders_that_somebody_spoiled_are_written_anew(data: dict[str, str] | None) -> None:
    world = World(promotion())
    world.passes(1)
    assert world.status()["begun"]
    place = ("ConfigMap", NAMESPACE, "p-promo-promote")
    if data is None:
        del world.cluster.objects[place]
    else:
        world.cluster.objects[place]["data"] = data
    world.passes()
    assert world.jobs == ["p-promo-1-promote"]
    assert world.orders()["digest"] == DIGEST


@pytest.mark.bad_input
def test_orders_that_somebody_exchanged_are_not_followed() -> None:
    world = World(promotion())
    world.passes(1)
    data = world.cluster.objects["ConfigMap", NAMESPACE, "p-promo-promote"]["data"]
    data["promotion.json"] = data["promotion.json"].replace(DIGEST, OTHER)
    world.passes()
    assert world.orders()["digest"] == DIGEST
    env = {one["name"]: one.get("value") for one in containers(world)[0]["env"]}
    told = world.cluster.objects["ConfigMap", NAMESPACE, "p-promo-promote"]["data"]["promotion.json"]
    assert env["STAR_PROMOTION_DIGEST"] == sha256_digest(told.encode()) == world.status()["orders"]


def containers(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.cluster.of("Job")[0]["spec"]["template"]["spec"]["containers"]
    return found


def lives() -> Iterator[int]:
    """Before which write the operator dies."""
    yield from range(1, 40)


@pytest.mark.parametrize("mode", ["Commit", "PullRequest"])
def test_an_operator_that_dies_at_any_write_makes_one_job_of_each_step(mode: str) -> None:
    untroubled = _told_through(mode, None)
    for write in lives():
        assert _told_through(mode, write) == untroubled, f"died before write {write}"


def _told_through(mode: str, dies_before: int | None) -> tuple[list[str], str, str]:
    """Return the Jobs that were made, the phase and the commit of a promotion whose operator dies once."""
    world = World(environment(requires={"approvals": 1}), promotion(mode=mode))
    world.body()["spec"]["approvals"] = [{"user": "ann", "digest": DIGEST}]
    world.cluster.dies_before = dies_before

    def lived(until: Any) -> None:
        for _ in range(30):
            if until():
                return
            try:
                world.passes(1, seconds=30)
            except Retryable:
                world.start()
        raise AssertionError(f"never: {world.status()}")

    def runs() -> bool:
        return any("conditions" not in job.get("status", {}) for job in world.cluster.of("Job"))

    lived(runs)
    if mode == "PullRequest":
        world.ends(answer(PromotionState.OPENED, 7))
        lived(lambda: "pullRequest" in world.status() and runs())
        world.ends(answer(PromotionState.MERGED, 7, commit=COMMIT))
    else:
        world.ends(answer(PromotionState.COMMITTED, commit=COMMIT))
    lived(lambda: world.status().get("phase") == "Succeeded")
    made = [one for one in world.cluster.writes if one.startswith("apply Job/")]
    return made, world.status()["phase"], world.status()["commit"]
