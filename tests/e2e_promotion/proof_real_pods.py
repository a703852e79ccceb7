"""From a pipeline to production by commits alone, and back, with real pods; the operator dies once in each step.

    make e2e-promotion

The embedded cluster trains, measures, promotes and serves; Git, the forge and Argo CD are real as well. It takes half
an hour, so it is no part of the other tests here (pytest collects `test_*.py`). test_storyline.py tells the same story
in minutes, with what pods do played.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.demo.target import Target, local_target
from star_cli.install import Chart
from star_cli.local.binaries import Binaries
from star_cli.local.cluster import LocalCluster
from star_cli.local.progress import Terminal
from star_contracts.artifact import ArtifactRef
from star_contracts.names import LABEL_KIND
from tests.e2e.conftest import cluster
from tests.support.gitops import ENVIRONMENTS, PROMOTIONS, Site, application, open_site
from tests.support.kubectl import Kubectl, eventually
from tests.support.pace import stretched
from tests.support.podwatch import PodWatch
from tests.support.realpods import (
    DATASET,
    FIRST,
    NAMESPACES,
    SECOND,
    SIGNALS,
    SOAK_SECONDS,
    VALID,
    Body,
    Story,
    adapt,
    prepare,
    unix,
)
from tests.support.star import star
from tests.support.storelist import Bucket

__all__ = ["cluster"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kubectl(cluster: LocalCluster) -> Kubectl:
    return Kubectl(cluster.kubeconfig)


@pytest.fixture(scope="module")
def target(cluster: LocalCluster, kubectl: Kubectl) -> Target:
    """The cluster with this checkout's operator, and nothing of an earlier session."""
    reporter = Terminal()
    found = local_target(cluster.name, ROOT, reporter)
    Chart(ROOT, Binaries(reporter=reporter).ensure("helm"), reporter).install(found.kubeconfig, found.values)
    for namespace in ("argocd", *NAMESPACES):
        kubectl.run("delete", "namespace", namespace, "--ignore-not-found", "--timeout=110s")
        Bucket.of(found.store).empty(f"{namespace}/")
    return found


@pytest.fixture(scope="module")
def base(target: Target) -> ArtifactRef:
    """The model that everything begins with."""
    return prepare(target, Terminal())


