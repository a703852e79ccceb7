"""The whole chain with real pods, at the smallest size: `starctl demo --size tiny`, run by the demo's own code."""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from star_cli.demo.manifests import Size
from star_cli.demo.run import Demo, Options, Result
from star_cli.demo.target import Target, local_target
from star_cli.local.cluster import LocalCluster
from star_cli.local.manifests import S3_PORT
from star_cli.local.objectstore import load_credentials
from star_cli.local.progress import Terminal
from star_contracts.data import Trajectory
from star_contracts.names import LABEL_KIND, LABEL_NAME, LABEL_STEP
from star_operator.api.chain import INFO, OF_THE_PIPELINE, STAGES
from star_operator.core.times import to_seconds
from tests.support.chaos import Disturbance, disturbance
from tests.support.kubectl import Kubectl, eventually
from tests.support.pace import stretched, tiny
from tests.support.podwatch import PodWatch, gpus, is_server
from tests.support.star import star, status
from tests.support.traffic import USERS, gateway_key, traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
NAMESPACE = "star-tiny"
STEP_LABELS = (LABEL_KIND, LABEL_NAME, LABEL_STEP)
ARTIFACTS = {
    "RecDataset/ml-100k",
    "Verbalization/ml-100k",
    "TeacherRun/mars",
    "SFTJob/sft",
    "GRPOJob/grpo",
    "Evaluation/base",
    "Evaluation/sft",
}


@dataclass(frozen=True)
class Ran:
    """A demo that has ended, and what it printed."""

    result: Result
    printed: str


class Tee(io.StringIO):
    """Keeps what is printed and shows it: the run takes minutes, and whoever waits wants to see it move."""

    def write(self, text: str) -> int:
        os.write(2, text.encode())
        return super().write(text)


def run_demo(cluster: LocalCluster) -> Ran:
    """Run the demo at its smallest size."""
    console = Console(file=Tee(), width=160)
    reporter = Terminal(console)

    def target() -> Target:
        return local_target(cluster.name, ROOT, reporter)

    options = Options(ROOT, NAMESPACE, Size.TINY, patience=tiny().patience, deadline_seconds=stretched(1800))
    result = Demo(options, target, console, reporter).run()
    assert isinstance(console.file, Tee)
    return Ran(result, console.file.getvalue())


def digest_of(ran: Ran, kind: str) -> str:
    """The artifact of the only resource of a kind."""
    (artifact,) = (one.status.artifact for one in ran.result.resources if one.kind == kind)
    assert artifact is not None
    return str(artifact.digest)


def patch(kubectl: Kubectl, spec: dict[str, Any]) -> None:
    """Change fields of the deployment's spec; None takes a field away."""
    kubectl.run("patch", "stardeployment", "star", "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": spec}))


def servers(kubectl: Kubectl) -> int:
    """Revisions that have a server."""
    label = "star.recsys.dev/kind=stardeployment,star.recsys.dev/name=star,star.recsys.dev/server"
    listing = kubectl.run("get", "statefulsets,deployments", "-n", NAMESPACE, "-l", label, "-o", "json")
    return len(json.loads(listing)["items"])


@pytest.fixture(scope="module")
def disturbed(cluster: LocalCluster, kubectl: Kubectl) -> Iterator[Disturbance]:
    """Kills a teacher's worker and the operator while the chain runs."""
    kills = disturbance(kubectl, NAMESPACE, f"http://127.0.0.1:{S3_PORT}", load_credentials(cluster.layout.credentials))
    kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    kills.empty_store()  # what a session before made in a cluster that stays would only be found again
    kills.start()
    yield kills
    kills.stop()


@pytest.fixture(scope="module")
def ran(cluster: LocalCluster, disturbed: Disturbance) -> Ran:
    return run_demo(cluster)


def test_every_stage_made_its_artifact_and_the_gateway_serves_the_last_one(ran: Ran) -> None:
    made = {f"{one.kind}/{one.metadata.name}" for one in ran.result.resources if one.status.artifact is not None}
    assert made >= ARTIFACTS
    assert ran.result.digest == digest_of(ran, "GRPOJob")
    assert f"served by the gateway: {ran.result.digest}" in ran.printed


