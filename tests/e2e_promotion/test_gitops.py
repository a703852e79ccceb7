"""Git -> Argo CD -> the operator: what a person sees there, and that nothing but Git's own changes is OutOfSync."""

from typing import Any

import pytest

from star_contracts.job import Evaluate, JobSpec
from star_contracts.result import JobResult
from tests.support.fakekubelet import RUNNING, FakeKubelet, succeed
from tests.support.gitops import ENVIRONMENTS, LIVE, Site, application
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import BASE_LLM, DATASET, checkpoint, names, star, wait_phase

pytestmark = pytest.mark.timeout(900)
FIRST, GOOD, BAD = ("sha256:" + letter * 64 for letter in "abc")
OWN = "star.recsys.dev/kind=stardeployment"


def prepare(kubectl: Kubectl, namespace: str) -> None:
    """What an environment's namespace has before the first commit: credentials, data, signals."""
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    eventually(lambda: "default" in names(kubectl, "serviceaccounts", namespace, ""), "the namespace is set up")
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    metadata = {"name": "star-store", "namespace": namespace}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys},
        checkpoint(namespace),
        star("RecDataset", namespace, "movielens", DATASET),
        star("Verbalization", namespace, "movielens-signals", {"dataset": {"name": "movielens"}, "llm": BASE_LLM}),
    )


class Gates:
    """Evaluations as the test wants them: held, or measured well, or, of the bad checkpoint, badly."""

    held = False

    def __call__(self, spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        if not isinstance(spec.stage, Evaluate):
            return succeed(spec, pod)
        if self.held:
            return RUNNING
        good = 0.1 if BAD in spec.model_dump_json() else 0.5
        found = succeed(spec, pod)
        return found.model_copy(update={"metrics": {"hrAvg": good, "valid": 1.0, "popular.hrAvg": 0.2}})


@pytest.fixture
def gates(kubelet: FakeKubelet) -> Gates:
    chosen = Gates()
    kubelet.script = chosen
    return chosen


def serves(site: Site, environment: str, digest: str) -> None:
    eventually(lambda: site.serving(environment) == digest, f"{environment} serves {digest}", seconds=180)


def test_a_commit_is_applied_and_argo_cd_shows_what_a_person_would_say(
    site: Site, kubectl: Kubectl, operator: OperatorProcess, gates: Gates
) -> None:
    for namespace in ENVIRONMENTS.values():
        prepare(kubectl, namespace)
        wait_phase(kubectl, "Verbalization", namespace, "movielens-signals", "Succeeded")
    dev = application("dev")
    gates.held = True
    site.pin("dev", "s3://star/recommender/1", FIRST)
    site.pin("prod", "s3://star/recommender/1", FIRST)
    site.apply_applications("dev", "prod")
    site.argocd.wait(dev, health="Progressing")
    assert "GateRunning" in str(site.live("dev")["status"]["conditions"])

    gates.held = False
    site.argocd.wait(dev, health="Healthy")
    shown = site.argocd.cli("app", "get", dev)
    assert "Sync Status:        Synced to main" in shown
    assert "Health Status:      Healthy" in shown
    serves(site, "dev", FIRST)
    site.argocd.wait(application("prod"), health="Healthy")

    bad = site.pin("dev", "s3://star/recommender/3", BAD)
    site.argocd.wait(dev, health="Degraded")
    assert "Health Status:      Degraded" in site.argocd.cli("app", "get", dev)
    assert site.live("dev")["status"]["phase"] == "Gated"
    assert (site.serving("dev"), site.serving("prod")) == (FIRST, FIRST)

    site.revert(bad)
    site.argocd.wait(dev, health="Healthy")
    serves(site, "dev", FIRST)
    assert site.pinned("dev") == FIRST

    operator.kill()
    operator.start()
    site.pin("dev", "s3://star/recommender/2", GOOD)
    serves(site, "dev", GOOD)
    site.argocd.wait(dev, health="Healthy")


def test_actions_of_argo_cd_change_what_git_says_nothing_of(
    site: Site, kubectl: Kubectl, operator: OperatorProcess, gates: Gates
) -> None:
    dev = application("dev")
    site.argocd.wait(dev, health="Healthy")
    site.act("dev", "suspend")
    site.argocd.wait(dev, health="Suspended")
    assert "Health Status:      Suspended" in site.argocd.cli("app", "get", dev)
    site.act("dev", "resume")
    site.argocd.wait(dev, health="Healthy")


def test_nothing_that_others_fill_in_is_out_of_sync(
    site: Site, kubectl: Kubectl, operator: OperatorProcess, gates: Gates
) -> None:
    """Defaults, status, an autoscaler's replicas, annotations and labels of others, children: none is Git's."""
    dev, namespace = application("dev"), ENVIRONMENTS["dev"]
    site.argocd.wait(dev, health="Healthy")
    (gateway,) = names(kubectl, "deployments", namespace, f"{OWN},star.recsys.dev/component=gateway")
    kubectl.run("scale", "deployment", gateway, "--replicas", "3", "-n", namespace)
    kubectl.run("annotate", "stardeployment", LIVE, "example.com/seen=yes", "-n", namespace)
    kubectl.run("label", "stardeployment", LIVE, "example.com/team=shop", "-n", namespace)
    site.argocd.cli("app", "get", dev, "--hard-refresh")
    site.argocd.wait(dev, health="Healthy")
    assert site.argocd.cli("app", "diff", dev) == ""
    assert kubectl.get("deployment", gateway, namespace)["spec"]["replicas"] == 3, "it is the autoscaler's"


def test_what_somebody_changes_on_a_child_is_put_right_and_told(
    site: Site, kubectl: Kubectl, operator: OperatorProcess, gates: Gates
) -> None:
    namespace = ENVIRONMENTS["dev"]
    site.argocd.wait(application("dev"), health="Healthy")
    (server, *_) = names(kubectl, "deployments", namespace, f"{OWN},star.recsys.dev/server")
    kubectl.run("scale", "deployment", server, "--replicas", "7", "-n", namespace)
    eventually(lambda: kubectl.get("deployment", server, namespace)["spec"]["replicas"] == 1, "it is put right")

    def told() -> bool:
        rows = [one["message"] for one in kubectl.list("events", namespace) if one["reason"] == "DriftCorrected"]
        return any(f"Deployment {server}: kubectl" in row and ".spec.replicas" in row for row in rows)

    eventually(told, "an Event says what was put right, and who had changed it")


def test_every_commit_is_one_that_somebody_made(site: Site) -> None:
    messages = [one["commit"]["message"] for one in site.forge.commits(site.owner, site.repository)]
    assert all(message.startswith(("layout", "Revert")) for message in messages)