@pytest.fixture(scope="module")
def site(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The layout in Git and in Argo CD, at an address that pods reach."""
    with open_site(tmp_path_factory.mktemp("site"), target.kubeconfig) as opened:
        yield opened


@pytest.fixture
def story(site: Site, kubectl: Kubectl, target: Target) -> Story:
    return Story(site, stretched(900), kubectl=kubectl, kubeconfig=target.kubeconfig)


def trains(story: Story, name: str, spec: Body, stage: str) -> str:
    """Have a pipeline make a checkpoint; the operator dies while a stage of it runs. Returns the digest."""
    story.kubectl.apply(star("StarPipeline", PROMOTIONS, name, spec))
    kind = {"sft": "SFTJob", "grpo": "GRPOJob"}[stage]
    story.dies(story.runs(kind, f"{name}-{stage}"), f"{name} trains ({stage})")
    made = story.ready("StarPipeline", PROMOTIONS, name, stretched(1500))
    story.notes(f"{name} has made {made['checkpoint']['digest']}")
    return str(made["checkpoint"]["digest"])


def begins(story: Story, digest: str) -> None:
    """The layout, small; the first checkpoint pinned by hand; both environments serve it."""
    owner, authority = story.site.owner, story.site.forge.authority.read_text()
    secret = {"username": owner.name, "password": owner.token, "token": owner.token, "ca.crt": authority}
    metadata = {"name": "recommender-git", "namespace": PROMOTIONS}
    story.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
    adapt(story.site)
    record = next(one for one in story.kubectl.list("checkpoints", PROMOTIONS) if one["spec"]["digest"] == digest)
    for environment in ENVIRONMENTS:
        story.site.pin(environment, record["spec"]["uri"], digest)
    story.site.apply_applications(*ENVIRONMENTS)
    for environment in ENVIRONMENTS:
        story.serves(environment, digest)
        assert story.answers(environment) == digest
        story.notes(f"{environment} serves the first checkpoint")
    story.site.apply_applications("promotion")


def test_from_a_pipeline_to_production_and_back(base: ArtifactRef, story: Story, site: Site, kubectl: Kubectl) -> None:
    for namespace in NAMESPACES:
        story.ready("RecDataset", namespace, DATASET, stretched(300))
        story.ready("Verbalization", namespace, SIGNALS, stretched(600))
    with PodWatch(kubectl) as watch:
        first = trains(story, "night-1", FIRST, "sft")
        begins(story, first)

        good = trains(story, "night-2", SECOND, "grpo")
        (reused,) = (row for row in story.found("StarPipeline", "night-2")["stages"] if row["name"] == "sft")
        assert reused["reused"], "the second night begins with what the first one made"
        into_dev, into_prod = (story.promotion(one, good) for one in ENVIRONMENTS)
        story.dies(story.runs("Promotion", into_dev), "the commit to dev is made")
        commit = story.committed("dev", good)
        assert f"Star-From: {first}" in commit["commit"]["message"]
        story.dies(story.measures("dev", good), "dev measures the checkpoint")
        story.serves("dev", good)
        story.dies(story.begins_to_serve("dev", good), "the checkpoint soaks in dev")
        assert site.pinned("prod") == first

        said = story.waits_for(into_prod, "AwaitingApproval")
        assert said.startswith("approvals: 0 of 1 approvals"), said
        soaked = next(row for row in site.live("dev")["status"]["served"] if row["digest"] == good)
        assert soaked["seconds"] >= SOAK_SECONDS or soaked["serving"]
        story.starctl("approve", into_prod, "--comment", "the figures are fine")
        story.notes("approved")
        request = story.asked(good)
        story.dies(lambda: story.found("Promotion", into_prod).get("pullRequest") is not None, "a pull request is open")
        holds_what_a_reviewer_needs(story, request["body"], first, good)
        assert site.pinned("prod") == first
        story.notes("the pull request is merged")
        merge = story.merged(request["number"])
        story.committed("prod", good)
        story.dies(story.measures("prod", good), "prod measures the checkpoint")
        story.serves("prod", good)
        assert story.answers("prod") == good
        story.notes("prod serves the second checkpoint")
        eventually(
            lambda: story.found("Promotion", into_prod).get("phase") == "Succeeded", "it is seen to be merged", 180
        )

        stops_at_its_gate(story, base, good)

        site.revert(merge, merged=True)
        story.notes("the merge is reverted")
        story.dies(lambda: story.wanted("prod") == first, "prod goes back")
        story.serves("prod", first)
        assert story.answers("prod") == first
        assert site.pinned("prod") == first
        story.notes("prod serves the first checkpoint again")

    assert len({name for _, name in story.killed}) == len(story.killed) == 9, "each time another pod"
    promoting = [one for one in watch.pods.values() if one["metadata"].get("labels", {}).get(LABEL_KIND) == "promotion"]
    assert {one["metadata"]["namespace"] for one in promoting} == {PROMOTIONS}
    assert all("/git:" in one["spec"]["containers"][0]["image"] for one in promoting)
    tell_figures(story, commit, merge, good)


def holds_what_a_reviewer_needs(story: Story, body: str, first: str, good: str) -> None:
    """From and to, the figure as it was measured, the report that the Job has verified in the store, who approved."""
    measured = story.found("Evaluation", "night-2-evaluation")
    assert f"from  {first}" in body
    assert f"to    {good}" in body
    assert f"Star-Report: {measured['artifact']['digest']}" in body
    (row,) = (line.split() for line in body.splitlines() if line.split()[:1] == ["valid"])
    assert row[2] == f"{measured['metrics']['valid']:.4g}"
    assert measured["metrics"]["valid"] >= VALID
    assert "the figures are fine" in body
    assert "Star-Approved-By: " in body


def stops_at_its_gate(story: Story, base: ArtifactRef, good: str) -> None:
    """The untrained model is promoted by mistake: it never serves, and prod does not move."""
    site, pods, pinned = story.site, story.serving_pods("prod"), story.site.pinned("prod")
    assert pods
    story.starctl("promote", "base", "--to", "dev")
    story.committed("dev", base.digest)
    story.dies(story.measures("dev", base.digest), "dev measures a bad checkpoint")
    site.argocd.wait(application("dev"), health="Degraded", seconds=story.seconds)
    story.notes("the bad checkpoint stops at its gate")
    live = site.live("dev")["status"]
    (ready,) = (row for row in live["conditions"] if row["type"] == "Ready")
    assert live["phase"] == "Gated"
    assert "valid measured" in ready["message"]
    assert f"required >= {VALID}" in ready["message"]
    assert site.serving("dev") == story.answers("dev") == good
    assert site.pinned("prod") == pinned == good
    assert site.serving("prod") == story.answers("prod") == good
    left = story.serving_pods("prod")
    assert left, "prod serves on"
    assert left <= pods, "none of prod's servers was started anew; those of the revision before may have gone meanwhile"
    assert site.forge.pull_requests(site.owner, site.repository) == []


def tell_figures(story: Story, commit: Body, merge: str, good: str) -> None:
    """What the steps took, as the objects say; seconds. `make bench-promotion` measures the same with care."""
    begun = {one: story.found("Promotion", story.promotion(one, good)) for one in ENVIRONMENTS}
    written = unix(commit["commit"]["committer"]["date"])
    gates = {one: spans(story, one, good) for one in ENVIRONMENTS}
    came = unix(begun["dev"]["begun"])
    approved, merged, served = (
        story.seen[one] for one in ("approved", "the pull request is merged", "prod serves the second checkpoint")
    )
    figures = {
        "commit_s": round(written - came, 1),
        "sync_s": {"dev": round(story.synced(application("dev"), str(commit["sha"])) - written, 1)},
        "merge_sync_s": round(story.synced(application("prod"), merge) - merged, 1),
        "gates_s": {one: round(seconds, 1) for one, seconds in gates.items()},
        "soak_s": SOAK_SECONDS,
        "to_approval_s": round(approved - came, 1),
        "approval_to_prod_s": round(served - approved, 1),
        "overhead_s": {
            "dev": round(approved - came - gates["dev"] - SOAK_SECONDS, 1),
            "prod": round(served - approved - gates["prod"], 1),
        },
        "kills": len(story.killed),
    }
    os.write(2, f"RESULT {json.dumps(figures)}\n".encode())


def spans(story: Story, environment: str, digest: str) -> float:
    """How long an environment's gate took."""
    rows = story.gates(environment, digest)
    return sum(unix(row["status"]["completionTime"]) - unix(row["metadata"]["creationTimestamp"]) for row in rows)