def test_a_real_model_summarizes_long_histories_and_looks_up_again(ran: Ran, disturbed: Disturbance) -> None:
    made = {one.kind: one.status for one in ran.result.resources}
    metrics = made["Verbalization"].metrics
    assert metrics["summaries"] > 0
    assert metrics["withoutWords"] < metrics["summaries"], "words came of them"
    trajectories = [
        Trajectory.model_validate_json(line)
        for line in disturbed.read(f"{made['TeacherRun'].artifact.uri}/trajectories.jsonl").splitlines()
    ]
    # A brief analyst looks one thing up a round, so that two are two rounds; of so many turns some ask again.
    assert any(len(step.tools) == 2 for trajectory in trajectories for step in trajectory.steps)


def test_kills_in_mid_run_lose_nothing_and_repeat_nothing(ran: Ran, disturbed: Disturbance, kubectl: Kubectl) -> None:
    assert len(disturbed.killed) == 2, disturbed.error
    after = disturbed.finished()
    assert {name: after[name] for name in disturbed.before} == disturbed.before, "a finished trajectory was made again"
    teacher = next(one for one in ran.result.resources if one.kind == "TeacherRun")
    assert len(after) == teacher.status.metrics["trajectories"] == teacher.spec.tasks * teacher.spec.passes
    jobs = json.loads(kubectl.run("get", "jobs", "-n", NAMESPACE, "-o", "json"))["items"]
    steps = [tuple(job["metadata"]["labels"].get(label) for label in STEP_LABELS) for job in jobs]
    assert len(steps) == len(set(steps)), "a step has one Job"


def test_the_end_tells_lineage_figures_verdict_and_how_to_go_on(ran: Ran) -> None:
    for one in ran.result.resources:
        for step in one.status.steps:
            assert step.artifact is None or step.artifact.digest in ran.printed, f"{one.kind}/{one.metadata.name}"
    for ranker in ("baseline: itemcf", "teacher: mars", "model: base", "model: sft", "model: grpo"):
        assert ranker in ran.printed
    assert "required >=" in ran.printed
    assert "starctl local down" in ran.printed


def test_credentials_are_never_shown(ran: Ran, cluster: LocalCluster, kubectl: Kubectl) -> None:
    secret = load_credentials(cluster.layout.credentials).secret_key
    assert secret not in ran.printed
    seen = kubectl.run("get", "recsys,pods,jobs,configmaps,events", "-n", NAMESPACE, "-o", "json")
    assert secret not in seen


def test_a_gate_out_of_reach_starts_no_serving_pod_and_says_measured_against_required(
    ran: Ran, kubectl: Kubectl
) -> None:
    served = kubectl.get("stardeployment", "star", NAMESPACE)
    spec = json.loads(json.dumps(served["spec"]))
    spec["gates"]["rules"] = [{"metric": "hrAvg", "comparison": "AtLeast", "value": 1.01}]
    manifest: dict[str, Any] = {
        "apiVersion": served["apiVersion"],
        "kind": "StarDeployment",
        "metadata": {"name": "ambitious", "namespace": NAMESPACE},
        "spec": spec,
    }
    kubectl.apply(manifest)

    def gated() -> bool:
        status = kubectl.get("stardeployment", "ambitious", NAMESPACE).get("status", {})
        assert status.get("phase") not in ("Ready", "Failed"), status
        return bool(status.get("phase") == "Gated")

    eventually(gated, "the deployment is held back by its gate", seconds=stretched(300))
    status = kubectl.get("stardeployment", "ambitious", NAMESPACE)["status"]
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert "hrAvg measured" in ready["message"]
    assert "required >= 1.01" in ready["message"]
    label = "star.recsys.dev/kind=stardeployment,star.recsys.dev/name=ambitious"
    owned = json.loads(kubectl.run("get", "deployments,pods", "-n", NAMESPACE, "-l", label, "-o", "json"))
    assert owned["items"] == []
    kubectl.run("delete", "stardeployment", "ambitious", "-n", NAMESPACE)


