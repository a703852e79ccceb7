"""The repository layout that ships: the real kustomize renders it, a real API server takes it, and its parts agree."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_cli.local.binaries import Binaries
from star_operator.api import argocd
from star_operator.api.kinds import BY_KIND
from tests.contract.bad_manifests import SAMPLES
from tests.contract.test_admission import documents, server_dry_run
from tests.support.helm import only, render
from tests.support.kubectl import Kubectl

LAYOUT = SAMPLES.parent / "gitops"
ENVIRONMENTS = ("dev", "prod")
FOLDERS = (*ENVIRONMENTS, "promotion")


def built(folder: str) -> list[dict[str, Any]]:
    command = [str(Binaries().ensure("kubectl")), "kustomize", str(LAYOUT / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def deployment(environment: str) -> dict[str, Any]:
    (found,) = (one for one in built(environment) if one["kind"] == "StarDeployment")
    return found


def policy(environment: str) -> dict[str, Any]:
    (found,) = (one for one in built("promotion") if one["metadata"]["name"] == environment)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_server_takes_what_kustomize_makes_of_it(kubectl: Kubectl, folder: str) -> None:
    objects = [one for one in built(folder) if one["kind"] in BY_KIND]
    for one in objects:
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one["metadata"]["namespace"]}})
        stored = server_dry_run(kubectl, one)
        assert stored["metadata"]["namespace"] == one["metadata"]["namespace"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_policy_writes_where_the_environment_reads(environment: str) -> None:
    spec = policy(environment)["spec"]
    text = (LAYOUT / spec["target"]["path"]).read_text()
    assert text.count(f'# {{"$star": "{spec["target"]["marker"]}"}}') == 1
    live = deployment(environment)
    assert yaml.safe_load(text)["spec"]["checkpoint"] == live["spec"]["checkpoint"]
    assert spec["serves"] == {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]}
    observers = live["metadata"]["annotations"]["star.recsys.dev/observers"]
    assert observers == policy(environment)["metadata"]["namespace"]


def test_prod_takes_what_has_served_in_dev_by_a_pull_request() -> None:
    assert (policy("dev")["spec"]["mode"], policy("prod")["spec"]["mode"]) == ("Commit", "PullRequest")
    assert policy("prod")["spec"]["after"] == "dev"
    assert policy("prod")["spec"]["requires"]["soak"]["seconds"] > 0


def test_argo_cd_is_told_of_each_folder_and_of_the_namespace_that_it_is_for() -> None:
    applications = documents(LAYOUT / "argocd" / "applications.yaml")
    assert {one["spec"]["source"]["path"] for one in applications} == set(FOLDERS)
    for one in applications:
        made = built(one["spec"]["source"]["path"])
        assert {each["metadata"]["namespace"] for each in made} == {one["spec"]["destination"]["namespace"]}
        assert one["spec"]["source"]["repoURL"] == policy("dev")["spec"]["target"]["repository"]


def test_nothing_that_is_filled_in_by_others_stands_in_git(kubectl: Kubectl) -> None:
    """A field that Git has and others write would be OutOfSync for ever; one that Git has not is theirs alone."""
    for environment in ENVIRONMENTS:
        given = deployment(environment)
        kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": given["metadata"]["namespace"]}}, given
        )
        live = kubectl.get("stardeployment", "recommender", given["metadata"]["namespace"])
        assert differing(given, live) == []


def differing(given: Any, live: Any, path: str = "") -> list[str]:
    """Paths of what Git says that the API server does not have so, lists compared whole: what a diff would show."""
    if isinstance(given, dict) and isinstance(live, dict):
        return [found for key, value in given.items() for found in differing(value, live.get(key), f"{path}.{key}")]
    return [] if given == live else [path]


def test_the_committed_customizations_are_the_generated_ones_and_the_charts() -> None:
    assert (LAYOUT / "argocd" / "argocd-cm.yaml").read_text() == argocd.render(), "run `make generate`"
    fragment = only(render("--set", "argocd.customizations=true"), "ConfigMap", "star-operator-argocd")
    assert fragment["data"] == argocd.customizations()
    names = {one["metadata"]["name"] for one in render() if one["kind"] == "ConfigMap"}
    assert names == {"star-operator"}


def test_argo_cds_configuration_keeps_its_own_keys(kubectl: Kubectl) -> None:
    """Server-side apply adds our keys to a ConfigMap that Argo CD's installation has made."""
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}})
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    kubectl.run("create", "-f", "-", stdin=json.dumps({**theirs, "data": {"url": "https://argocd.example.com"}}))
    path: Path = LAYOUT / "argocd" / "argocd-cm.yaml"
    kubectl.run("apply", "--server-side", "--field-manager", "star-operator", "-n", "argocd", "-f", str(path))
    data = kubectl.get("configmap", "argocd-cm", "argocd")["data"]
    assert data == {"url": "https://argocd.example.com", **argocd.customizations()}