def test_a_rollout_moves_half_of_the_users_and_back_and_no_request_fails(ran: Ran, kubectl: Kubectl) -> None:
    before, after = digest_of(ran, "GRPOJob"), digest_of(ran, "SFTJob")
    spec, service = (kubectl.get(kind, "star", NAMESPACE)["spec"] for kind in ("stardeployment", "service"))
    short = {**spec["gateway"], "sampling": {**spec["gateway"]["sampling"], "maxTokens": 16}}
    steps = [{"weight": 50, "pauseSeconds": 3600}]
    url, patience = f"http://{service['clusterIP']}:{spec['gateway']['port']}", spec["gateway"]["deadlineSeconds"] + 30
    with traffic(url, patience, gateway_key(kubectl, "star", NAMESPACE)) as seen:
        eventually(lambda: len(seen.checkpoints) > 1, "the gateway answers", seconds=stretched(120))
        wanted = {"checkpoint": {"checkpoint": "sft"}, "gates": None, "rollout": {"steps": steps}, "gateway": short}
        patch(kubectl, wanted)
        eventually(lambda: after in seen.answered_by(), "the new revision answers somebody", seconds=stretched(300))
        asked = {user: len(seen.checkpoints[user]) for user in USERS}
        eventually(
            lambda: all(len(seen.checkpoints[user]) > asked[user] + 1 for user in USERS),
            "everybody asks again while both revisions serve",
            seconds=stretched(300),
        )
        patch(kubectl, {name: spec.get(name) for name in wanted})
        eventually(lambda: servers(kubectl) == 1, "the new revision's server is gone again", seconds=stretched(120))
    assert seen.failures == []
    way = [before, after, before]
    journeys = [seen.journey(user) for user in USERS]  # a part of the way: one may ask late for the first time
    assert all(journey in (way[a:b] for a in range(3) for b in range(4)) for journey in journeys), journeys
    assert [before] in journeys, "not everybody was moved"


def test_equal_work_under_another_name_starts_no_server(ran: Ran, kubectl: Kubectl) -> None:
    def server_pods() -> set[str]:
        path = "jsonpath={.items[*].metadata.uid}"
        return set(kubectl.run("get", "pods", "-n", NAMESPACE, "-l", "star.recsys.dev/server", "-o", path).split())

    done, before = kubectl.get("evaluation", "sft", NAMESPACE), server_pods()
    metadata = {"name": "again", "namespace": NAMESPACE}
    kubectl.apply({**{key: done[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})

    def status() -> dict[str, Any]:
        found: dict[str, Any] = kubectl.get("evaluation", "again", NAMESPACE).get("status", {})
        return found

    eventually(lambda: status().get("phase") == "Succeeded", "the artifact is found", seconds=stretched(120))
    assert [step["reused"] for step in status()["steps"]] == [True]
    assert status()["artifact"] == done["status"]["artifact"]
    assert server_pods() <= before
    kubectl.run("delete", "evaluation", "again", "-n", NAMESPACE)


def test_the_same_chain_as_a_pipeline_reuses_every_stage_and_starts_no_server(ran: Ran, kubectl: Kubectl) -> None:
    made = {one.kind: one.metadata.name for one in ran.result.resources}
    stages = {}
    for stage in STAGES[:5]:  # what the demo evaluates and serves is not what a pipeline would
        info = INFO[stage]
        spec = kubectl.get(info.kind.lower(), made[info.kind], NAMESPACE)["spec"]
        stages[str(stage)] = {"template": {k: v for k, v in spec.items() if k not in (*info.wired, *OF_THE_PIPELINE)}}
    with PodWatch(kubectl) as watch:
        kubectl.apply(star("StarPipeline", NAMESPACE, "again", stages))

        def done() -> bool:
            found = status(kubectl, "StarPipeline", NAMESPACE, "again")
            assert found.get("phase") != "Failed", found
            return bool(found.get("phase") == "Succeeded")

        eventually(done, "every stage is found done", seconds=stretched(180))
        again = kubectl.get("starpipeline", "again", NAMESPACE)
        begin, end = again["metadata"]["creationTimestamp"], again["status"]["completionTime"]
        pods = watch.of(NAMESPACE, begin, end)
    print(f"again_s {to_seconds(end) - to_seconds(begin)}, {len(pods)} pods")
    assert {row["name"]: row["reused"] for row in again["status"]["stages"]} == dict.fromkeys(stages, True)
    assert again["status"]["checkpoint"]["digest"] == digest_of(ran, "GRPOJob")
    assert pods
    assert not [pod["metadata"]["name"] for pod in pods if is_server(pod) or gpus(pod)]
    kubectl.run("delete", "starpipeline", "again", "-n", NAMESPACE, "--cascade=foreground", "--timeout=100s")
    kubectl.run("delete", "checkpoint", "again-sft", "again-grpo", "-n", NAMESPACE)


def test_a_second_run_finds_everything_done(ran: Ran, cluster: LocalCluster) -> None:
    again = run_demo(cluster)
    assert again.result.digest == ran.result.digest
    assert again.result.chain_seconds < stretched(120)
    assert "already in the store" in again.printed
